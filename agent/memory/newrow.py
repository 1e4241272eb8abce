"""A row before it is kept: what was said with its words, traits and what it states. Needs no database."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from agent.memory.dates import date_terms, spans
from agent.memory.statements import SELF, attribute_terms, read_statement
from agent.memory.tokens import pack, traits, words

LONGEST_TEXT = 20_000
OURS = "assistant"
FIRST_HAND = ("t0", "t1", "t2", "t3")  # labels of what a person said themselves; nothing else replaces a fact
TIMELESS = ("birthday", "name", "phone", "email")  # a date in such a statement is not since when it holds


@dataclass(frozen=True, kw_only=True, slots=True)
class NewRow:
    """A row to be kept, its words made already (that part needs no database)."""

    kind: str
    text: str
    speaker: str
    speaker_id: str
    session: str
    at: int
    label: str
    source: str
    place: str = ""
    message_id: int | None = None
    document_id: int | None = None
    sitting: int | None = None
    subject: str = ""
    attribute: str = ""
    valid_from: int | None = None
    past: bool = False
    terms: bytes = b""
    traits: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Added:
    """What became of a row. `fresh` is False if it had been kept before; `replaced` are rows that no longer hold."""

    id: int
    row: NewRow
    sitting: int = 0
    fresh: bool = True
    replaced: tuple[int, ...] = ()


def prepare(
    *,
    kind: str,
    text: str,
    at: int,
    label: str,
    source: str,
    zone: ZoneInfo,
    speaker: str = "",
    speaker_id: str = "",
    session: str = "",
    place: str = "",
    message_id: int | None = None,
    document_id: int | None = None,
    sitting: int | None = None,
    subject: str = "",
    attribute: str = "",
    heading: str = "",
) -> NewRow:
    """Make a row's words: what was said, who said it, when; for a piece of a document its heading."""
    text = text[:LONGEST_TEXT]
    ours = speaker == OURS
    terms = words(text)
    if kind == "chunk":
        terms += words(heading)
    else:
        terms += [] if ours else words(speaker)
        terms += date_terms(datetime.fromtimestamp(at / 1000, zone).date())
    since, past = at, False
    if kind != "chunk" and not ours and label in FIRST_HAND:
        since, past, subject, attribute = _stated(text, at, zone, subject, attribute, speaker_id or speaker)
        terms += attribute_terms(attribute)
    return NewRow(
        kind=kind,
        text=text,
        speaker=speaker,
        speaker_id=speaker_id,
        session=session,
        at=at,
        label=label,
        source=source,
        place=place,
        message_id=message_id,
        document_id=document_id,
        sitting=sitting,
        subject=subject,
        attribute=attribute,
        valid_from=since if attribute or kind not in ("turn", "chunk") else None,
        past=past,
        terms=pack(terms),
        traits=traits(text, ours=ours),
    )


def _stated(
    text: str, at: int, zone: ZoneInfo, subject: str, attribute: str, speaker: str
) -> tuple[int, bool, str, str]:
    """Since when it holds, whether it was over when it was said, and about what it is, where the text says so."""
    stated = read_statement(text)
    if stated is not None:
        subject, attribute = stated.subject, stated.attribute
    if subject == SELF:
        subject = f"by:{speaker}"
    if not attribute:
        return at, False, subject, attribute
    past = stated is not None and stated.past
    now = datetime.fromtimestamp(at / 1000, zone)
    begun = [s.first for s in spans(text, now.date()) if s.first < now.date()] if stated is None or not past else []
    if not begun or attribute in TIMELESS:
        return at, past, subject, attribute
    first = datetime.combine(max(begun), datetime.min.time(), zone)
    return min(at, int(first.timestamp() * 1000)), past, subject, attribute


def fact_place(text: str) -> str:
    """What tells two facts of one source apart; the same fact again has the same place and is kept once."""
    return hashlib.blake2b(" ".join(text.split()).lower().encode(), digest_size=6).hexdigest()


def local(at: int, zone: ZoneInfo) -> datetime:
    """A time in ms where the house is."""
    return datetime.fromtimestamp(at / 1000, zone)


def reworded(row: Any, text: str, zone: ZoneInfo) -> NewRow:
    """A row with another text and its words; call in a thread."""
    return prepare(
        kind=row.kind,
        text=text,
        at=row.at,
        label=row.label,
        source=row.source,
        zone=zone,
        speaker=row.speaker,
        speaker_id=row.speaker_id,
        session=row.session,
        place=row.place,
        message_id=row.message_id,
        document_id=row.document_id,
        sitting=row.sitting,
        subject=row.subject,
        attribute=row.attribute,
    )


def stated_value(text: str) -> str | None:
    """What a text says of its subject, to see whether two say the same; None where that cannot be told."""
    stated = read_statement(text)
    return None if stated is None else stated.value.lower()
