"""Runs the parsing child and hands on its blocks. The only one that starts it."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from agent.memory.parsers.limits import Block, Limits
from storage.errors import Rejected, Unavailable
from storage.settings import ROOT

LONGEST_LINE = 40_000_000
ENVIRONMENT = {"LANG": "C.UTF-8", "PYTHONUTF8": "1", "PYTHONDONTWRITEBYTECODE": "1", "PATH": "/usr/bin:/bin"}


async def parse(path: Path, name: str, limits: Limits | None = None) -> AsyncIterator[Block]:
    """Blocks of a document, as the child finds them. The child is ended with the iterator.

    Raises:
        Rejected: `knowledge.<why>`, the document is not taken.
        Unavailable: `knowledge.child`, it could not be started.
    """
    limits = limits or Limits()
    try:
        child = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "agent.memory.parsers.child",
            str(path),
            name,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            cwd=ROOT,
            env=ENVIRONMENT,
            limit=LONGEST_LINE,
        )
    except OSError as error:
        raise Unavailable("knowledge.child", why=type(error).__name__) from error
    stdout = child.stdout
    if stdout is None:
        raise Unavailable("knowledge.child", why="pipe")
    deadline = asyncio.get_running_loop().time() + limits.seconds
    try:
        while True:
            try:
                async with asyncio.timeout_at(deadline):
                    line = await stdout.readline()
            except TimeoutError:
                raise Rejected("knowledge.seconds", most=int(limits.seconds)) from None
            except ValueError:
                raise Rejected("knowledge.damaged") from None
            said = _read(line)
            if said.get("end"):
                return
            if not said:
                raise Rejected("knowledge.broke")  # killed by a limit, or by the file
            if "refused" in said:
                raise Rejected(f"knowledge.{said['refused']}", **said["params"])
            yield Block(**said)
    finally:
        if child.returncode is None:
            child.kill()
        await child.wait()


def _read(line: bytes) -> dict[str, Any]:
    try:
        said = json.loads(line) if line else {}
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}
