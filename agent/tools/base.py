"""What a tool is: a typed function and a spec that the host checks at start. One place executes tools (`loop.py`)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from agent.models.base import ToolDefinition


@dataclass(frozen=True, kw_only=True, slots=True)
class ToolContext:
    """For whom and where a tool runs. Tools never see secrets.

    Attributes:
        person: stable id of whoever asked, scoped to the channel (`feishu:ou_x`, `user:1`).
        scope_kind: `direct` or `group`.
        workspace: the conversation's folder, made on demand.
        tell: publishes a live event (kind, data), for tools that show something (plan).
    """

    tenant: str
    bot: str
    channel: str
    person: str
    person_name: str
    scope_kind: str
    conversation_id: int
    message_id: int
    job_id: int
    lang: str
    origin: str
    workspace: Callable[[], Any]
    tell: Callable[..., None]


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
    """A tool. `effect`: `read`, `write` (own data), `outside` (leaves the house). `repeatable`: safe to run twice."""

    name: str
    description: str
    parameters: dict[str, Any]
    run: Callable[[ToolContext, dict[str, Any]], Awaitable[ToolResult]]
    effect: str = "read"
    repeatable: bool = True
    timeout: float = 30.0

    def definition(self) -> ToolDefinition:
        return ToolDefinition(name=self.name, description=self.description, parameters=self.parameters)
