"""An embedder of the sentence-transformers family, run in a process of its own. Pooled vectors only."""

from __future__ import annotations

import json
import logging
import re
import subprocess  # noqa: TID251 - its owner: runs the process with the model
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from agent.memory.encoded import LONGEST_QUERY, LONGEST_TEXT, Encoded, QueryVectors
from storage.settings import ROOT

log = logging.getLogger(__name__)

MODEL = re.compile(r"[\w./\\:~@+-]{2,300}")


class Transformers:
    """Starts the process with the model; safe beside itself, one request at a time.

    Raises:
        RuntimeError: the model cannot be loaded; the text says why.
    """

    def __init__(self, model: str) -> None:
        self.model = model
        self._lock, self._closed = threading.Lock(), False
        self._child = self._start()
        self.size = self._loaded()
        self.name = f"st:{model}:{self.size}"
        log.info("memory loaded %s, %d numbers a vector", model, self.size)

    def _start(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "agent.memory.transformer_child", self.model]
        return subprocess.Popen(  # noqa: S603 - no shell; the model's name is an argument
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def _loaded(self) -> int:
        said = self._line()
        if "size" not in said:
            self._child.kill()
            self._child.wait(10)
            raise RuntimeError(str(said.get("problem", "the process ended")))
        return int(said["size"])

    def passages(self, sittings: Sequence[Sequence[str]]) -> list[list[Encoded]]:
        """See `Embedder`."""
        flat = [text[:LONGEST_TEXT] for texts in sittings for text in texts]
        data, width = self._ask("passage", flat), 2 * self.size
        packed = iter(data[i : i + width] for i in range(0, len(data), width))
        return [[Encoded(next(packed)) for _ in texts] for texts in sittings]

    def query(self, text: str) -> QueryVectors:
        """See `Embedder`."""
        from agent.memory.vectors import unpack_pooled

        return QueryVectors(unpack_pooled([self._ask("query", [text[:LONGEST_QUERY]])], self.size)[0])

    def close(self) -> None:
        """End the process."""
        self._closed = True
        self._child.kill()
        self._child.wait(10)

    def _ask(self, kind: str, texts: Sequence[str]) -> bytes:
        if not texts:
            return b""
        with self._lock:
            if self._child.poll() is not None and not self._closed:  # killed, or out of memory: once more
                self._child = self._start()
                if self._loaded() != self.size:
                    raise RuntimeError("the model has changed")
            stdin, stdout = self._child.stdin, self._child.stdout
            if stdin is None or stdout is None:
                raise RuntimeError("the process with the model has ended")
            stdin.write(json.dumps({"kind": kind, "texts": list(texts)}).encode() + b"\n")
            stdin.flush()
            said = self._line()
            data = stdout.read(int(said.get("bytes", 0)))
            if len(data) == 2 * self.size * len(texts):
                return data
            self._child.kill()  # it ends, or says what nobody understands: the next request finds a new one
            self._child.wait(10)
            raise RuntimeError("the process with the model has ended")

    def _line(self) -> dict[str, Any]:
        stdout = self._child.stdout
        line = stdout.readline() if stdout is not None else b""
        said = json.loads(line) if line else {}
        return said if isinstance(said, dict) else {}


def is_model(wanted: str) -> bool:
    """True for what may be a model's name or folder."""
    return MODEL.fullmatch(wanted) is not None and (("/" in wanted and ".." not in wanted) or Path(wanted).is_dir())
