"""Dry runs: what a schedule would do, with nothing changed and nobody told."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import Connection

from agent.schedules.command import Commands
from agent.schedules.cron import zone_of
from agent.schedules.draft import ScheduleDraft, argv_of
from agent.schedules.handler import unseen
from agent.schedules.rows import draft_of, one
from agent.schedules.saving import hosts
from agent.schedules.steps import read_steps, secrets_of
from agent.schedules.workflow import Workflow
from security.egress import Egress
from storage.clock import Clock
from storage.database import Database
from storage.errors import AppError
from storage.principal import Principal
from storage.runner import Work
from storage.vault import Vault


@dataclass(frozen=True, kw_only=True, slots=True)
class DryRun:
    """What would be done.

    Attributes:
        steps: (name, kind, what): kind is `command`, `http`, `ask`, `prompt`, `message`, `say`.
        boxed: whether a command would run in a sandbox; None for other kinds.
        tells: whom the result would be sent to, as bot and target; empty: it is only kept.
        error: where it would end, and why.
    """

    steps: Sequence[tuple[str, str, str]]
    boxed: bool | None = None
    tells: str = ""
    error: AppError | None = None


class Trying:
    """Tries schedules out."""

    def __init__(self, db: Database, vault: Vault, clock: Clock, egress: Egress, commands: Commands) -> None:
        self.db, self.vault, self.clock, self.egress, self.commands = db, vault, clock, egress, commands

    async def dry_run(self, who: Principal, draft: ScheduleDraft, *, name: str = "") -> DryRun:
        """See `ScheduleActions.dry_run`. The draft is checked."""
        tells = " · ".join(part for part in (draft.bot, draft.target) if part)
        task = draft.task
        match draft.kind:
            case "command":
                boxed = await self.commands.sandbox()
                try:
                    argv = self.commands.words(argv_of(task.command))
                except AppError as error:
                    return DryRun(steps=(), boxed=boxed, tells=tells, error=error)
                shown = json.dumps(argv, ensure_ascii=False)
                return DryRun(steps=((str(self.commands.folder), "command", shown),), boxed=boxed, tells=tells)
            case "http":
                lines = [f"{task.method} {task.url}", *(f"{key}: {value}" for key, value in task.headers.items())]
                shown = "\n".join([*lines, "", task.body] if task.body else lines)
                return DryRun(steps=(("http", "http", shown),), tells=tells)
            case "workflow":
                return await self._workflow(who, draft, name, tells)
            case kind:
                return DryRun(steps=((kind, kind, task.text),), tells=tells)

    async def _workflow(self, who: Principal, draft: ScheduleDraft, name: str, tells: str) -> DryRun:
        steps = read_steps(draft.task.steps)
        wanted = secrets_of(steps)

        def fn(c: Connection) -> tuple[dict[str, str], int]:
            row = one(c, who.tenant, name) if name else None
            if row is None:
                return {}, 0
            kept = {key: self.vault.open(c, row.tenant, f"schedule:{row.id}:{key}") for key in wanted}
            return {key: value for key, value in kept.items() if value}, int(row.id)

        kept, schedule_id = await self.db.read(fn)
        # a kept secret goes only where it was entered for: an address that was changed gets none
        same = schedule_id and await self.db.read(lambda c: _same_hosts(c, who.tenant, name, draft))
        secrets = (kept if same else {}) | {key: value for key, value in draft.secrets.items() if value}

        async def fresh(keys: Sequence[str]) -> set[str]:
            if not schedule_id:
                return set(keys)
            return await self.db.read(lambda c: unseen(c, who.tenant, f"schedule:{schedule_id}", keys))

        async def done(key: str) -> None:
            return None

        async def ask(work: Work, prompt: str) -> str:
            return ""

        now = datetime.fromtimestamp(self.clock.ms() / 1000, UTC).astimezone(zone_of(draft.zone))
        flow = Workflow(
            work=None,
            egress=self.egress,
            ask=ask,
            fresh=fresh,
            done=done,
            name="dry",
            values=draft.task.values,
            secrets=secrets,
            run={"name": draft.name, "date": f"{now:%Y-%m-%d}", "time": f"{now:%H:%M}", "at": "dry"},
            dry=True,
        )
        try:
            told = await flow.go(steps)
        except AppError as error:
            return DryRun(steps=tuple(flow.shown), tells=tells, error=error)
        said = (("say", "say", told.text),) if told.text else ()
        return DryRun(steps=(*flow.shown, *said), tells=tells)


def _same_hosts(c: Connection, tenant: str, name: str, draft: ScheduleDraft) -> bool:
    row = one(c, tenant, name)
    return row is not None and hosts(draft) <= hosts(draft_of(row))
