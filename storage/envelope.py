"""The values that cross from channels to the ledger and back. Frozen, typed, serialised only here."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any


class Origin(StrEnum):
    """Where a text comes from: its trust label, worst of all parts (architecture: security, origin labels)."""

    CONFIG = "t0"
    OWNER = "t1"
    USER = "t2"
    GROUP = "t3"
    INTERNAL = "t4"
    OUTSIDE = "t5"


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """One piece of a message.

    Attributes:
        kind: `text`, `image`, `file`, `audio`, `video`, `quote`, `link`, `card`.
        text: the text; for audio the recognised text; for a quote the quoted text.
        key: vendor's key or code to download with; for stored files the path below the workspace.
        name: file name as sent (hostile: never a path).
        size: bytes, where the vendor says.
        origin: worse than the message's own where it carries foreign text (a quote, a forward).
    """

    kind: str
    text: str = ""
    key: str = ""
    name: str = ""
    size: int = 0
    origin: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Inbound:
    """A verified, parsed message on its way into the ledger.

    Attributes:
        tenant: owner of the bot.
        bot: name of the bot that received it (`web` for the playground).
        channel: `feishu`, `dingtalk`, `wecom`, `webhook`, `web`, `api`, `cron`.
        keys: every id under which the vendor may send this again (event id, message id); each is unique per bot.
        vendor_id: the vendor's message id.
        conversation: stable key of the conversation at the vendor; the lane.
        kind: `direct` or `group`.
        sender: stable vendor id of the person, never a nickname.
        sender_name: for display only.
        parts: what was said.
        sent_at: vendor's time in ms, 0 if unknown.
        address: what the channel needs to answer; opaque to all others (JSON text).
        model: model asked for by this message (playground, API); empty for the conversation's or default one.
    """

    tenant: str
    bot: str
    channel: str
    keys: tuple[str, ...]
    vendor_id: str
    conversation: str
    kind: str
    sender: str
    sender_name: str = ""
    parts: tuple[Part, ...] = ()
    sent_at: int = 0
    address: str = "{}"
    origin: str = Origin.USER
    title: str = ""
    model: str = ""

    @property
    def text(self) -> str:
        """All text and recognised speech, quotes left out, joined by newlines."""
        return "\n".join(p.text for p in self.parts if p.kind in ("text", "audio", "link") and p.text)

    def parts_json(self) -> str:
        """The parts as JSON for the message row; empty fields left out."""
        return json.dumps([{k: v for k, v in asdict(p).items() if v} for p in self.parts], ensure_ascii=False)


def parts_from_json(text: str) -> tuple[Part, ...]:
    """The reverse of `Inbound.parts_json`."""
    return tuple(Part(**item) for item in json.loads(text or "[]"))


@dataclass(frozen=True, kw_only=True, slots=True)
class Button:
    """A button under a message. `value` comes back in the card callback; `url` opens a page instead.

    `say` is what the person says by pressing it where a vendor knows no callbacks; empty for the label.
    """

    label: str
    value: str = ""
    url: str = ""
    style: str = "default"
    say: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Outgoing:
    """What is to be said to one address. Channels render it in their vendor's form.

    Attributes:
        kind: `answer` (to a message), `push` (nobody asked), `notice` (short status or refusal).
        text: Markdown (CommonMark with tables). Channels that lack Markdown send it as plain text.
        title: heading of a card or Markdown message; empty for none.
        mentions: vendor ids to @; `all` for everyone.
        buttons: under the message, where the channel can.
        files: paths below the conversation's workspace to attach.
    """

    kind: str
    text: str
    title: str = ""
    mentions: tuple[str, ...] = ()
    buttons: tuple[Button, ...] = ()
    files: tuple[str, ...] = ()

    def to_json(self) -> str:
        return json.dumps({k: v for k, v in asdict(self).items() if v}, ensure_ascii=False)

    @staticmethod
    def from_json(text: str) -> Outgoing:
        raw: dict[str, Any] = json.loads(text)
        return Outgoing(
            kind=raw.get("kind", "answer"),
            text=raw.get("text", ""),
            title=raw.get("title", ""),
            mentions=tuple(raw.get("mentions", ())),
            buttons=tuple(Button(**b) for b in raw.get("buttons", ())),
            files=tuple(raw.get("files", ())),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Receipt:
    """The vendor's proof. *Delivered* means that `vendor_id` is not empty."""

    vendor_id: str
