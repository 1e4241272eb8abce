"""Our messages in DingTalk's forms. Pure.

Sources: protocols.md 2.3 (group robot, session webhook) and 2.4 (app robot).
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from urllib.parse import quote

from channels.split import FENCE, split_markdown
from storage.envelope import Button, Outgoing

MOST_CHARACTERS = 3800
MOST_BYTES = 15_000
MOST_BUTTONS = 5
IMAGE = re.compile(r"!\[([^\]\n]{0,200})\]\(\s*<?([^)\s>]{1,2000})>?[^)\n]{0,200}\)")
MARKS = re.compile(r"[*_`#>~|\[\]]")
BLOCK = re.compile(r"^\s*([-*+]\s|\d+[.)]\s|#{1,6}\s|>|\||$|-{3,}$)")


@dataclass(frozen=True, kw_only=True, slots=True)
class Rendered:
    """A message of the app robot: `msgKey` and `msgParam` as the API wants them."""

    key: str
    param: str


def measure(text: str) -> int:
    """Length in thousandths of what one message holds, counting characters and bytes as JSON writes them."""
    size = len(json.dumps(markdown(text), ensure_ascii=False).encode())
    return max(len(text) * 1000 // MOST_CHARACTERS, size * 1000 // (MOST_BYTES - 1500)) + 1


def split(out: Outgoing) -> Sequence[Outgoing]:
    """One message as several: long text in pieces, buttons under the last, each file by itself."""
    pieces = split_markdown(out.text, 1000, measure) if out.text else []
    made = [replace(out, text=piece, buttons=(), files=()) for piece in pieces]
    if made and out.buttons:
        made[-1] = replace(made[-1], buttons=out.buttons[:MOST_BUTTONS])
    made += [Outgoing(kind=out.kind, text="", files=(path,)) for path in out.files]
    return made or [out]


def render(out: Outgoing) -> Rendered:
    """A message of the app robot."""
    text, title = markdown(out.text), title_of(out)
    if out.buttons:
        return _buttons(text, title, out.buttons[:MOST_BUTTONS])
    if out.kind == "notice" and not MARKS.search(out.text) and "\n" not in out.text.strip():
        return Rendered(key="sampleText", param=_json({"content": out.text}))
    return Rendered(key="sampleMarkdown", param=_json({"title": title, "text": text}))


def robot_body(out: Outgoing) -> dict[str, object]:
    """A message of a group robot or a session webhook, with its mentions."""
    everyone = "all" in out.mentions
    people = [m for m in out.mentions if m != "all"][:20]
    links = [b for b in out.buttons[:MOST_BUTTONS] if b.url]
    text = markdown(out.text)
    if links:
        card: dict[str, object] = {"title": title_of(out), "text": text}
        if len(links) == 1:
            card |= {"singleTitle": links[0].label, "singleURL": links[0].url}
        else:
            card |= {"btnOrientation": "0", "btns": [{"title": b.label, "actionURL": b.url} for b in links]}
        return {"msgtype": "actionCard", "actionCard": card}
    if people:  # only people who stand in the text are told
        text += "\n\n" + " ".join(f"@{person}" for person in people)
    return {
        "msgtype": "markdown",
        "markdown": {"title": title_of(out), "text": text},
        "at": {"atUserIds": people, "isAtAll": everyone},
    }


def _buttons(text: str, title: str, buttons: Sequence[Button]) -> Rendered:
    if len(buttons) == 1:
        only = {"title": title, "text": text, "singleTitle": buttons[0].label, "singleURL": link(buttons[0])}
        return Rendered(key="sampleActionCard", param=_json(only))
    body = {"title": title, "text": text}
    for n, button in enumerate(buttons, 1):
        body |= {f"actionTitle{n}": button.label, f"actionURL{n}": link(button)}
    return Rendered(key=f"sampleActionCard{len(buttons)}", param=_json(body))


def link(button: Button) -> str:
    """Where a button leads: its page, or DingTalk's own link that says the label in the person's name."""
    if button.url:
        return button.url
    return f"dtmd://dingtalkclient/sendMessage?content={quote(button.say or button.label)}"


def title_of(out: Outgoing) -> str:
    """What the list of conversations shows: the title, or the start of the text without its marks."""
    if out.title:
        return out.title[:64]
    for line in out.text.splitlines():
        plain = MARKS.sub("", line).strip(" -")
        if plain:
            return plain[:40]
    return "…"


def markdown(text: str) -> str:
    """DingTalk's Markdown: a single line break needs two spaces, and images from elsewhere become links.

    An image would be loaded by every reader's device without a click, and its address can carry what was said.
    """
    lines = text.split("\n")
    made: list[str] = []
    fence = ""
    for n, line in enumerate(lines):
        found = FENCE.match(line)
        if found and not fence:
            fence = found[1]
        elif found and found[1].startswith(fence) and not found[2].strip():
            fence = ""
        elif not fence:
            line = IMAGE.sub(r"[\1](\2)", line)
            following = lines[n + 1] if n + 1 < len(lines) else ""
            if line.strip() and following.strip() and not BLOCK.match(following) and not line.lstrip().startswith("#"):
                line = line.rstrip() + "  "
        made.append(line)
    return "\n".join(made)


def _json(body: dict[str, str]) -> str:
    return json.dumps(body, ensure_ascii=False)
