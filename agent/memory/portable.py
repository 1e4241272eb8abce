"""Memory as open JSON lines: one object a row, nothing hidden. What is read back is checked line by line."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

from agent.memory.newrow import LONGEST_TEXT, NewRow, fact_place
from storage.errors import Invalid, TooLarge

FORMAT = "zhixing-memory-1"
FIELDS = (
    "kind", "text", "speaker", "speaker_id", "session", "at", "label", "source", "place", "subject", "attribute",
    "valid_from", "valid_to", "retracted_at", "pinned_at",
)  # fmt: skip
KINDS = ("turn", "fact", "preference", "decision", "promise", "summary")
LABELS = ("t2", "t3", "t4", "t5")
MOST_LINES = 200_000
LONGEST_LINE = 4 * LONGEST_TEXT


def line(row: Any, *, current: bool) -> str:
    """One row. `current` says whether it held when it was written."""
    values = {name: getattr(row, name) for name in FIELDS}
    kept = {name: value for name, value in values.items() if value not in (None, "")}
    return json.dumps(kept | {"current": current}, ensure_ascii=False)


def head(kind: str, key: str, at: int) -> str:
    """The first line: what this is."""
    return json.dumps({"format": FORMAT, "memory": kind, "of": key, "written_at": at}, ensure_ascii=False)


def read(lines: Iterable[str], source: str) -> Iterator[NewRow]:
    """Rows of an export, ready to have their words made.

    Labels are taken as they are but never better than a person's own word; pieces of documents are not taken.

    Raises:
        Invalid: `memory.import_line`, with the number of the line that cannot be read.
        TooLarge: more lines than one import may have.
    """
    for number, text in enumerate(lines, 1):
        if number > MOST_LINES:
            raise TooLarge("memory.import_size", most=MOST_LINES)
        if not text.strip():
            continue
        raw = _object(text, number)
        if "format" in raw:
            if raw["format"] != FORMAT:
                raise Invalid("memory.import_line", field="file", line=number)
            continue
        yield _row(raw, number, source)


def _object(text: str, number: int) -> dict[str, Any]:
    try:
        raw = json.loads(text) if len(text) <= LONGEST_LINE else None
    except (ValueError, RecursionError):
        raw = None
    if not isinstance(raw, dict):
        raise Invalid("memory.import_line", field="file", line=number)
    return raw


def _row(raw: dict[str, Any], number: int, source: str) -> NewRow:
    def text_of(name: str, most: int = 200) -> str:
        value = raw.get(name, "")
        if not isinstance(value, str) or len(value) > most:
            raise Invalid("memory.import_line", field="file", line=number)
        return value

    at = raw.get("at")
    kind, label, text = raw.get("kind"), raw.get("label", "t2"), text_of("text", LONGEST_TEXT)
    if kind not in KINDS or not isinstance(at, int) or not 0 < at < 2**53 or not text.strip():
        raise Invalid("memory.import_line", field="file", line=number)
    return NewRow(
        kind=kind,
        text=text,
        speaker=text_of("speaker"),
        speaker_id=text_of("speaker_id"),
        session=text_of("session"),
        at=at,
        label=label if label in LABELS else "t2",
        source=source,
        place=f"{at:x}:{fact_place(text)}",
        subject=text_of("subject"),
        attribute=text_of("attribute"),
    )
