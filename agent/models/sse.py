"""Server-sent events from bytes: cut anywhere, CR, LF or CRLF, bounded. Works on bytes, so U+2028 is no line end."""

from __future__ import annotations

from dataclasses import dataclass

from storage.errors import Unavailable

MOST_LINE = 2_000_000
MOST_EVENT = 4_000_000
BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Event:
    """One event. `data` is undecoded: whole lines of UTF-8, as sent."""

    name: str
    data: bytes


class SseParser:
    """Turns chunks of a stream into events.

    Attributes:
        stray: the beginning of what came outside the format, for an error that was sent as plain JSON.
        events: how many events were made.
    """

    def __init__(self, *, most_line: int = MOST_LINE, most_event: int = MOST_EVENT) -> None:
        self.most_line, self.most_event = most_line, most_event
        self.stray = b""
        self.events = 0
        self._rest = b""
        self._held: list[bytes] = []
        self._held_size = 0
        self._data: list[bytes] = []
        self._size = 0
        self._name = ""
        self._begun = False

    def feed(self, chunk: bytes) -> list[Event]:
        """Events that are complete with this chunk.

        Raises:
            Unavailable: `model.broken`, a line or event over the bound.
        """
        if self._begun and b"\n" not in chunk and b"\r" not in chunk and not self._rest.endswith(b"\r"):
            # one long line in many chunks: joined once, when it ends
            self._held.append(chunk)
            self._held_size += len(chunk)
            if self._held_size + len(self._rest) > self.most_line:
                raise Unavailable("model.broken", why="line")
            return []
        text = self._whole_rest() + chunk
        if not self._begun:
            if len(text) < 3 and BOM.startswith(text):
                self._rest = text
                return []
            self._begun, text = True, text.removeprefix(BOM)
        if b"\r" in text:
            # a CR at the very end may be half of a CRLF: keep it until the next byte is known
            held = b"\r" if text.endswith(b"\r") else b""
            text = text[: len(text) - len(held)].replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        else:
            held = b""
        lines = text.split(b"\n")
        self._rest = lines.pop() + held
        if len(self._rest) > self.most_line:
            raise Unavailable("model.broken", why="line")
        out: list[Event] = []
        for line in lines:
            if not line:
                if self._data:
                    out.append(self._made())
                self._name = ""
            else:
                self._field(line)
        return out

    def finish(self) -> list[Event]:
        """The last event, where a server left out the empty line behind it."""
        rest, self._rest = self._whole_rest().rstrip(b"\r"), b""
        if rest:
            self._field(rest)
        return [self._made()] if self._data else []

    def _whole_rest(self) -> bytes:
        if not self._held:
            return self._rest
        whole = b"".join((self._rest, *self._held))
        self._held, self._held_size = [], 0
        return whole

    def _made(self) -> Event:
        data = self._data[0] if len(self._data) == 1 else b"\n".join(self._data)
        self._data, self._size = [], 0
        self.events += 1
        return Event(self._name, data)

    def _field(self, line: bytes) -> None:
        if line.startswith(b"data:"):
            value = line[6:] if line[5:6] == b" " else line[5:]
            self._size += len(value) + 1
            if len(line) > self.most_line or self._size > self.most_event:
                raise Unavailable("model.broken", why="event")
            self._data.append(value)
            return
        name, _, value = line.partition(b":")
        if name == b"event":
            self._name = value.strip().decode("utf-8", "replace")[:100]
        elif name not in (b"", b"id", b"retry", b"data") and len(self.stray) < 20_000:
            self.stray += line[:20_000]
