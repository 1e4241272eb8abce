"""Hands a file to the browser, once, to whoever is signed in."""

from __future__ import annotations

from pathlib import Path

from nicegui import ui

from pages.visitor import Visitor


def hand_over(v: Visitor, path: Path) -> None:
    """Start the download of a file in the visitor's browser; its address holds for one request."""
    with v.client:
        ui.download.file(path, path.name)


def byte_size(count: int) -> str:
    """812 B, 3.4 MB."""
    size, unit = float(count), "B"
    for bigger in ("KB", "MB", "GB", "TB"):
        if size < 1000:
            break
        size, unit = size / 1000, bigger
    return f"{count} B" if unit == "B" else f"{size:.1f} {unit}"
