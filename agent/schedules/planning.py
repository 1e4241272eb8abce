"""What is to be done now about the planned times of one schedule. Pure: no clock, no database.

The cursor says up to where planned times have been judged. A wall clock that was set back makes the cursor go back
with it; times that were run already are found again then, and dropped where runs are written, by their unique key.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from agent.schedules.cron import parse
from agent.schedules.workdays import Workdays

ON_TIME = 60_000
BACK = 5_000
MOST_BACK = 32 * 86_400_000
MOST_CAUGHT_UP = 100
MOST_QUEUED = 200
MISSED = ("skip", "once", "all")
OVERLAP = ("skip", "queue", "parallel")


@dataclass(frozen=True, kw_only=True, slots=True)
class Rule:
    """When a schedule runs, and what holds for times that were missed or that overlap.

    Attributes:
        missed: `skip`, `once` (one run for all), `all` (each, at most `missed_within` seconds late; 0: however late).
        overlap: `skip`, `queue`, `parallel`.
        expires_at: ms; nothing is planned after it.
    """

    expression: str
    zone: str
    missed: str = "once"
    missed_within: int = 0
    overlap: str = "skip"
    expires_at: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One planned time and what is to be done: `run`, `missed` or `skipped`. `count`: how many it stands for."""

    planned_at: int
    act: str
    count: int = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What one look at a schedule leads to. `next_at` is None when nothing is to come."""

    entries: tuple[Entry, ...]
    cursor: int
    next_at: int | None


def is_due(next_at: int | None, cursor: int, now: int) -> bool:
    """True if a schedule is to be looked at: its time has come, or the clock was set back behind what was judged."""
    return (next_at is not None and next_at <= now) or cursor > now + BACK


def plan(rule: Rule, cursor: int, now: int, running: int, workdays: Workdays) -> Plan:
    """Judge all planned times after the cursor up to now.

    Args:
        running: runs of this schedule that have not ended.

    Raises:
        Invalid: the expression or the zone cannot be read.
    """
    start = min(cursor, now)
    if not parse(rule.expression).once:
        start = max(start, now - MOST_BACK)
    times = _times(rule, start, workdays)
    late: deque[int] = deque(maxlen=MOST_CAUGHT_UP)
    on_time: list[int] = []
    n_late, next_at = 0, None
    for at in times:
        if at > now:
            next_at = at
            break
        if now - at > ON_TIME:
            late.append(at)
            n_late += 1
        else:
            on_time.append(at)
    runs, missed = _caught_up(rule, late, n_late, bool(on_time), now)
    entries = [*missed, *_overlapped(rule, runs, on_time, running)]
    return Plan(entries=tuple(entries), cursor=now, next_at=next_at)


def first(rule: Rule, now: int, workdays: Workdays) -> int | None:
    """The first planned time after now."""
    return next(_times(rule, now, workdays), None)


def _times(rule: Rule, after: int, workdays: Workdays) -> Iterator[int]:
    for at in parse(rule.expression).times(after, rule.zone, workdays):
        if rule.expires_at is not None and at > rule.expires_at:
            return
        yield at


def _caught_up(rule: Rule, late: deque[int], n_late: int, on_time: bool, now: int) -> tuple[list[int], list[Entry]]:
    """Which late times are run after all, and what is missed for good."""
    if not late:
        return [], []
    if rule.missed == "once" and not on_time:
        runs = [late[-1]]
    elif rule.missed == "all":
        runs = [at for at in late if not rule.missed_within or now - at <= rule.missed_within * 1000]
    else:
        runs = []
    left = [at for at in late if at not in set(runs)]
    gone = n_late - len(runs)
    if not gone:
        return runs, []
    # more were missed than are kept in mind: those lie before the first that is
    last = left[-1] if left else late[0] - 1
    return runs, [Entry(planned_at=last, act="missed", count=gone)]


def _overlapped(rule: Rule, late: list[int], on_time: list[int], running: int) -> list[Entry]:
    """Late times that are to be run after all wait for each other, whatever holds for times that overlap."""
    most = {"skip": 1, "queue": MOST_QUEUED}.get(rule.overlap)
    made = []
    for at in [*late, *on_time]:
        caught_up = rule.missed == "all" and at in late
        if most is not None and running >= most and not caught_up:
            made.append(Entry(planned_at=at, act="skipped"))
            continue
        made.append(Entry(planned_at=at, act="run"))
        running += 1
    return made
