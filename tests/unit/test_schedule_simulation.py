"""A thousand days of fifty schedules with clock jumps, restarts and crashes: nothing twice, nothing missed unduly.

A part of it runs with every suite; `SCHEDULE_DAYS=1000` runs the whole. What should have run is worked out from
calendars written by hand here, from where the wall clock was, and not by the code under test.
"""

from __future__ import annotations

import heapq
import os
import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from agent.schedules.planning import ON_TIME, Rule, first, is_due, plan
from agent.schedules.workdays import Workdays

DAYS = int(os.environ.get("SCHEDULE_DAYS", "40"))
BEGIN = datetime(2024, 3, 1, tzinfo=UTC)
SHANGHAI = ZoneInfo("Asia/Shanghai")
WORK = Workdays()
Times = Callable[[date], list[tuple[int, int]]]


def at(*clock: tuple[int, int]) -> Times:
    return lambda day: list(clock)


def on(fits: Callable[[date], bool], *clock: tuple[int, int]) -> Times:
    return lambda day: list(clock) if fits(day) else []


def each(minutes: int, start: int = 0, end: int = 24) -> Times:
    made = [(m // 60, m % 60) for m in range(start * 60, end * 60, minutes)]
    return lambda day: made


def last_workday(day: date) -> bool:
    return WORK.works(day) and not any(
        WORK.works(later) for n in range(1, 32) if (later := day + timedelta(days=n)).month == day.month
    )


# expression, and the same by hand
KINDS: list[tuple[str, Times]] = [
    ("0 9 * * *", at((9, 0))),
    ("30 18 * * *", at((18, 30))),
    ("0 0 * * *", at((0, 0))),
    ("0 9,12,18 * * *", at((9, 0), (12, 0), (18, 0))),
    ("0 9 * * 1-5", on(lambda d: d.isoweekday() < 6, (9, 0))),
    ("0 10 * * 6,7", on(lambda d: d.isoweekday() > 5, (10, 0))),
    ("0 9 1 * *", on(lambda d: d.day == 1, (9, 0))),
    ("0 9 1,15 * *", on(lambda d: d.day in (1, 15), (9, 0))),
    ("30 23 L * *", on(lambda d: (d + timedelta(days=1)).day == 1, (23, 30))),
    ("0 18 LW * *", on(last_workday, (18, 0))),
    ("15 8 W * *", on(WORK.works, (8, 15))),
    ("0 11 H * *", on(lambda d: not WORK.works(d), (11, 0))),
    ("0 0 1 1 *", on(lambda d: (d.month, d.day) == (1, 1), (0, 0))),
    ("0 3 29 2 *", on(lambda d: (d.month, d.day) == (2, 29), (3, 0))),
    ("0 * * * *", each(60)),
    ("0 */2 * * *", each(120)),
    ("*/30 * * * *", each(30)),
    ("*/30 9-17 * * *", each(30, 9, 18)),
    ("0 6 * * 2", on(lambda d: d.isoweekday() == 2, (6, 0))),
    ("45 4 * * *", at((4, 45))),
]
MISSED = (("skip", 0), ("once", 0), ("all", 6 * 3600), ("all", 0))


def ms(moment: datetime) -> int:
    return int(moment.timestamp()) * 1000


@dataclass
class Job:
    """One schedule, as its row holds it, and everything that was started for it."""

    rule: Rule
    times: Times
    cursor: int
    next_at: int | None
    rows: dict[int, str] = field(default_factory=dict)
    started: Counter[int] = field(default_factory=Counter)
    expected: set[int] = field(default_factory=set)

    def planned(self, after: int, to: int) -> Iterator[int]:
        """Planned times by hand, after `after` and not after `to`."""
        day = datetime.fromtimestamp(after / 1000, SHANGHAI).date()
        while True:
            for hour, minute in self.times(day):
                moment = ms(datetime(day.year, day.month, day.day, hour, minute, tzinfo=SHANGHAI))
                if after < moment <= to:
                    yield moment
            day += timedelta(days=1)
            if ms(datetime(day.year, day.month, day.day, tzinfo=SHANGHAI)) > to:
                return

    def look(self, now: int, *, crash: bool = False, twice: bool = False) -> None:
        """One look of the ticker. What it leads to is one transaction, which a crash undoes whole."""
        if not is_due(self.next_at, self.cursor, now):
            return
        cursor, made = self.cursor, plan(self.rule, self.cursor, now, 0, WORK)
        if crash:
            return
        for process in range(1 + twice):
            if self.cursor != cursor and process:
                continue  # the second process finds that the row has changed
            self.cursor, self.next_at = made.cursor, made.next_at
            for entry in made.entries:
                if entry.act == "run" and self.rows.get(entry.planned_at, "missed") == "missed":
                    self.rows[entry.planned_at] = "run"
                    self.started[entry.planned_at] += 1
                elif entry.act == "missed":
                    self.rows.setdefault(entry.planned_at, "missed")

    def passes(self, before: int, now: int) -> None:
        """The wall clock went from one look to the next without a jump: every time between must run."""
        self.expected.update(self.planned(before, now))

    def gap(self, before: int, now: int) -> None:
        """Nobody looked between these times of the wall clock: the policy decides."""
        times = list(self.planned(max(before, now - 32 * 86_400_000), now))
        on_time = [p for p in times if now - p <= ON_TIME]
        late = [p for p in times if now - p > ON_TIME]
        self.expected.update(on_time)
        if self.rule.missed == "once" and late and not on_time:
            self.expected.add(late[-1])
        elif self.rule.missed == "all":
            within = self.rule.missed_within * 1000
            self.expected.update(p for p in late[-100:] if not within or now - p <= within)


def jobs(start: int, rnd: random.Random) -> list[Job]:
    made = []
    for n in range(50):
        expression, times = KINDS[n % len(KINDS)]
        missed, within = MISSED[(n // len(KINDS) + n) % len(MISSED)]
        overlap = rnd.choice(("queue", "parallel"))
        rule = Rule(expression=expression, zone="Asia/Shanghai", missed=missed, missed_within=within, overlap=overlap)
        made.append(Job(rule, times, cursor=start, next_at=first(rule, start, WORK)))
    return made


class World:
    """Real time goes on; the wall clock follows, jumps, and the process comes and goes."""

    def __init__(self, seed: int) -> None:
        self.rnd = random.Random(seed)
        self.wall = ms(BEGIN)
        self.jobs = jobs(self.wall, self.rnd)
        self.events: Counter[str] = Counter()

    def run(self, days: int) -> None:
        left = days * 86_400_000
        while left > 0:
            span = min(left, int(self.rnd.expovariate(1 / (11 * 3_600_000))) + 60_000)
            left -= span
            self.up(span)
            left -= self.upset()

    def up(self, span: int) -> None:
        """The process looks every second; only looks at which something is due matter."""
        begin, end = self.wall, self.wall + span
        heap = [(job.next_at, n) for n, job in enumerate(self.jobs) if job.next_at is not None]
        heapq.heapify(heap)
        while heap and heap[0][0] <= end - 1000:
            due, n = heapq.heappop(heap)
            job = self.jobs[n]
            job.look(max(begin, due) + self.rnd.randrange(0, 1000), twice=self.rnd.random() < 0.01)
            if job.next_at is not None:
                heapq.heappush(heap, (job.next_at, n))
        for job in self.jobs:
            job.look(end)
            job.passes(begin, end)
        self.wall = end

    def upset(self) -> int:
        """Something happens; returns the real time that it took. Afterwards all schedules are looked at."""
        before, took = self.wall, 0
        kind = self.rnd.choice(("restart", "restart", "crash", "long", "forward", "back", "far", "small"))
        self.events[kind] += 1
        if kind in ("restart", "crash", "long"):
            if kind == "crash":  # in the middle of a look: nothing of it was kept
                for job in self.jobs:
                    job.look(self.wall + 1000, crash=True)
            took = int(self.rnd.uniform(1, 3 * 86_400 if kind == "long" else 5_400) * 1000)
            self.wall += took
        elif kind == "forward":
            self.wall += int(self.rnd.uniform(2, 5 * 3600) * 1000)
        elif kind == "small":
            self.wall -= self.rnd.randrange(0, 4_900)
        else:
            self.wall -= int(self.rnd.uniform(6, (2 * 86_400 if kind == "far" else 2 * 3600)) * 1000)
        for job in self.jobs:
            job.look(self.wall)
            if self.wall > before:
                job.gap(before, self.wall)
        return took


@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", [1, 2] if DAYS < 500 else [1])
def test_nothing_runs_twice_and_nothing_is_missed_beyond_its_policy(seed: int) -> None:
    world = World(seed)
    world.run(DAYS)
    started = sum(sum(job.started.values()) for job in world.jobs)
    for job in world.jobs:
        twice = [p for p, count in job.started.items() if count > 1]
        assert twice == []
        assert set(job.started) == job.expected, job.rule
    assert started > DAYS * 100
    if DAYS >= 30:
        assert {"restart", "crash", "long", "forward", "back", "far", "small"} <= set(world.events)
    print(f"{DAYS} days, {len(world.jobs)} schedules, {started} runs, upsets: {dict(world.events)}")
