"""A circuit breaker per provider: what fails again and again is left alone for a while."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from storage.clock import Clock
from storage.errors import AppError, Rejected, Throttled, Unavailable

FAILS = 5
WINDOW = 30.0
REST = 30.0
OF_THE_PROVIDER = frozenset({"model.key", "model.quota", "model.address", "model.not_api"})


@dataclass(slots=True)
class _Circuit:
    fails: deque[float] = field(default_factory=lambda: deque(maxlen=FAILS))
    open_until: float = 0.0
    trying: bool = False
    code: str = ""


class Breaker:
    """Counts failures by provider (`FAILS` within `WINDOW` seconds open it for `REST`; then one call tries)."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self._circuits: dict[str, _Circuit] = {}

    def admit(self, provider: str) -> bool:
        """True if a call may be made now. After a rest the first caller is let through alone; it must report back."""
        circuit = self._circuits.get(provider)
        if circuit is None or not circuit.open_until:
            return True
        if circuit.trying or self.clock.monotonic() < circuit.open_until:
            return False
        circuit.trying = True
        return True

    def succeeded(self, provider: str) -> None:
        """A call was answered: the count begins anew."""
        self._circuits.pop(provider, None)

    def failed(self, provider: str, error: AppError) -> None:
        """A call failed. Failures that only concern that one request are not counted."""
        if not counts(error):
            self.released(provider)
            return
        circuit = self._circuits.setdefault(provider, _Circuit())
        now = self.clock.monotonic()
        circuit.code = error.code
        circuit.fails.append(now)
        if circuit.trying or (len(circuit.fails) == FAILS and now - circuit.fails[0] <= WINDOW):
            circuit.open_until = now + REST
        circuit.trying = False

    def released(self, provider: str) -> None:
        """A call ended without a verdict (cancelled): the next one may try."""
        if (circuit := self._circuits.get(provider)) is not None:
            circuit.trying = False

    def resting(self, provider: str) -> tuple[float, str]:
        """Seconds that a provider still rests (0: it works) and the error that caused it; for pages."""
        circuit = self._circuits.get(provider)
        if circuit is None or not circuit.open_until:
            return 0.0, ""
        return max(0.0, circuit.open_until - self.clock.monotonic()), circuit.code


def counts(error: AppError) -> bool:
    """True if the failure says something about the provider, not only about one request."""
    if isinstance(error, Rejected):
        return error.code in OF_THE_PROVIDER
    return isinstance(error, (Throttled, Unavailable)) and error.code != "model.empty"
