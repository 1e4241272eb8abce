"""The real ticker on a real database, with clock jumps, restarts and a second process: each time once."""

from __future__ import annotations

import random
from collections import Counter

from sqlalchemy import select

from agent.schedules.planning import ON_TIME, Rule
from agent.schedules.rows import RunRows, run_t, schedule_t
from agent.schedules.settling import Settling
from agent.schedules.ticker import Ticker
from storage.clock import ManualClock
from storage.database import SqliteDatabase
from storage.ledger import Ledger, job_t
from storage.outbox import Outbox
from storage.words import Words
from tests.rules.reading import ROOT
from tests.unit.test_schedule_simulation import KINDS, MISSED

WORDS = Words(ROOT / "assets" / "locale")


def ticker(db: SqliteDatabase, clock: ManualClock) -> Ticker:
    """A process's ticker."""
    ledger = Ledger(db, clock)
    runs = RunRows(ledger, lambda type, target: "{}")
    return Ticker(db, clock, ledger, runs, Settling(runs, Outbox(ledger), WORDS))


async def test_each_planned_time_has_one_job(db: SqliteDatabase, clock: ManualClock) -> None:
    rnd = random.Random(7)
    now = clock.ms()
    rows = []
    for n, (expression, _) in enumerate(KINDS[:10] + KINDS[14:18]):
        missed, within = MISSED[n % len(MISSED)]
        rule = Rule(expression=expression, zone="Asia/Shanghai", missed=missed, missed_within=within)
        rows.append(
            {"tenant": "main", "name": f"job {n}", "kind": "message", "work": '{"text":"x"}', "expression": expression}
            | {"zone": rule.zone, "missed": missed, "missed_within": within, "overlap": "parallel", "owner": "user:1"}
            | {"cursor": now, "next_at": now, "created_at": now, "updated_at": now, "owner_name": "", "managed_by": ""}
            | {"bot": "", "target": "", "address": "", "retries": 0, "backoff": 60, "timeout": 60, "alert_after": 0}
            | {"pause_after": 0, "origin": "t1", "allowed": "", "allowed_by": "", "paused_why": "", "failures": 0}
        )
    await db.write(lambda c: c.execute(schedule_t.insert(), rows))
    passed: list[tuple[int, int]] = []
    for _ in range(70):
        first, second = ticker(db, clock), ticker(db, clock)
        before = clock.ms()
        for _ in range(rnd.randrange(1, 6)):
            clock.advance(rnd.uniform(1, ON_TIME / 1000 - 5))
            await rnd.choice((first, second)).tick()
        passed.append((before, clock.ms()))
        clock.jump(rnd.choice((rnd.uniform(-7200, 14_400), rnd.uniform(60, 40_000), -3.0)))
        await second.tick()
    runs = await db.read(lambda c: c.execute(select(run_t)).all())
    jobs = await db.read(lambda c: c.execute(select(job_t.c.key)).all())
    assert max(Counter((run.schedule_id, run.planned_at) for run in runs).values()) == 1
    ran = {(run.schedule_id, run.planned_at) for run in runs if run.state == "queued"}
    assert len(jobs) == len(ran) > 100
    names = {row.id: n for n, row in enumerate(await db.read(lambda c: c.execute(select(schedule_t.c.id)).all()))}
    hourly = next(id for id, n in names.items() if rows[n]["expression"] == "0 * * * *")
    for before, after in passed:  # while somebody looked, no full hour was left out
        for hour in range(before // 3_600_000 + 1, after // 3_600_000 + 1):
            assert (hourly, hour * 3_600_000) in ran
