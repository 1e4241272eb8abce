"""What a document may cost, and how a refusal is told. Shared by the parent and the child that parses."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds for one document. What passes one is refused with a code, never cut silently.

    Attributes:
        seconds: of wall time, for all of it.
        memory: bytes of address space of the child.
        members, unpacked, ratio: of an archive (Word, Excel and PowerPoint files are archives).
    """

    bytes: int = 48_000_000
    seconds: float = 180.0
    memory: int = 1_500_000_000
    pages: int = 3_000
    cells: int = 300_000
    chars: int = 10_000_000
    members: int = 3_000
    unpacked: int = 300_000_000
    ratio: int = 200


class Refused(Exception):
    """The document is not taken. `code` is the last part of `knowledge.<code>`; `params` fill its text."""

    def __init__(self, code: str, **params: object) -> None:
        super().__init__(code)
        self.code, self.params = code, params


@dataclass(frozen=True, slots=True)
class Block:
    """A stretch of text with its place (`p. 12`, `Sheet1 rows 2-40`, a heading) and what it stands under."""

    text: str
    place: str = ""
    heading: str = ""
    page: int = 0
    pages: int = 0
