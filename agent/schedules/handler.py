"""Does the work of one run. A `Handler` for jobs of kind `schedule`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Row, and_, insert, select, update

from agent.schedules.blanks import text_of
from agent.schedules.command import Commands
from agent.schedules.cron import zone_of
from agent.schedules.draft import LONGEST_TIMEOUT, Task, argv_of
from agent.schedules.rows import run_t, schedule_t
from agent.schedules.standing import language, standing
from agent.schedules.steps import read_steps, secrets_of
from agent.schedules.workflow import Ask, Told, Workflow
from security.egress import ADMIN, Egress
from storage.clock import Clock
from storage.database import Database
from storage.envelope import Outgoing
from storage.errors import AppError, Denied, Lost, Rejected, Unavailable
from storage.ledger import Ending, JobView, seen_t
from storage.principal import Principal
from storage.runner import Handler, Interrupted, Work
from storage.vault import Vault
from storage.words import Words

MOST_OUTPUT = 64_000
MOST_TOLD = 20_000
MOST_ANSWER = 400_000
GRACE_SECONDS = 60

MayTalk = Callable[[str, str, str, str], Awaitable[bool]]
"""tenant, bot, person, conversation: may this person still talk with this bot?"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Loaded:
    """A run with everything that it needs, read in one transaction."""

    row: Row[Any]
    run: Row[Any]
    task: Task
    who: Principal
    lang: str
    secrets: Mapping[str, str] = field(repr=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """What a run has made. `say` goes to whoever is told; nothing where it is empty."""

    say: str
    output: str = ""
    base: Ending = field(default_factory=Ending)


class ScheduleHandler:
    """Runs schedules of all kinds, each time with the rights that its owner has today.

    Args:
        loop: answers prompts.
        ask: asks the model one question of a workflow.
        may_talk: what only channels know.
    """

    deadline = LONGEST_TIMEOUT + GRACE_SECONDS

    def __init__(
        self,
        *,
        db: Database,
        clock: Clock,
        vault: Vault,
        words: Words,
        egress: Egress,
        commands: Commands,
        loop: Handler,
        ask: Ask,
        may_talk: MayTalk,
    ) -> None:
        self.db, self.clock, self.vault, self.words = db, clock, vault, words
        self.egress, self.commands, self.loop, self.ask = egress, commands, loop, ask
        self.may_talk = may_talk

    async def run(self, work: Work) -> Ending:
        try:
            loaded = await self._load(work.job)
            if isinstance(loaded, AppError):
                return await self._failed(work.job, loaded)
            if loaded is None:
                return Ending(status="cancelled", reason="schedule.gone")
            row = loaded.row
            from_chat = row.address and not row.owner.startswith("user:")
            if from_chat and not await self.may_talk(row.tenant, row.bot, row.owner, row.target):
                raise Denied("schedule.owner_gone", name=row.owner_name)
            try:
                async with asyncio.timeout(row.timeout):
                    result = await self._do(work, loaded)
            except TimeoutError:
                raise Unavailable("schedule.timeout", seconds=row.timeout) from None
        except Lost:
            raise
        except Interrupted as cut:
            return await self._failed(work.job, Rejected("schedule.interrupted", step=cut.name))
        except AppError as error:
            if error.code.startswith("db."):
                raise
            return await self._failed(work.job, error)
        return await self._ended(work.job, loaded, result)

    def excuse(self, job: JobView, error: AppError) -> Ending:
        return Ending(status="failed", reason=error.code, detail=str(error))

    # ---- reading and writing

    async def _load(self, job: JobView) -> Loaded | AppError | None:
        payload, now = json.loads(job.payload), self.clock.ms()

        def fn(c: Connection) -> Loaded | AppError | None:
            row = c.execute(select(schedule_t).where(schedule_t.c.id == payload["schedule"])).first()
            run = c.execute(select(run_t).where(run_t.c.id == payload["run"])).first()
            if row is None or run is None:
                return None
            values = {"state": "running", "started_at": run.started_at or now}
            c.execute(update(run_t).where(run_t.c.id == run.id).values(**values))
            try:
                who = standing(c, row, now)
            except Denied as error:
                return error
            task = Task.from_json(row.work)
            return Loaded(
                row=row,
                run=run,
                task=task,
                who=who,
                lang=language(c, row, now),
                secrets=self._secrets(c, row, task),
            )

        return await self.db.write(fn, durable=False)

    def _secrets(self, c: Connection, row: Row[Any], task: Task) -> dict[str, str]:
        names = secrets_of(read_steps(task.steps)) if row.kind == "workflow" else []
        names += ["authorization"] if row.kind == "http" else []
        found = {name: self.vault.open(c, row.tenant, f"schedule:{row.id}:{name}") for name in names}
        return {name: value for name, value in found.items() if value}

    async def _ended(self, job: JobView, loaded: Loaded, result: Result) -> Ending:
        output, said = result.output or result.say, result.say.strip()[:MOST_TOLD]
        undelivered = loaded.run.undelivered if said else ""
        values = {"output": output[:MOST_OUTPUT], "silent": not said, "undelivered": undelivered}
        await self._note(loaded.run.id, values)
        say: tuple[Outgoing, ...] = ()
        if said and not undelivered:
            kind = "answer" if loaded.row.kind == "prompt" else "push"
            title = "" if loaded.row.address else loaded.row.name
            say = (Outgoing(kind=kind, text=said, title=title),)
        return replace(result.base, status="done", reason="", say=say)

    async def _failed(self, job: JobView, error: AppError) -> Ending:
        payload = json.loads(job.payload)
        params = {key: str(value)[:500] for key, value in error.params.items() if key != "output"}
        output = str(error.params.get("output", ""))[:MOST_OUTPUT]
        values = {"reason": error.code, "detail": json.dumps(params, ensure_ascii=False), "output": output}
        await self._note(payload["run"], values)
        return Ending(status="failed", reason=error.code, detail=json.dumps(params, ensure_ascii=False))

    async def _note(self, run_id: int, values: Mapping[str, object]) -> None:
        def fn(c: Connection) -> None:
            c.execute(update(run_t).where(run_t.c.id == run_id).values(**values))

        await self.db.write(fn, durable=False)

    # ---- the kinds

    async def _do(self, work: Work, loaded: Loaded) -> Result:
        match loaded.row.kind:
            case "command":
                return await self._command(work, loaded)
            case "http":
                return await self._call(work, loaded)
            case "workflow":
                told = await self._workflow(work, loaded)
                return Result(say=told.text)
            case "prompt":
                return await self._prompt(work)
            case _:
                return Result(say=loaded.task.text)

    async def _prompt(self, work: Work) -> Result:
        ending = await self.loop.run(work)
        if ending.status != "done":
            raise Rejected(ending.reason or "job.defect", ending.detail[:200])
        if ending.reason:
            raise Rejected("schedule.interrupted", step=ending.reason)
        return Result(say="\n".join(out.text for out in ending.say), base=replace(ending, say=()))

    async def _command(self, work: Work, loaded: Loaded) -> Result:
        argv = argv_of(loaded.task.command)
        known = _facts(loaded)
        environment = {"SCHEDULE_NAME": known["name"], "SCHEDULE_PLANNED_AT": known["at"]}

        async def act() -> str:
            ran = await self.commands.run(argv, seconds=loaded.row.timeout, environment=environment)
            return json.dumps({"code": ran.code, "output": ran.output}, ensure_ascii=False)

        raw = json.loads(await work.step("command", "tool", act, request=loaded.task.command, repeatable=False))
        if raw["code"] != 0:
            raise Rejected("schedule.command_failed", code=raw["code"], output=raw["output"])
        return Result(say=raw["output"])

    async def _call(self, work: Work, loaded: Loaded) -> Result:
        task = loaded.task
        headers = dict(task.headers) | {"idempotency-key": f"schedule-{loaded.row.id}-{loaded.run.planned_at}"}
        if "authorization" in loaded.secrets:
            headers["authorization"] = loaded.secrets["authorization"]
        if task.body:
            headers.setdefault("content-type", "application/json")
        policy = replace(ADMIN, most_bytes=MOST_ANSWER, seconds=min(600, loaded.row.timeout))

        async def act() -> str:
            answer = await self.egress.request(
                task.method, task.url, policy=policy, headers=headers, content=task.body.encode() or None
            )
            said = text_of(answer.content.decode("utf-8", "replace")[:MOST_TOLD])
            return json.dumps({"status": answer.status_code, "text": said}, ensure_ascii=False)

        request = f"{task.method} {task.url}"
        raw = json.loads(await work.step("http", "tool", act, request=request, repeatable=task.method == "GET"))
        if raw["status"] >= 400:
            error = Unavailable if raw["status"] in (408, 425, 429) or raw["status"] >= 500 else Rejected
            code = "schedule.call_later" if error is Unavailable else "schedule.call_refused"
            raise error(code, status=raw["status"], said=" ".join(raw["text"][:300].split()), output=raw["text"])
        return Result(say=raw["text"])

    async def _workflow(self, work: Work, loaded: Loaded) -> Told:
        scope = f"schedule:{loaded.row.id}"

        async def done(key: str) -> None:
            row = {"tenant": loaded.row.tenant, "scope": scope, "key": key[:200], "job_id": work.job.id}

            def fn(c: Connection) -> None:
                if key not in unseen(c, loaded.row.tenant, scope, [key]):
                    return
                c.execute(insert(seen_t), row | {"at": self.clock.ms()})

            await self.db.write(fn, durable=False)

        async def fresh(keys: Sequence[str]) -> set[str]:
            return await self.db.read(lambda c: unseen(c, loaded.row.tenant, scope, keys))

        flow = Workflow(
            work=work,
            egress=self.egress,
            ask=self.ask,
            fresh=fresh,
            done=done,
            name=f"schedule-{loaded.row.id}",
            values=loaded.task.values,
            secrets=loaded.secrets,
            run=_facts(loaded),
            explain=lambda error: explained(self.words, loaded.lang, error.code, error.params),
        )
        return await flow.go(read_steps(loaded.task.steps))


def explained(words: Words, lang: str, code: str, params: Mapping[str, object]) -> str:
    """An error in words, with its code where there are none."""
    key = f"error.{code}"
    return words.say(lang, key, **params) if words.has(lang, key) else code


def unseen(c: Connection, tenant: str, scope: str, keys: Sequence[str]) -> set[str]:
    """Those of the keys that were not handled before."""
    short = {key[:200]: key for key in keys}
    query = select(seen_t.c.key).where(
        and_(seen_t.c.tenant == tenant, seen_t.c.scope == scope, seen_t.c.key.in_(list(short)))
    )
    return set(keys) - {short[key] for key in c.execute(query).scalars()}


def _facts(loaded: Loaded) -> dict[str, str]:
    """What a run knows of itself: `{{run.name}}`, `{{run.date}}`, `{{run.time}}`, `{{run.at}}`."""
    planned = datetime.fromtimestamp(loaded.run.planned_at / 1000, UTC).astimezone(zone_of(loaded.row.zone))
    return {
        "name": loaded.row.name,
        "date": f"{planned:%Y-%m-%d}",
        "time": f"{planned:%H:%M}",
        "at": planned.isoformat(timespec="seconds"),
    }
