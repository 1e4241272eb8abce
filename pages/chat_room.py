"""The chat page's own element: the browser's half is `assets/chat/`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from nicegui.dependencies import register_esm
from nicegui.element import Element

from storage.settings import ROOT

_FOLDER: Path = ROOT / "assets" / "chat"
# By the newest file, not by the folder: an update in place must reach browsers that keep files for a year.
register_esm(
    "zhixing-chat", _FOLDER / "parts", max_time=max(f.stat().st_mtime for f in (_FOLDER / "parts").glob("*.js"))
)


class ChatRoom(Element, component=_FOLDER / "room.js"):
    """Conversations, messages, composer and plan. It keeps no state but what it was made with."""

    def __init__(
        self, *, initial: dict[str, Any], words: dict[str, Any], me: str, on_act: Callable[..., Any], attach: int | None
    ) -> None:
        super().__init__()
        self._props["initial"] = initial
        self._props["words"] = words
        self._props["me"] = me
        if attach is not None:
            self._props["attach"] = attach
        self.on("act", on_act)

    def take(self, kind: str, **data: Any) -> None:
        """Tell the browser something; lost if its page is gone."""
        if not self.client.is_deleted:
            _ = self.run_method("take", kind, data)  # not awaited on purpose: nothing comes back
