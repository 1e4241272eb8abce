"""Text that streams, as clean HTML in small pieces: what is settled once, only its last block again and again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from security.markdown import LIMIT, last_block, render_part, visible


@dataclass(frozen=True, kw_only=True, slots=True)
class Patch:
    """What changed since the last patch, as HTML.

    Attributes:
        settled: new blocks at the end that will not change any more.
        keep: how much of the former tail's HTML still holds, in UTF-16 units as browsers count.
        tail: what follows them; kept part and this are the new tail, which stands after all settled blocks.
    """

    settled: str
    keep: int
    tail: str


class GrowingText:
    """A text that streams. Finished blocks are rendered once, only the last one again and again.

    `add` and `patch` take turns; `patch` may run in a thread.
    """

    def __init__(self) -> None:
        self._open = ""
        self._size = 0
        self._env: dict[str, Any] = {}
        self._tail = ""
        self._blocks: list[str] = []

    def add(self, delta: str) -> None:
        """More text arrived."""
        room = LIMIT - self._size
        self._open += delta[:room]
        self._size += min(len(delta), room)

    def patch(self) -> Patch:
        """Render what was added. Takes longer the longer the last block is."""
        source = visible(self._open)
        at = last_block(source)
        blocks, rest = render_part(source[:at], self._env), source[at:]
        tail = render_part(rest, dict(self._env))
        self._open = rest
        keep = 0 if blocks else _common(self._tail, tail)
        self._tail = tail
        if blocks:
            self._blocks.append(blocks)
        return Patch(settled=blocks, keep=len(tail[:keep].encode("utf-16-le")) // 2, tail=tail[keep:])

    def whole(self) -> Patch:
        """Everything as of the last patch, for a viewer who starts from nothing."""
        return Patch(settled="".join(self._blocks), keep=0, tail=self._tail)


def _common(a: str, b: str) -> int:
    """Length of the common beginning."""
    low, high = 0, min(len(a), len(b))
    while low < high:
        middle = (low + high + 1) // 2
        if a[:middle] == b[:middle]:
            low = middle
        else:
            high = middle - 1
    return low
