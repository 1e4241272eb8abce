"""Files in the conversation's workspace. Names are checked, sizes bounded, links never followed."""

from __future__ import annotations

import asyncio
from pathlib import Path

from pydantic import Field

from agent.tools.base import Args, Tool, ToolContext, ToolResult

MOST_BYTES = 1_000_000
MOST_FILES = 200


class NameArgs(Args):
    name: str = Field(description="File name within the workspace, e.g. report.md", min_length=1, max_length=120)


class WriteArgs(NameArgs):
    text: str = Field(description="Whole content", max_length=MOST_BYTES)


class ListArgs(Args):
    pass


def inside(workspace: Path, name: str) -> Path | None:
    """The path of a name in the workspace, or None if the name could lead elsewhere."""
    if (
        any(ch in name for ch in "\\\0:")
        or name.startswith((".", "/", "~"))
        or ".." in name.split("/")
        or name.count("/") > 3
    ):
        return None
    path = workspace / name
    for part in (path, *path.parents):
        if part == workspace:
            break
        if part.is_symlink():
            return None
    return path


def _write(workspace: Path, args: WriteArgs) -> ToolResult:
    path = inside(workspace, args.name)
    data = args.text.encode()
    if path is None or len(data) > MOST_BYTES:
        return ToolResult(text="this name or size is not allowed in the workspace", ok=False)
    if not path.exists() and workspace.is_dir() and sum(1 for _ in workspace.rglob("*")) >= MOST_FILES:
        return ToolResult(text=f"the workspace is full: {MOST_FILES} files", ok=False)
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    part = path.with_name(path.name + ".part")
    part.write_bytes(data)
    part.replace(path)
    return ToolResult(text=f"written: {args.name}, {len(data)} bytes")


def _read(workspace: Path, args: NameArgs) -> ToolResult:
    path = inside(workspace, args.name)
    if path is None or not path.is_file():
        return ToolResult(text=f"no file {args.name!r} in the workspace", ok=False)
    if path.stat().st_size > MOST_BYTES:
        return ToolResult(text="the file is too large to read at once", ok=False)
    return ToolResult(text=path.read_bytes().decode("utf-8", "replace")[:20_000], origin="t5")


def _list(workspace: Path) -> ToolResult:
    if not workspace.is_dir():
        return ToolResult(text="the workspace is empty")
    names = [
        f"{p.relative_to(workspace)} ({p.stat().st_size} bytes)" for p in sorted(workspace.rglob("*")) if p.is_file()
    ]
    return ToolResult(text="\n".join(names[:MOST_FILES]) or "the workspace is empty")


def file_tools() -> list[Tool]:
    """`write_file`, `read_file`, `list_files`."""

    async def write(ctx: ToolContext, args: WriteArgs) -> ToolResult:
        return await asyncio.to_thread(_write, ctx.workspace, args)

    async def read(ctx: ToolContext, args: NameArgs) -> ToolResult:
        return await asyncio.to_thread(_read, ctx.workspace, args)

    async def listing(ctx: ToolContext, args: ListArgs) -> ToolResult:
        return await asyncio.to_thread(_list, ctx.workspace)

    return [
        Tool(
            name="write_file",
            description="Write a text file in this conversation's workspace.",
            args=WriteArgs,
            run=write,
            effect="write",
        ),
        Tool(
            name="read_file", description="Read a text file of this conversation's workspace.", args=NameArgs, run=read
        ),
        Tool(
            name="list_files",
            description="List the files of this conversation's workspace.",
            args=ListArgs,
            run=listing,
        ),
    ]
