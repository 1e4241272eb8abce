"""What the registry hands to every channel beside its settings: `build(config, egress, clock, accept, hooks)`."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from storage.background import Background
from storage.clock import Clock
from storage.live import Live

MOST_TURNS = 200
Turn = tuple[int, str, str]
"""When a connection came into a state, the state, and why if it is not as it should be."""


@dataclass(slots=True)
class Pulse:
    """Proof of life of one bot, in memory; the registry writes it to `BotState` now and then.

    connection: `off` (not started), `waiting` (started, the vendor calls us), `connecting`, `online` (a live
    long connection), `lost` (it broke, and is being replaced).
    """

    clock: Clock
    connection: str = "off"
    last_in: int | None = None
    last_out: int | None = None
    last_error: str = ""
    last_error_at: int | None = None
    reconnects: int = 0
    identity: str = ""
    checked_at: int | None = None
    dirty: bool = False
    params: dict[str, str] = field(default_factory=dict)
    turned_at: int | None = None
    turns: deque[Turn] = field(default_factory=lambda: deque(maxlen=MOST_TURNS), init=False)

    def __setattr__(self, name: str, value: object) -> None:
        """Every change of `connection` is noted with its time: that is the bot's connection history."""
        if name == "connection" and hasattr(self, "turns") and value != self.connection:
            at = self.clock.ms()
            reason = self.last_error if value in ("lost", "off") else ""
            self.turns.append((at, str(value), reason))
            object.__setattr__(self, "turned_at", at)
        object.__setattr__(self, name, value)

    def came_in(self) -> None:
        """A verified request or frame arrived."""
        self.last_in, self.dirty = self.clock.ms(), True

    def went_out(self) -> None:
        """The vendor returned a message id."""
        self.last_out, self.dirty = self.clock.ms(), True

    def failed(self, code: str, **params: str) -> None:
        """Something went wrong; `code` is a catalogue id `error.<code>`."""
        self.last_error, self.last_error_at, self.params, self.dirty = code, self.clock.ms(), params, True

    def connected(self) -> None:
        """The long connection stands."""
        self.connection, self.checked_at, self.dirty = "online", self.clock.ms(), True

    def lost(self, code: str, **params: str) -> None:
        """The long connection broke and is being replaced."""
        self.reconnects += 1
        self.failed(code, **params)
        self.connection = "lost"

    def identified(self, name: str) -> None:
        """The vendor told who the bot is."""
        self.identity, self.checked_at, self.dirty = name, self.clock.ms(), True


@dataclass(frozen=True, kw_only=True, slots=True)
class Click:
    """A button of one of our cards was pressed. Authorise by `person`, never by `value`.

    Attributes:
        person: stable vendor id of whoever pressed, in the form of `Inbound.sender`.
        value: as `Button.value` was sent.
        message: vendor id of the message with the button.
        conversation: vendor key of the conversation, empty where the vendor does not say.
    """

    tenant: str
    bot: str
    channel: str
    person: str
    value: str
    message: str = ""
    conversation: str = ""


async def _nobody(click: Click) -> str:
    return ""


async def _unread(path: str) -> bytes:
    raise FileNotFoundError(path)


@dataclass(frozen=True, kw_only=True, slots=True)
class Hooks:
    """Parts of the house that a channel may use.

    Attributes:
        background: for its own tasks; a channel ends its tasks in `stop()`.
        pulse: where it reports proof of life.
        local: tests only: vendor addresses may be on loopback and without TLS.
        clicked: who decides about a pressed button; returns a short text to show (`""` for none).
        read: the bytes of an attachment named in `Outgoing.files`.
        live: what happens right now in conversations, for cards that stream.
    """

    background: Background
    pulse: Pulse
    local: bool = False
    clicked: Callable[[Click], Awaitable[str]] = _nobody
    read: Callable[[str], Awaitable[bytes]] = _unread
    live: Live | None = None
