"""The health tests on a console: one line a result, worst first, each with what mends it."""

from __future__ import annotations

from collections.abc import Sequence

from security.health.row import GROUPS, HealthRow
from storage.words import Words

SIGNS = {"fail": "✗", "warn": "!", "unknown": "?", "pass": "✓", "off": "–"}


def texts(words: Words, lang: str, row: HealthRow) -> tuple[str, str]:
    """What was seen, and what mends it; both may be empty."""
    if row.code:
        key = remedy = f"error.{row.code}"
        if not words.has(lang, key) and words.has(lang, row.code):
            key = remedy = row.code  # what a channel's own probe names
    elif row.text:
        key, remedy = row.text, row.remedy.removesuffix(".remedy") or row.text
    elif not row.say:
        return words.say(lang, "health.any.never"), ""
    else:
        key = remedy = f"health.{row.say}" if row.say.startswith("any.") else f"health.{row.id}.{row.say}"
        if not words.has(lang, key):
            key = remedy = f"health.any.{row.say}"
    what = words.say(lang, key, **row.params) if words.has(lang, key) else row.code or row.say
    if row.status in ("pass", "off") or not words.has(lang, f"{remedy}.remedy"):
        return what, ""
    return what, words.say(lang, f"{remedy}.remedy", **row.params)


def title(words: Words, lang: str, row: HealthRow) -> str:
    """What was tested, of whom, in which step."""
    name = words.say(lang, f"health.{row.id}")
    if row.step:
        key = f"probe.{row.step}"
        name = f"{name} · {words.say(lang, key) if words.has(lang, key) else row.step}"
    return f"{name} · {row.subject}" if row.subject else name


def report(words: Words, lang: str, rows: Sequence[HealthRow]) -> list[str]:
    """Lines for a console."""
    lines = []
    for group in GROUPS:
        mine = [row for row in rows if row.group == group]
        if not mine:
            continue
        lines += ["", words.say(lang, f"health.group.{group}")]
        for row in mine:
            what, remedy = texts(words, lang, row)
            lines.append(f"  {SIGNS[row.status]} {title(words, lang, row)}: {what}")
            if remedy:
                lines.append(f"      → {remedy}")
    return lines


def plain(words: Words, lang: str, rows: Sequence[HealthRow]) -> list[dict[str, object]]:
    """The same for a program."""
    made: list[dict[str, object]] = []
    for row in rows:
        what, remedy = texts(words, lang, row)
        made.append(
            {
                "test": row.id,
                "subject": row.subject,
                "step": row.step,
                "status": row.status,
                "code": row.code or row.say,
                "says": what,
                "remedy": remedy,
                "ms": row.ms,
            }
        )
    return made
