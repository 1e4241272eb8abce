"""Memory as it is shown: places, rows, hits with their parts, the state of the index."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from agent.memory.citing import cited


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """A memory: whose it is and how much it holds. `id` is `MINE` for one's own; `name` is a person's or group's."""

    id: int
    kind: str
    key: str
    rows: int
    facts: int
    newest: int
    name: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Item:
    """A row as shown. `state`: now, history (another took its place), wrong (retracted)."""

    id: int
    kind: str
    text: str
    speaker: str
    at: int
    label: str
    source: str
    session: str
    place: str
    subject: str
    attribute: str
    state: str
    valid_from: int | None
    valid_to: int | None
    replaced_by: int | None
    pinned: bool
    speaker_id: str = ""
    document_id: int = 0
    cite: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class FoundItem:
    """A hit with each part of its score. `fits` is False for what a recall would leave out."""

    item: Item
    score: float
    fits: bool
    parts: dict[str, float]


@dataclass(frozen=True, kw_only=True, slots=True)
class MemoryState:
    """The index. `moving_to` is the embedder that is being changed to; done of total says how far the vectors are;
    `refused` is one that was wanted and cannot be used here.
    """

    embedder: str
    wanted: str
    moving_to: str
    done: int
    total: int
    choices: tuple[str, ...]
    refused: str = ""


def state_of(row: Any) -> str:
    """Does it hold now, did it once, or was it never so?"""
    if row.retracted_at is not None:
        return "wrong"
    return "now" if row.superseded_by is None else "history"


def item(row: Any, document: str = "") -> Item:
    """A row of the table as shown. `document` is the name of the one that it is a piece of."""
    return Item(
        id=row.id,
        kind=row.kind,
        text=row.text,
        speaker=row.speaker,
        at=row.at or 0,
        label=row.label,
        source=row.source,
        session=row.session,
        place=row.place,
        subject=row.subject,
        attribute=row.attribute,
        state=state_of(row),
        valid_from=row.valid_from,
        valid_to=row.valid_to,
        replaced_by=row.superseded_by,
        pinned=row.pinned_at is not None,
        speaker_id=row.speaker_id,
        document_id=row.document_id or 0,
        cite=cited(document, row.place) if document else "",
    )
