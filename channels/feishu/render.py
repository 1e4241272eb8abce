"""Our messages in Feishu's forms. Pure. Source: protocols.md 1.3 (group robot) and 1.4 (app bot)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import orjson

from channels.split import FENCE, split_markdown
from storage.envelope import Button, Outgoing

MOST_CHARACTERS = 3500
MOST_BYTES = 26_000  # of 30 KB, for a post or card with all around the text
MOST_ROBOT_BYTES = 16_000  # of 20 KB
MOST_TABLES = 3
MOST_BUTTONS = 8

IMAGE = re.compile(r"!\[([^\]\n]{0,200})\]\(\s*<?([^)\s>]{1,2000})>?[^)\n]{0,200}\)")
AT = re.compile(r"<(?=/?at\b)", re.IGNORECASE)
RULE = re.compile(r"^ {0,3}\|?\s*:?-+:?\s*(\|\s*:?-+:?\s*)*\|?\s*$")
MARKS = re.compile(r"[*_`~|]|\]\(|^\s{0,3}(?:#{1,6}\s|>|[-+]\s|\d{1,9}[.)]\s|-{3,}$)", re.MULTILINE)
LAYOUT = re.compile(r"^\s{0,3}(?:#{1,6}\s|`{3,}|~{3,}|\|)", re.MULTILINE)
STYLES = {"primary": "primary_filled", "danger": "danger_filled"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Body:
    """What one message is in Feishu's form: a type and a JSON document as text."""

    kind: str
    content: str


def split(out: Outgoing, most_bytes: int = MOST_BYTES) -> Sequence[Outgoing]:
    """One message as several: long text in pieces, buttons under the last, each file by itself."""

    def measure(text: str) -> int:
        size = len(orjson.dumps(safe(text)))
        return max(len(text) * 1000 // MOST_CHARACTERS, size * 1000 // most_bytes) + 1

    pieces = [piece for part in _by_tables(out.text) for piece in split_markdown(part, 1000, measure)]
    made = [replace(out, text=piece, buttons=(), files=()) for piece in pieces if piece.strip()]
    made[1:] = [replace(piece, mentions=(), title="") for piece in made[1:]]
    if made and out.buttons:
        made[-1] = replace(made[-1], buttons=out.buttons[:MOST_BUTTONS])
    made += [Outgoing(kind=out.kind, text="", files=(path,)) for path in out.files]
    return made or [out]


def render(out: Outgoing) -> Body:
    """A message of an app bot: plain text as text, light Markdown as a post, what has layout as a card."""
    text = safe(out.text)
    if out.buttons or out.title or LAYOUT.search(text) or _has_table(text):
        return Body(kind="interactive", content=_dumps(card(out)))
    if MARKS.search(text):
        return Body(kind="post", content=_dumps({"zh_cn": {"title": "", "content": _paragraphs(text, out.mentions)}}))
    return Body(kind="text", content=_dumps({"text": _mentioned(text, out.mentions)}))


def plain(out: Outgoing) -> Body:
    """The same without layout, for when a card was refused."""
    lines = [f"{button.label}: {button.url}" for button in out.buttons if button.url]
    text = "\n".join(part for part in (out.title, safe(out.text), *lines) if part)
    return Body(kind="text", content=_dumps({"text": _mentioned(text, out.mentions)}))


def card(out: Outgoing) -> dict[str, object]:
    """A card of version 2.0 with one Markdown element and the buttons."""
    text = safe(out.text)
    at = " ".join(f"<at id={_id(person)}></at>" for person in out.mentions)
    elements: list[object] = [{"tag": "markdown", "content": f"{at}\n{text}" if at else text}]
    elements += [_button(button) for button in out.buttons[:MOST_BUTTONS]]
    whole: dict[str, object] = {
        "schema": "2.0",
        "config": {"update_multi": True, "summary": {"content": summary(out)}},
        "body": {"elements": elements},
    }
    if out.title:
        whole["header"] = {"title": {"tag": "plain_text", "content": out.title[:100]}}
    return whole


def robot_body(out: Outgoing) -> dict[str, object]:
    """A message of a group robot: Markdown in a card, which stands beside the type, not in `content`."""
    text = safe(out.text)
    if out.buttons or out.title or MARKS.search(text):
        links = tuple(button for button in out.buttons if button.url)  # nobody hears a callback
        return {"msg_type": "interactive", "card": card(replace(out, buttons=links))}
    return {"msg_type": "text", "content": {"text": _mentioned(text, out.mentions)}}


def summary(out: Outgoing) -> str:
    """What the list of chats shows: the title, or the start of the text without its marks."""
    for line in (out.title, *out.text.splitlines()):
        bare = re.sub(r"[*_`#>~|\[\]]", "", line).strip(" -")
        if bare:
            return bare[:60]
    return "…"


def safe(text: str) -> str:
    """Markdown without what acts by itself: mentions written into the text, images from elsewhere.

    Only `Outgoing.mentions` may call people: a text that a model wrote must not. An image would be loaded by every
    reader's device, and its address can carry what was said; it becomes a link.
    """
    return IMAGE.sub(r"[\1](\2)", AT.sub("<\u200b", text))


def _button(button: Button) -> dict[str, object]:
    act: dict[str, object] = {"type": "callback", "value": {"v": button.value}}
    if button.url:
        act = {"type": "open_url", "default_url": button.url}
    return {
        "tag": "button",
        "text": {"tag": "plain_text", "content": button.label[:60]},
        "type": STYLES.get(button.style, "default"),
        "behaviors": [act],
    }


def _paragraphs(text: str, mentions: Sequence[str]) -> list[list[dict[str, str]]]:
    made = [[{"tag": "md", "text": text}]]
    if mentions:
        made.insert(0, [{"tag": "at", "user_id": _id(person)} for person in mentions])
    return made


def _mentioned(text: str, mentions: Sequence[str]) -> str:
    at = " ".join(f'<at user_id="{_id(person)}"></at>' for person in mentions)
    return f"{at} {text}" if at else text


def _id(person: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.@-]", "", person)[:128]


def _has_table(text: str) -> bool:
    lines = text.split("\n")
    return any(_table_starts(lines, n) for n in range(len(lines) - 1))


def _table_starts(lines: Sequence[str], n: int) -> bool:
    return n + 1 < len(lines) and "|" in lines[n] and "-" in lines[n + 1] and bool(RULE.match(lines[n + 1]))


def _by_tables(text: str) -> list[str]:
    """The text cut before each table that would be one too many for a card."""
    if text.count("|") < 4 * MOST_TABLES:
        return [text] if text.strip() else []
    lines, start, count, made, fence = text.split("\n"), 0, 0, [], ""
    for n, line in enumerate(lines):
        found = FENCE.match(line)
        if found and not fence:
            fence = found[1]
        elif found and found[1].startswith(fence) and not found[2].strip():
            fence = ""
        elif not fence and _table_starts(lines, n):
            count += 1
            if count > MOST_TABLES:
                made.append("\n".join(lines[start:n]).strip("\n"))
                start, count = n, 1
    made.append("\n".join(lines[start:]))
    return [part for part in made if part.strip()]


def _dumps(raw: object) -> str:
    return orjson.dumps(raw).decode()
