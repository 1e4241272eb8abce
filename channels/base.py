"""What a channel is. An adapter knows wire and token; dedupe, order, retry, rate and storage exist once, elsewhere."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from storage.envelope import Inbound, Outgoing, Receipt


@dataclass(frozen=True, kw_only=True, slots=True)
class FieldSpec:
    """One setting of a bot, for the form, the YAML reader and the documentation.

    `label`, `help`: catalogue ids `channel.<type>.<name>` and `channel.<type>.<name>.help`.
    kind: `text`, `secret`, `url`, `choice`, `list`.
    """

    name: str
    kind: str = "text"
    required: bool = False
    default: str = ""
    choices: tuple[str, ...] = ()
    modes: tuple[str, ...] = ()  # only in these modes; empty: in all


PUSH_LANG = FieldSpec(name="push_lang", kind="choice", default="zh_CN", choices=("zh_CN", "en"))
PUSH = (FieldSpec(name="approvers", kind="list"), FieldSpec(name="push_to"), PUSH_LANG)
"""Who decides about waiting acts in the chat, where events are pushed to, and in which language."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Manifest:
    """A channel type, readable without loading its code. `runtime` is an import string `package.module:function`."""

    type: str
    modes: tuple[str, ...]
    fields: tuple[FieldSpec, ...]
    runtime: str
    receives: bool = True


@dataclass(frozen=True, kw_only=True, slots=True)
class BotConfig:
    """A bot with its secrets opened. Lives in memory only; never logged, never shown."""

    id: int
    tenant: str
    name: str
    type: str
    mode: str
    settings: Mapping[str, str]
    secrets: Mapping[str, str] = field(repr=False)
    paused: bool = False
    model: str = ""
    events: tuple[str, ...] = ()

    def get(self, name: str, default: str = "") -> str:
        """A setting or secret, empty values as `default`."""
        return self.settings.get(name) or self.secrets.get(name) or default


@dataclass(frozen=True, kw_only=True, slots=True)
class RawRequest:
    """A webhook call as it came: nothing parsed, header names in lower case."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes
    ip: str


@dataclass(frozen=True, kw_only=True, slots=True)
class RawResponse:
    """What the vendor is answered."""

    status: int
    body: bytes = b"{}"
    content_type: str = "application/json"


@dataclass(frozen=True, kw_only=True, slots=True)
class Pace:
    """Limits of the vendor that the sender keeps: `count` messages in `seconds`, per bot and per conversation."""

    count: int
    seconds: float
    per_lane_count: int = 0
    per_lane_seconds: float = 1.0


Accept = Callable[[Inbound], Awaitable[bool]]
"""Writes to the ledger; True if it was new. Raises Unavailable: then do not acknowledge."""


class Channel(Protocol):
    """A running bot. Made by its manifest's runtime: `build(config, egress, clock, accept, hooks) -> Channel`."""

    config: BotConfig
    idempotent: bool
    """True if the vendor drops a second send with the same key; then a send may be repeated after a lost answer."""
    pace: Pace

    async def start(self) -> None:
        """Open connections where the mode has one. Raises `Invalid` with a remedy if a setting is missing."""
        ...

    async def stop(self) -> None:
        """Close them."""
        ...

    async def receive(self, request: RawRequest) -> RawResponse:
        """Verify, parse, accept, and only then answer. Raises `Unauthenticated`, `Invalid`, `TooLarge`, `Unavailable`.

        Nothing is parsed before the signature is verified, nothing stored unless it is accepted.
        """
        ...

    def split(self, out: Outgoing) -> Sequence[Outgoing]:
        """Cut what is too long for one message of this vendor; one item if it fits."""
        ...

    async def send(self, out: Outgoing, address: str, key: str, written: Callable[[], None]) -> Receipt:
        """Send one message; never retries.

        Args:
            address: as this channel made it in `Inbound.address`.
            key: idempotency key.
            written: called once, when the request body has been written.

        Raises:
            Throttled: wait `retry_after` seconds. Unavailable: not sent, try again.
            Rejected: refused for good. OutcomeUnknown: the connection broke after the body had left.
        """
        ...

    async def probe(self) -> list[ProbeResult]:
        """Test credentials and permissions live, with the vendor's error explained."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class ProbeResult:
    """One step of a health test. status: `pass`, `warn`, `fail`, `unknown`. `code` is a catalogue id with remedy."""

    name: str
    status: str
    code: str = ""
    params: Mapping[str, str] = field(default_factory=dict)
    ms: int = 0
