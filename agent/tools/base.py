"""What a tool is: a typed function and a spec that the host checks at start. Only `agent/loop.py` executes tools."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict

from agent.models.base import ToolDefinition

A = TypeVar("A", bound=BaseModel)


class Args(BaseModel):
    """Base of every tool's arguments: unknown ones are refused, so that a model's slip is told and not ignored."""

    model_config = ConfigDict(extra="forbid")


@dataclass(frozen=True, kw_only=True, slots=True)
class ToolContext:
    """For whom and where a tool runs. Tools never see secrets.

    Attributes:
        person: stable id of whoever asked, scoped to the channel (`feishu:ou_x`, `user:1`).
        group: conversation key of the group; empty in direct chats.
        workspace: the conversation's folder; may not exist yet.
        origin: worst label of what is in the context.
        said: what the person said in the message that is answered, quotes and files left out.
        tell: publishes a live event (kind, **data), for tools that show something (plan).
    """

    tenant: str
    bot: str
    channel: str
    person: str
    person_name: str
    group: str
    conversation_id: int
    message_id: int
    job_id: int
    lang: str
    origin: str
    workspace: Path
    tell: Callable[..., None]
    said: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class ToolResult:
    """What the model is told. `ok` False: it failed, in words that help the model to go on.

    `origin` labels the text: `t4` for our own results, `t5` for outside text (pages, files of others).
    """

    text: str
    ok: bool = True
    origin: str = "t4"


@dataclass(frozen=True, kw_only=True, slots=True)
class Tool:
    """A tool.

    Attributes:
        args: pydantic model of its arguments; its schema is what the model sees.
        effect: `read`, `write` (own data), `outside` (leaves the house).
        repeatable: safe to run twice; otherwise a cut-off call is never run again by itself.
        approval: a person is asked before each call, unless an admin chose otherwise.
        timeout: seconds.
    """

    name: str
    description: str
    args: type[Args]
    run: Callable[[ToolContext, Any], Awaitable[ToolResult]]
    effect: str = "read"
    repeatable: bool = True
    approval: bool = False
    timeout: float = 30.0

    def definition(self) -> ToolDefinition:
        """As the model sees it."""
        schema = self.args.model_json_schema()
        schema.pop("title", None)
        for field in schema.get("properties", {}).values():
            field.pop("title", None)
        return ToolDefinition(name=self.name, description=self.description, parameters=schema)


class Toolbox:
    """The tools of an installation, checked when it is made."""

    def __init__(self, tools: list[Tool]) -> None:
        self._tools: dict[str, Tool] = {}
        for tool in tools:
            if (
                tool.name in self._tools
                or not tool.name.isidentifier()
                or tool.effect not in ("read", "write", "outside")
            ):
                raise ValueError(f"tool {tool.name!r} is badly defined or defined twice")
            self._tools[tool.name] = tool
        self.definitions = tuple(tool.definition() for tool in tools)

    def get(self, name: str) -> Tool | None:
        """The tool, or None if there is none of that name."""
        return self._tools.get(name)

    def all(self) -> list[Tool]:
        """All tools, in the order of definition."""
        return list(self._tools.values())
