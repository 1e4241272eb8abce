"""How tasks went, what runs now, and the log for people: counted, bounded, by right."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert

from agent.figures import FRESH_SECONDS, FigureActions, percentile
from agent.open_tasks import OpenTasks
from security.logbook import LogbookActions, Wanted
from storage.clock import ManualClock
from storage.database import SqliteDatabase
from storage.errors import Denied, Invalid
from storage.ledger import delivery_t, job_t, step_t
from storage.logs import FILE
from storage.principal import principal
from tests.operations_house import OWNER

MEMBER = principal(id="user:5", name="m", role="member")
HOUR = 3_600_000


class Past:
    """Writes tasks into the ledger as they would stand there."""

    def __init__(self, db: SqliteDatabase, clock: ManualClock) -> None:
        self.db, self.clock, self.n = db, clock, 0

    async def task(
        self,
        ago: int,
        *,
        own: int = 100,
        model_ms: int = 1_000,
        status: str = "done",
        steps: tuple[dict[str, Any], ...] | None = None,
        **more: Any,
    ) -> int:
        """One that was received `ago` ms ago."""
        self.n += 1
        at = self.clock.ms() - ago
        open_ = status in ("todo", "doing")
        job = {
            "id": self.n,
            "tenant": "main",
            "key": f"k{self.n}",
            "lane": "l",
            "kind": "message",
            "status": status,
            "attempts": 1,
            "bot": "hr-bot",
            "title": f"task {self.n}",
            "model": "a/b",
            "reason": "model.key" if status == "failed" else "",
            "received_at": at,
            "created_at": at,
            "started_at": None if status == "todo" else at + 10,
            "ended_at": None if open_ else at + own + model_ms,
        } | more
        if steps is None:
            done = {"name": "model 1", "kind": "model", "started_at": at + 10, "ended_at": at + 10 + model_ms}
            steps = () if open_ else (done,)
        rows = [{"job_id": self.n, "n": n, "status": "done", "result": "", **step} for n, step in enumerate(steps, 1)]

        def fn(c: Any) -> None:
            c.execute(insert(job_t), job)
            if rows:
                c.execute(insert(step_t), rows)

        await self.db.write(fn)
        return self.n

    async def sent(self, job: int, ago: int) -> None:
        at = self.clock.ms() - ago
        row = {
            "tenant": "main",
            "bot": "hr-bot",
            "channel": "feishu",
            "lane": "l",
            "key": f"d{job}",
            "job_id": job,
            "status": "delivered",
            "committed_at": at - 5,
            "written_at": at,
        }
        await self.db.write(lambda c: c.execute(insert(delivery_t), row))


@pytest.fixture
def past(db: SqliteDatabase, clock: ManualClock) -> Past:
    return Past(db, clock)


async def test_figures_of_the_last_hours(past: Past, clock: ManualClock) -> None:
    for n in range(1, 20):
        await past.task(2 * HOUR, own=10 * n)
    await past.task(2 * HOUR, own=900)
    await past.task(20 * HOUR, status="failed", bot="it-bot")
    await past.task(2 * HOUR, status="cancelled")
    await past.task(2 * HOUR, kind="schedule", title="daily report", bot="")
    await past.task(30 * HOUR)
    late = await past.task(3 * HOUR, own=100)
    await past.sent(late, 3 * HOUR - 1_400)
    actions = FigureActions(db=past.db, clock=clock)
    found = await actions.figures(OWNER)
    assert (found.done, found.failed, found.other) == (22, 1, 1)
    assert found.success == pytest.approx(22 / 23)
    assert found.own_p95 == 400  # to the vendor, not to our own end: 1,400 ms less the model
    assert found.own_mean == round((sum(range(10, 200, 10)) + 900 + 100 + 400) / 22)
    assert found.queue_p95 == 10
    assert len(found.slots) == 24
    assert sum(slot.done for slot in found.slots) == 22
    assert [(slot.failed, slot.own_mean) for slot in found.slots if slot.failed] == [(1, None)]
    assert {group.name: (group.done, group.failed) for group in found.bots} == {"hr-bot": (21, 0), "it-bot": (0, 1)}
    assert {group.name: group.done for group in found.jobs} == {"message": 21, "daily report": 1}
    assert found.models[0].success == pytest.approx(22 / 23)
    assert found.reasons == (("model.key", 1),)
    await past.task(HOUR // 2)
    assert (await actions.figures(OWNER)).done == 22, "kept for seconds"
    clock.advance(FRESH_SECONDS + 1)
    assert (await actions.figures(OWNER)).done == 23
    assert (await actions.figures(OWNER, 1)).done == 1
    with pytest.raises(Invalid):
        await actions.figures(OWNER, 7)
    with pytest.raises(Denied):
        await actions.figures(MEMBER)


async def test_nothing_is_no_figure(past: Past, clock: ManualClock) -> None:
    found = await FigureActions(db=past.db, clock=clock).figures(OWNER, 720)
    assert (found.success, found.own_mean, found.own_p95, found.bots) == (None, None, None, ())
    assert percentile([], 0.95) is None
    assert percentile([5], 0.95) == 5
    assert percentile(list(range(1, 101)), 0.95) == 95


async def test_open_tasks_say_what_they_are_at(past: Past, clock: ManualClock) -> None:
    at = clock.ms() - 500
    recall = {"name": "recall", "kind": "recall", "started_at": at, "ended_at": at + 5}
    asked = {
        "name": "model 1",
        "kind": "model",
        "started_at": at + 5,
        "ended_at": at + 200,
        "result": json.dumps({"calls": [{"name": "time"}, {"name": "fetch"}]}),
    }
    tool = {
        "name": "time",
        "kind": "tool",
        "started_at": at + 200,
        "ended_at": at + 210,
        "result": json.dumps({"text": "x", "ok": False}),
    }
    await past.task(1_000, status="todo")
    await past.task(1_000, status="doing", steps=())
    await past.task(1_000, status="doing", steps=(recall,))
    await past.task(1_000, status="doing", steps=(recall, asked, tool))
    await past.task(1_000, status="doing", steps=(recall, asked, tool, {**tool, "name": "fetch"}))
    cut = {**tool, "name": "post", "ended_at": None, "status": "started"}
    await past.task(1_000, status="doing", steps=(recall, asked, cut))
    await past.task(1_000)
    found = await OpenTasks(db=past.db).list(OWNER)
    assert [(task.now, task.tool) for task in found] == [
        ("recall", ""),
        ("model", ""),
        ("tool", "fetch"),
        ("model", ""),
        ("tool", "post"),
        ("queue", ""),
    ]
    assert [(step.kind, step.ms, step.ok) for step in found[2].done] == [
        ("recall", 5, True),
        ("model", 195, True),
        ("tool", 10, False),
    ]
    with pytest.raises(Denied):
        await OpenTasks(db=past.db).list(MEMBER)


def _line(n: int, level: str = "info", logger: str = "storage.runner", **more: Any) -> str:
    at = f"2026-11-24T01:{n // 60:02d}:{n % 60:02d}.000+00:00"
    return json.dumps(
        {"at": at, "level": level, "logger": logger, "message": f"line {n} 中文", **more}, ensure_ascii=False
    )


async def test_log_is_read_from_its_end_and_filtered(tmp_path: Path) -> None:
    (tmp_path / f"{FILE}.1").write_text("\n".join(_line(n) for n in range(100)) + "\n")
    new = [_line(n, "error" if n % 50 == 0 else "info", "agent.loop", job=n, error="Trace") for n in range(100, 3000)]
    (tmp_path / FILE).write_text("\n".join(new) + "\n" + '{"cut off')
    book = LogbookActions(folder=tmp_path)
    newest = await book.newest(OWNER, Wanted(), limit=3)
    assert [entry.message for entry in newest] == ["line 2999 中文", "line 2998 中文", "line 2997 中文"]
    assert newest[0].more == {"job": "2999"}
    assert newest[0].error == "Trace"
    errors = await book.newest(OWNER, Wanted(level="error"), limit=500)
    assert len(errors) == 58
    assert {entry.level for entry in errors} == {"error"}
    older = await book.newest(OWNER, Wanted(level="error", before=errors[-1].at))
    assert older == []
    assert len(await book.newest(OWNER, Wanted(logger="storage"))) == 100
    assert await book.newest(OWNER, Wanted(logger="stor")) == []
    assert [entry.message for entry in await book.newest(OWNER, Wanted(search="LINE 42 中文"))] == ["line 42 中文"]
    before = await book.stamp(OWNER)
    with (tmp_path / FILE).open("a") as file:
        file.write("\n" + _line(3000) + "\n")
    assert await book.stamp(OWNER) != before
    assert (await book.newest(OWNER, Wanted(), limit=1))[0].message == "line 3000 中文"
    with pytest.raises(Invalid):
        await book.newest(OWNER, Wanted(level="loud"))
    with pytest.raises(Denied):
        await book.newest(MEMBER, Wanted())
    assert await LogbookActions(folder=tmp_path / "none").newest(OWNER, Wanted()) == []
