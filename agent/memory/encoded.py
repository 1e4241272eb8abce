"""What every embedder gives: vectors of texts and of a question."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from agent.memory.view import Floats

LONGEST_TEXT = 4_000  # characters that are encoded; the rest of a longer text is found by its words
LONGEST_QUERY = 500


@dataclass(frozen=True, slots=True)
class Encoded:
    """Vectors of one text, as stored. `settled` is False if texts said later would change them."""

    pooled: bytes
    tokens: bytes = b""
    settled: bool = True


@dataclass(frozen=True, slots=True)
class QueryVectors:
    """Vectors of a query. `tokens` is None where the embedder has none; `weights` says what each token tells."""

    pooled: Floats
    tokens: Floats | None = None
    weights: Floats | None = None


class Embedder(Protocol):
    """Called in threads; safe beside itself. `name` says what vectors can be compared with each other."""

    name: str
    size: int

    def passages(self, sittings: Sequence[Sequence[str]]) -> list[list[Encoded]]:
        """Vectors of the texts of sittings, each sitting in order."""
        ...

    def query(self, text: str) -> QueryVectors:
        """Vectors of a question."""
        ...

    def close(self) -> None:
        """It serves no more. Calls that still run end, or raise."""
        ...
