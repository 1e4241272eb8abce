"""Proof of life of a bot. Green is shown only on fresh proof, so every proof has its time."""

from __future__ import annotations

from dataclasses import dataclass

from storage.clock import Clock


@dataclass(slots=True)
class Pulse:
    """What one running bot has shown so far; the registry writes it to `BotState` now and then.

    Attributes:
        connection: `off` (not started), `waiting` (started, the vendor calls us), `connecting`, `open` (a live
            long connection), `broken` (it is being replaced), `refused` (did not start; `last_error` says why).
        last_in: a verified request or frame came (ms).
        last_out: the vendor accepted a message (ms).
        identity: the bot's name at the vendor.
        checked_at: the vendor last confirmed connection or identity (ms).
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

    def moved(self, direction: str) -> None:
        """`in`: something verified came. `out`: the vendor accepted a message."""
        now = self.clock.ms()
        if direction == "in":
            self.last_in = now
        else:
            self.last_out = now
        self.dirty = True

    def failed(self, code: str) -> None:
        """Something went wrong; the catalogue explains `error.<code>`."""
        self.last_error, self.last_error_at, self.dirty = code, self.clock.ms(), True

    def state(self, connection: str, code: str = "") -> None:
        """The connection changed, and why."""
        if connection == "broken" and self.connection != "broken":
            self.reconnects += 1
        if connection == "open":
            self.checked_at = self.clock.ms()
        self.connection, self.dirty = connection, True
        if code:
            self.failed(code)

    def identified(self, name: str) -> None:
        """The vendor told who the bot is."""
        self.identity, self.checked_at, self.dirty = name, self.clock.ms(), True
