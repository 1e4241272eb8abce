"""What the end of a run's job means: done, another try, or failed; one alert, one recovery notice, a pause.

Part of the transaction in which the job ends, so that none of it is lost and none happens twice.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, and_, select, update
from sqlalchemy.exc import SQLAlchemyError

from agent.schedules.handler import explained
from agent.schedules.rows import KIND, OPEN, RunRows, run_t, schedule_t
from agent.schedules.standing import language
from storage.envelope import Outgoing
from storage.ledger import DeliveryView, Ending, JobView, job_t
from storage.outbox import Outbox
from storage.words import Words

log = logging.getLogger(__name__)

LONGEST_BACKOFF = 6 * 3_600
FINAL = ("schedule.not_allowed", "schedule.owner_gone", "schedule.owner_right", "schedule.interrupted", "schedule.gone")
"""Trying again could not help, or might do something twice."""
WITHOUT_RIGHT = ("schedule.owner_gone", "schedule.owner_right")


class Settling:
    """Settles runs. `finished` takes part in the ledger's own transaction."""

    def __init__(self, runs: RunRows, outbox: Outbox, words: Words) -> None:
        self.runs, self.outbox, self.words, self.clock = runs, outbox, words, runs.ledger.clock

    def finished(self, c: Connection, job: JobView, ending: Ending, now: int) -> Sequence[DeliveryView]:
        """A job has ended; nothing happens where it is not a run's."""
        if job.kind != KIND:
            return ()
        try:
            return self.settle(c, job.id, ending.status, ending.reason, ending.detail)
        except (SQLAlchemyError, ValueError, KeyError) as error:
            # the job's own end matters more; the next look settles what is left open here
            log.exception("run of job %s is not settled: %s", job.id, type(error).__name__)
            return ()

    def settle(self, c: Connection, job_id: int, status: str, reason: str, detail: str) -> Sequence[DeliveryView]:
        """Write what became of the run. Safe to repeat: a run that is settled stays as it is."""
        run = c.execute(select(run_t).where(and_(run_t.c.job_id == job_id, run_t.c.state.in_(OPEN)))).first()
        if run is None or run.state == "waiting":
            return ()
        row = c.execute(select(schedule_t).where(schedule_t.c.id == run.schedule_id)).first()
        now = self.clock.ms()
        state = {"done": "ok", "cancelled": "cancelled"}.get(status, "failed")
        why = run.reason or reason
        if row is None:
            self._end(c, run.id, "cancelled" if state == "cancelled" else state, why, run.detail or detail, now)
            return ()
        if state == "failed" and run.attempt <= row.retries and why not in FINAL:
            wait = min(LONGEST_BACKOFF, row.backoff * 2 ** (run.attempt - 1))
            values = {"state": "waiting", "retry_at": now + wait * 1000, "reason": why, "detail": run.detail or detail}
            c.execute(update(run_t).where(run_t.c.id == run.id).values(**values))
            return ()
        ok = state == "ok"
        self._end(c, run.id, state, "" if ok else why, "" if ok else run.detail or detail, now)
        if state == "cancelled":
            return ()
        return self._recovered(c, row, run) if ok else self._missed(c, row, run, why, now)

    def left_open(self, c: Connection) -> Sequence[Any]:
        """Runs whose jobs have ended without settling them: cancelled ones, and what a crash left."""
        query = (
            select(run_t.c.id, run_t.c.job_id, job_t.c.status, job_t.c.reason, job_t.c.detail)
            .join(job_t, job_t.c.id == run_t.c.job_id)
            .where(and_(run_t.c.state.in_(("queued", "running")), job_t.c.status.not_in(("todo", "doing", "waiting"))))
            .limit(200)
        )
        return list(c.execute(query).all())

    # ---- what follows

    def _end(self, c: Connection, run_id: int, state: str, reason: str, detail: str, now: int) -> None:
        values = {"state": state, "reason": reason, "detail": detail[:4_000], "ended_at": now, "retry_at": None}
        c.execute(update(run_t).where(run_t.c.id == run_id).values(**values))

    def _recovered(self, c: Connection, row: Row[Any], run: Row[Any]) -> Sequence[DeliveryView]:
        if not row.failures and row.alerted_at is None:
            return ()
        c.execute(update(schedule_t).where(schedule_t.c.id == row.id).values(failures=0, alerted_at=None))
        if row.alerted_at is None:
            return ()
        return self._say(c, row, f"schedule:{row.id}:recovered:{run.id}", "schedule.recovered", name=row.name)

    def _missed(self, c: Connection, row: Row[Any], run: Row[Any], why: str, now: int) -> Sequence[DeliveryView]:
        n = row.failures + 1
        values: dict[str, object] = {"failures": n}
        told: Sequence[DeliveryView] = ()
        pausing = bool(row.pause_after and n >= row.pause_after) or why in WITHOUT_RIGHT
        alarming = row.alerted_at is None and bool(row.alert_after) and (n >= row.alert_after or pausing)
        if pausing and row.paused_at is None:
            values |= {"paused_at": now, "paused_why": why if why in WITHOUT_RIGHT else "schedule.paused_failures"}
        if alarming:
            values["alerted_at"] = now
            lang = language(c, row, now)
            reason = explained(self.words, lang, why, _params(run.detail))
            key = "schedule.alert.paused" if pausing else "schedule.alert"
            told = self._say(c, row, f"schedule:{row.id}:alert:{run.id}", key, name=row.name, n=n, reason=reason)
        c.execute(update(schedule_t).where(schedule_t.c.id == row.id).values(**values))
        return told

    def _say(self, c: Connection, row: Row[Any], key: str, text: str, **params: object) -> Sequence[DeliveryView]:
        said = self.words.say(language(c, row, self.clock.ms()), text, **params)
        made = self.runs.push(c, self.outbox, row, key, Outgoing(kind="notice", text=said))
        return () if made is None else (made,)


def _params(detail: str) -> dict[str, object]:
    try:
        found = json.loads(detail or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
