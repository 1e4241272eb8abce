"""The process that parses one document: `python -m agent.memory.parsers.child FILE NAME`, blocks as JSON lines out.

It limits itself before it reads anything, has no way to the network, and writes only to its standard output.
"""

from __future__ import annotations

import json
import os
import resource
import socket
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from agent.memory.parsers.limits import Block, Limits, Refused


def confine(limits: Limits) -> None:
    """Bound memory, processor time, files and network of this process."""
    os.nice(10)
    resource.setrlimit(resource.RLIMIT_AS, (limits.memory, limits.memory))
    seconds = int(limits.seconds)
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 5))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    sys.setrecursionlimit(2_000)

    def refuse(*_args: Any, **_more: Any) -> Any:
        raise OSError("no network here")

    socket.socket = refuse  # type: ignore[assignment,misc]


def parser_of(kind: str) -> Callable[[Path, Limits], Iterator[Block]]:
    """The parser of a kind; its libraries are imported by itself."""
    from agent.memory.parsers import office, plain

    return {
        "pdf": plain.pdf,
        "word": office.word,
        "excel": office.excel,
        "powerpoint": office.powerpoint,
        "markdown": plain.markdown,
        "html": plain.html,
        "csv": plain.table,
        "text": plain.text,
    }[kind]


def blocks(path: Path, name: str, limits: Limits) -> Iterator[Block]:
    """The text of a document, bounded.

    Raises:
        Refused: it is not taken, and why.
    """
    from agent.memory.parsers.sniff import kind_of

    if path.stat().st_size > limits.bytes:
        raise Refused("bytes", most=limits.bytes // 1_000_000)
    chars = 0
    for block in parser_of(kind_of(path, name, limits))(path, limits):
        chars += len(block.text)
        if chars > limits.chars:
            raise Refused("chars", most=limits.chars)
        yield block


def main(argv: list[str]) -> int:
    """Parse and write; whatever goes wrong becomes one last line that says so."""
    limits = Limits()
    confine(limits)
    out = sys.stdout

    def tell(line: dict[str, object]) -> None:
        out.write(json.dumps(line, ensure_ascii=False) + "\n")

    try:
        for block in blocks(Path(argv[1]), argv[2], limits):
            tell(asdict(block))
        tell({"end": True})
    except Refused as no:
        tell({"refused": no.code, "params": no.params})
    except MemoryError:
        tell({"refused": "memory", "params": {}})
    except RecursionError:
        tell({"refused": "damaged", "params": {}})
    except Exception as error:  # noqa: BLE001 - parsers raise whatever a hostile file makes them raise
        tell({"refused": "damaged", "params": {"why": type(error).__name__}})
    out.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
