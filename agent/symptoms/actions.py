"""What page, API and support bundle ask about a symptom: its likely causes, the likeliest first."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field

from agent.symptoms.case import BotCase, Long, PushCase, TaskCase, read_pushes, read_tasks
from agent.symptoms.causes import Cause, bot_of, push_of, slow_of, timeout_of
from storage.clock import Clock
from storage.database import Database
from storage.errors import Invalid
from storage.principal import Principal

HOUR = 3_600_000
SYMPTOMS = ("timeout", "slow", "push")
MOST_EXAMPLES = 5
MOST_HOURS = 168


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """One cause, and how often it was met.

    Attributes:
        name, subject, code, params: as of `Cause`.
        count: how many cases have it. jobs: some of their tasks, the newest first.
        last: when it was met last, in ms; 0 for what is so now.
    """

    name: str
    subject: str
    code: str
    params: dict[str, str]
    count: int
    jobs: tuple[int, ...]
    last: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Diagnosis:
    """What the traces say about a symptom. `looked`: at how many tasks or deliveries; `cases`: how many had it."""

    symptom: str
    hours: int
    looked: int
    cases: int
    verdicts: tuple[Verdict, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class SymptomActions:
    """Use cases around symptoms.

    Attributes:
        bots: what the pulses of a tenant's bots say.
    """

    db: Database
    clock: Clock
    bots: Callable[[str], Awaitable[Sequence[BotCase]]]
    long: Long = field(default_factory=Long)

    async def diagnose(self, who: Principal, symptom: str, *, hours: int = 24) -> Diagnosis:
        """The causes of `timeout`, `slow` or `push` in the last hours. Right: health.view.

        Raises:
            Invalid: `symptom.unknown`.
        """
        who.require("health.view")
        if symptom not in SYMPTOMS or not 1 <= hours <= MOST_HOURS:
            raise Invalid("symptom.unknown", field="symptom")
        now = self.clock.ms()
        since = now - hours * HOUR
        bots = list(await self.bots(who.tenant))
        if symptom == "push":
            pushes, looked = await self.db.read(lambda c: read_pushes(c, who.tenant, since, now))
            by_name = {bot.name: bot for bot in bots}
            found = _pairs((case, push_of(case, by_name, self.long)) for case in pushes)
            return _diagnosis(symptom, hours, looked, found)
        tasks = await self.db.read(lambda c: read_tasks(c, who.tenant, since, now))
        cause = timeout_of if symptom == "timeout" else slow_of
        cases = _pairs((task, cause(task, self.long)) for task in tasks)
        if symptom == "timeout":
            cases += [(bot, made) for bot in bots if (made := bot_of(bot)) is not None]
        return _diagnosis(symptom, hours, len(tasks), cases)


Case = TaskCase | PushCase | BotCase


def _pairs(found: Iterable[tuple[Case, Cause | None]]) -> list[tuple[Case, Cause]]:
    return [(case, cause) for case, cause in found if cause is not None]


def _diagnosis(symptom: str, hours: int, looked: int, found: Sequence[tuple[Case, Cause]]) -> Diagnosis:
    grouped: dict[tuple[str, str, str], list[tuple[Case, Cause]]] = defaultdict(list)
    for case, cause in found:
        grouped[(cause.name, cause.subject, cause.code)].append((case, cause))
    verdicts = []
    for (name, subject, code), mine in grouped.items():
        jobs = [job for case, _ in mine if (job := _job(case))]
        verdicts.append(
            Verdict(
                name=name,
                subject=subject,
                code=code,
                params=mine[0][1].params,
                count=len(mine),
                jobs=tuple(dict.fromkeys(jobs))[:MOST_EXAMPLES],
                last=max(_at(case) for case, _ in mine),
            )
        )
    ordered = sorted(verdicts, key=lambda v: (-v.count, -v.last))
    return Diagnosis(symptom=symptom, hours=hours, looked=looked, cases=len(found), verdicts=tuple(ordered))


def _job(case: Case) -> int:
    if isinstance(case, TaskCase):
        return case.id
    return case.job if isinstance(case, PushCase) else 0


def _at(case: Case) -> int:
    return (case.last_error_at or 0) if isinstance(case, BotCase) else case.at
