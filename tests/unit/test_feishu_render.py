"""Our messages in Feishu's forms: kinds, limits, and nothing in a text that acts by itself."""

from __future__ import annotations

import json

import pytest

from channels.feishu import render
from storage.envelope import Button, Outgoing
from tests.fakes.feishu_server import FeishuServer


def out(text: str, **more: object) -> Outgoing:
    return Outgoing(kind="answer", text=text, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("现在是 10:25。", "text"),
        ("两行\n没有标记", "text"),
        ("这是**重点**", "post"),
        ("- 一\n- 二", "post"),
        ("# 标题\n正文", "interactive"),
        ("```python\nprint(1)\n```", "interactive"),
        ("| a | b |\n|---|---|\n| 1 | 2 |", "interactive"),
    ],
)
def test_the_simplest_form_that_shows_it(text: str, kind: str) -> None:
    body = render.render(out(text))
    assert body.kind == kind
    server = FeishuServer()
    assert server._content({"msg_type": body.kind, "content": body.content})[0] == 0
    content = json.loads(body.content)
    if kind == "text":
        assert content == {"text": text}
    elif kind == "post":
        assert content["zh_cn"]["content"] == [[{"tag": "md", "text": text}]]
    else:
        assert content["body"]["elements"][0] == {"tag": "markdown", "content": text}


def test_a_text_cannot_call_people_or_load_pictures() -> None:
    text = render.safe('<at user_id="all">x</at> <AT id=all></AT> ![机密](https://evil.example/?q=1)')
    assert "<at" not in text.lower()
    assert "![" not in text
    assert "[机密](https://evil.example/?q=1)" in text


def test_mentions_are_written_in_each_form() -> None:
    people = ("ou_1", "all")
    assert json.loads(render.render(out("x", mentions=people)).content)["text"].startswith('<at user_id="ou_1">')
    post = json.loads(render.render(out("**x**", mentions=people)).content)
    assert post["zh_cn"]["content"][0] == [{"tag": "at", "user_id": "ou_1"}, {"tag": "at", "user_id": "all"}]
    card = json.loads(render.render(out("# x", mentions=people)).content)
    assert card["body"]["elements"][0]["content"].startswith("<at id=ou_1></at> <at id=all></at>\n")
    assert render._id('ou_1"></at><at id="all') == "ou_1atatidall"


def test_buttons_call_back_or_open_a_page() -> None:
    buttons = (Button(label="同意", value="yes", style="primary"), Button(label="打开", url="https://a.cn"))
    card = json.loads(render.render(out("批准吗？", buttons=buttons)).content)
    first, second = card["body"]["elements"][1:]
    assert first["behaviors"] == [{"type": "callback", "value": {"v": "yes"}}]
    assert first["type"] == "primary_filled"
    assert second["behaviors"] == [{"type": "open_url", "default_url": "https://a.cn"}]
    assert json.loads(render.plain(out("批准吗？", buttons=buttons)).content)["text"] == "批准吗？\n打开: https://a.cn"


def test_what_is_short_is_not_split() -> None:
    whole = out("**短**", title="标题", mentions=("ou_1",))
    assert render.split(whole) == [whole]


def test_long_text_is_cut_at_paragraphs_and_fences_stay_whole() -> None:
    text = "\n\n".join(f"第{n}段 " + "字" * 300 for n in range(20)) + "\n```python\n" + "x = 1\n" * 1500 + "```\n完"
    pieces = render.split(out(text, buttons=(Button(label="好", value="v"),), title="题"))
    assert len(pieces) > 3
    server = FeishuServer()
    for piece in pieces:
        assert len(piece.text) <= render.MOST_CHARACTERS
        assert piece.text.count("```") % 2 == 0
        body = render.render(piece)
        assert server._content({"msg_type": body.kind, "content": body.content})[0] == 0
    assert sum(piece.text.count("x = 1") for piece in pieces) == 1500
    assert [n for n in range(20) if f"第{n}段 " not in "".join(p.text for p in pieces)] == []
    assert [bool(p.buttons) for p in pieces] == [False] * (len(pieces) - 1) + [True]
    assert [p.title for p in pieces] == ["题"] + [""] * (len(pieces) - 1)


def test_escapes_count_as_the_bytes_they_become() -> None:
    text = "\n".join("\x01" * 1000 for _ in range(12))
    server = FeishuServer()
    for piece in render.split(out("# x\n" + text)):
        body = render.render(piece)
        assert len(body.content.encode()) <= 30_000
        assert server._content({"msg_type": body.kind, "content": body.content})[0] == 0


def test_a_card_has_at_most_three_tables_and_none_is_torn() -> None:
    table = "| 名 | 值 |\n| --- | --- |\n| a | 1 |"
    text = "\n\n".join(f"表 {n}\n\n{table}" for n in range(8)) + f"\n\n```\n{table}\n```"
    pieces = render.split(out(text))
    assert [piece.text.count("| --- |") for piece in pieces] == [3, 3, 3]
    assert sum(piece.text.count("| 名 | 值 |\n| --- | --- |\n| a | 1 |") for piece in pieces) == 9


def test_files_are_messages_of_their_own() -> None:
    pieces = render.split(out("看附件", files=("a.pdf", "b.png")))
    assert [(p.text, p.files) for p in pieces] == [("看附件", ()), ("", ("a.pdf",)), ("", ("b.png",))]


def test_a_group_robot_has_its_own_wrapping() -> None:
    assert render.robot_body(out("完成")) == {"msg_type": "text", "content": {"text": "完成"}}
    body = render.robot_body(
        out("**完成**", buttons=(Button(label="a", value="x"), Button(label="b", url="https://b")))
    )
    assert body["msg_type"] == "interactive"
    card = body["card"]
    assert isinstance(card, dict)
    assert [e["tag"] for e in card["body"]["elements"]] == ["markdown", "button"]
