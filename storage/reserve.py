"""Room kept back for the day on which the disk is full: even removing needs some."""

from __future__ import annotations

import logging
import os
import shutil
from pathlib import Path

log = logging.getLogger(__name__)
SIZE = 64 * 1_048_576
PLENTY = 2_000 * 1_048_576
LITTLE = 500 * 1_048_576


class Reserve:
    """A file of 64 MB in the data folder. Blocking: call it in a thread."""

    def __init__(self, folder: Path) -> None:
        self.path, self.folder = folder / "reserve", folder

    def look(self) -> bool:
        """Give the room back when it is needed, take it again when there is plenty.

        Returns:
            True if there is little room: less than 500 MB or a twentieth.
        """
        usage = shutil.disk_usage(self.folder)
        if usage.free < SIZE and self.path.exists():
            self.path.unlink()
            log.error("the disk is full: the reserve of %d MB was given back", SIZE // 1_048_576)
        elif usage.free > PLENTY and not self.path.exists():
            self._take()
        return usage.free < LITTLE or usage.free * 20 < usage.total

    def _take(self) -> None:
        part = self.path.with_name("reserve.part")
        try:
            handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            try:
                os.posix_fallocate(handle, 0, SIZE)
            finally:
                os.close(handle)
            part.replace(self.path)
        except OSError as error:
            part.unlink(missing_ok=True)
            log.info("no room was kept back: %s", error)
