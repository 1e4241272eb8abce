"""What a browser says on the chat page. Every value is hostile: this is where it becomes typed, or is refused."""

from __future__ import annotations

from collections.abc import Mapping

from storage.errors import Invalid

_MOST_ID = 2**62


class Told:
    """One event's data. Raises `Invalid` where a value has not the expected form."""

    def __init__(self, args: object) -> None:
        if not isinstance(args, Mapping):
            raise Invalid("chat.event")
        self._data = args

    def text(self, name: str, most: int, default: str | None = None) -> str:
        """A text of at most `most` characters; longer is refused, not cut."""
        value = self._data.get(name, default)
        if not isinstance(value, str) or len(value) > most:
            raise Invalid("chat.event", field=name)
        return value

    def number(self, name: str) -> int:
        """An id or a time."""
        value = self.maybe(name)
        if value is None:
            raise Invalid("chat.event", field=name)
        return value

    def maybe(self, name: str) -> int | None:
        """An id or a time that may be missing."""
        value = self._data.get(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < _MOST_ID:
            raise Invalid("chat.event", field=name)
        return value

    def yes(self, name: str) -> bool:
        """Yes or no."""
        value = self._data.get(name)
        if not isinstance(value, bool):
            raise Invalid("chat.event", field=name)
        return value

    def texts(self, name: str, most: int, longest: int) -> list[str]:
        """A list of at most `most` texts."""
        value = self._data.get(name) or []
        if not isinstance(value, list) or len(value) > most:
            raise Invalid("chat.event", field=name)
        for one in value:
            if not isinstance(one, str) or len(one) > longest:
                raise Invalid("chat.event", field=name)
        return value
