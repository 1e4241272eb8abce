"""The keys of one provider, used in turn; one that was refused rests."""

from __future__ import annotations

from collections.abc import Sequence

from storage.clock import Clock

REFUSED_REST = 300.0


class Keys:
    """Hands out keys in rotation. None at all is fine too: local model servers need no key."""

    def __init__(self, keys: Sequence[str], clock: Clock) -> None:
        self._keys, self.clock = tuple(key for key in keys if key), clock
        self._until: dict[str, float] = {}
        self._next = 0

    def __len__(self) -> int:
        return len(self._keys)

    def pick(self) -> str:
        """The next key that does not rest; if all rest, the one that is fit first; empty if there is none."""
        if not self._keys:
            return ""
        now, count = self.clock.monotonic(), len(self._keys)
        for step in range(count):
            key = self._keys[(self._next + step) % count]
            if self._until.get(key, 0.0) <= now:
                self._next = (self._next + step + 1) % count
                return key
        return min(self._keys, key=lambda key: self._until[key])

    def rest(self, key: str, seconds: float) -> bool:
        """Leave a key alone for a while. True if another one is fit now."""
        now = self.clock.monotonic()
        if key:
            self._until[key] = now + seconds
        return any(self._until.get(other, 0.0) <= now for other in self._keys)
