"""The filter: nothing of a model's inside is shown, nothing of its answer is lost."""

from __future__ import annotations

import itertools
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.models.visible import Visible


def shown(*chunks: str) -> str:
    visible = Visible()
    return "".join(visible.feed(chunk) for chunk in chunks) + visible.finish()


HIDDEN = {
    "<think>plan</think>Answer": "Answer",
    "<think>\nplan\n</think>\n\nAnswer": "Answer",
    "<THINKING a=1>x</THINKING>Answer": "Answer",
    "before <think>x</think>after": "before after",
    "<think>never closed": "",
    "lonely close</think> here": "lonely close here",
    "<thi": "",
    "<think": "",
    "ok <tool_ca": "ok ",
    'Hm.<tool_call>{"name": "time", "arguments": {}}</tool_call>': "Hm.",
    "<tool_call>\n<function=time>\n<parameter=zone>\nUTC</parameter></function></tool_call>done": "done",
    "<function=time>{}</function>done": "done",
    '<function_calls><invoke name="time"><parameter name="a">1</parameter></invoke></function_calls>ok': "ok",
    "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>time\n{}<｜tool▁call▁end｜>"
    "<｜tool▁calls▁end｜>ok": "ok",
    '<｜DSML｜function_calls>\n<｜DSML｜invoke name="time">\n<｜DSML｜parameter name="zone" string="true">UTC'
    "</｜DSML｜parameter>\n</｜DSML｜invoke>\n</｜DSML｜function_calls>ok": "ok",
    "<|tool_calls_section_begin|><|tool_call_begin|>functions.time:0<|tool_call_argument_begin|>{}<|tool_call_end|>"
    "<|tool_calls_section_end|>ok": "ok",
    "<|python_tag|>time.call()<|eom_id|>ok": "ok",
    '[TOOL_CALLS][{"name": "time"}]': "",
    '<minimax:tool_call><invoke name="x"></invoke></minimax:tool_call>ok': "ok",
    "<|channel|>analysis<|message|>secret<|end|>"
    "<|start|>assistant<|channel|>final<|message|>Answer<|return|>": "Answer",
    "<|channel|>commentary to=functions.time<|message|>{}<|call|>": "",
    "Answer<|im_end|>": "Answer",
    "<|im_start|>assistant\nAnswer<|im_end|>": "Answer",
    "Answer<｜end▁of▁sentence｜>": "Answer",
    "a ` b <think>x</think> c": "a ` b  c",
    "`code` <think>x</think>y": "`code` y",
    "` open\n<think>x</think>y": "` open\ny",
}
KEPT = [
    "a < b and c > d",
    "if (a<b) { return a<c; }",
    "x <",
    "1 <2",
    '<div class="x">hi</div>',
    "<a href='x'>t</a> <table><tr><td>1</td></tr></table>",
    "<invoke>plain word</invoke> <function>f</function>",
    "```html\n<think>shown</think>\n```\nafter",
    "1. item\n   ```\n   <tool_call>x</tool_call>\n   ```\n",
    "~~~\n<think>\n~~~\n",
    "```\n<think>\nnever closed",
    "The tag `<think>` opens, `</think>` closes.",
    "Double ``a ` <tool_call> b`` ticks",
    "f <| x |> g, a |> b",
    "[TOOL] [1] [x](y) [TOOL_CALL",
    "<thinker> and <thoughtful>",
    "5 <think about this and nothing else",
    "中文 <书名> 一 < 二",
    "a\n    b\n\t`c`\n",
    "List<String> x = new ArrayList<>();",
    "tools <|not a token|> ok",
]


@pytest.mark.parametrize(("text", "visible"), HIDDEN.items())
def test_hidden(text: str, visible: str) -> None:
    assert shown(text) == visible
    assert shown(*text) == visible


@pytest.mark.parametrize("text", KEPT)
def test_kept(text: str) -> None:
    assert shown(text) == text
    assert shown(*text) == text


@given(st.sampled_from([*HIDDEN, *KEPT]), st.sampled_from([*HIDDEN, *KEPT]), st.lists(st.integers(0, 300), max_size=8))
def test_cut_anywhere(first: str, second: str, cuts: list[int]) -> None:
    text = f"{first}\n{second}"
    points = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    chunks = [text[a:b] for a, b in itertools.pairwise(points)]
    assert shown(*chunks) == shown(text)


TAG = re.compile(r"</?(?:think|tool_call)>|<[|｜]\w+[|｜]>")


@given(
    st.lists(
        st.sampled_from(
            [
                "<think>",
                "</think>",
                "<tool_call>",
                "</tool_call>",
                "<|im_end|>",
                "<",
                ">",
                "|",
                "a",
                " ",
                "\n",
                "<th",
                "ink>",
            ]
        ),
        max_size=30,
    )
)
def test_no_tag_comes_through_without_code(parts: list[str]) -> None:
    assert not TAG.search(shown(*parts))


def test_name_of_the_tool_is_read() -> None:
    visible = Visible()
    for ch in 'x<tool_call>{"name": "time", "arguments": {}}</tool_call>':
        visible.feed(ch)
    visible.finish()
    assert visible.tools
    assert visible.tool_name == "time"


def test_long_thought_is_not_kept_in_memory() -> None:
    visible = Visible()
    visible.feed("<think>")
    for _ in range(1000):
        visible.feed("thought " * 100)
    assert len(visible._rest) < 100
    assert visible.hidden > 700_000


def test_a_thought_without_its_beginning_voids_what_was_shown() -> None:
    visible = Visible()
    before = visible.feed("Okay, the user wants a greeting.\n")
    assert before
    after = visible.feed("</think>\n\nHello")
    assert visible.void
    assert after + visible.finish() == "Hello"


@pytest.mark.parametrize("text", ["a </think> b", "<think>x</think>\n</think>\nb", "`x`\n`</think>`"])
def test_only_a_lone_end_at_the_beginning_of_a_line_voids(text: str) -> None:
    visible = Visible()
    visible.feed(text)
    assert not visible.void


@given(
    st.sampled_from(
        [
            ("Okay, think.\n</think>\n\nHello", "Hello"),
            ("<think>\nOkay</think>Hello", "Hello"),
            ("Just hello, no thought", "Just hello, no thought"),
            ("short", "short"),
            ("</think>Hi `</think>` there", "Hi `</think>` there"),
        ]
    ),
    st.integers(1, 60),
)
def test_a_model_that_thinks_first(pair: tuple[str, str], size: int) -> None:
    text, expected = pair
    visible = Visible(thinks_first=True)
    out = "".join(visible.feed(text[i : i + size]) for i in range(0, len(text), size)) + visible.finish()
    assert out == expected
    assert not visible.void
