"""A streamed text: pieces put together as the browser does it equal the whole, and settled blocks come once."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from security.growing_text import GrowingText
from security.markdown import LIMIT, render

SAMPLE = """# 报价对比 🎉

三家都报了**同一型号**，含税总价最低的是 [恒通](https://a.example)：

| 供应商 | 单价 | 含税总价 |
|:--|--:|--:|
| 恒通 | ¥128.00 | ¥28,928.00 |
| 明远 | ¥131.50 | ¥29,719.00 |

1. 第一

2. 第二
   - 里面
   - 还有

> 引用
> 继续

```python
def f(x):

    return x
```

完。
"""


class Viewer:
    """What a browser holds: settled blocks and a tail, counted in UTF-16."""

    def __init__(self) -> None:
        self.settled, self.tail = "", b""

    def apply(self, growing: GrowingText) -> int:
        patch = growing.patch()
        self.settled += patch.settled
        before = b"" if patch.settled else self.tail
        self.tail = before[: patch.keep * 2] + patch.tail.encode("utf-16-le")
        return len(patch.settled) + len(patch.tail)

    @property
    def html(self) -> str:
        return self.settled + self.tail.decode("utf-16-le")


@pytest.mark.parametrize("size", [1, 2, 3, 7, 40, 1000])
def test_pieces_equal_the_whole(size: int) -> None:
    growing, viewer = GrowingText(), Viewer()
    for at in range(0, len(SAMPLE), size):
        growing.add(SAMPLE[at : at + size])
        viewer.apply(growing)
    assert viewer.html == render(SAMPLE)
    whole = growing.whole()
    assert whole.settled + whole.tail == viewer.html


@settings(deadline=None, max_examples=150)
@given(
    st.lists(
        st.sampled_from(["文字 ", "\n", "\n\n", "- a", "1. b", "> c", "# d", "**e**", "| f | g |", "|-|-|", "🎉"]),
        max_size=30,
    )
)
def test_every_step_shows_all_that_was_said(pieces: list[str]) -> None:
    growing, viewer = GrowingText(), Viewer()
    for piece in pieces:
        growing.add(piece)
        viewer.apply(growing)
    assert viewer.html == growing.whole().settled + growing.whole().tail
    assert viewer.html.count("🎉") == "".join(pieces).count("🎉")


def test_settled_blocks_are_sent_once_and_tails_only_by_their_difference() -> None:
    growing, viewer, sent = GrowingText(), Viewer(), 0
    text = "".join(f"第 {n} 段，有一些字。\n\n" for n in range(100))
    for at in range(0, len(text), 4):
        growing.add(text[at : at + 4])
        sent += viewer.apply(growing)
    assert viewer.html == render(text)
    assert sent < 8 * len(viewer.html)


def test_a_long_open_code_block_is_not_sent_again_and_again() -> None:
    growing, viewer, sent = GrowingText(), Viewer(), 0
    growing.add("```\n")
    for n in range(500):
        growing.add(f"line {n}\n")
        sent += viewer.apply(growing)
    assert sent < 60_000


def test_references_named_earlier_still_hold() -> None:
    growing, viewer = GrowingText(), Viewer()
    for piece in ("[r]: https://a.example\n\nfirst\n\n", "second\n\n", "[x][r]\n\nlast"):
        growing.add(piece)
        viewer.apply(growing)
    assert 'href="https://a.example"' in viewer.html


def test_the_text_is_bounded() -> None:
    growing = GrowingText()
    for _ in range(LIMIT // 1000 + 50):
        growing.add("a" * 1000)
    growing.patch()
    assert len(growing.whole().tail) < LIMIT + 100
