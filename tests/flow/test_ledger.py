"""The ledger: entering once, lanes in order, fencing, one ending. On SQLite, and on PostgreSQL with its queue."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from storage.background import Background
from storage.bus import Bus
from storage.clock import ManualClock
from storage.database import SqliteDatabase
from storage.dispatch import LocalDispatcher
from storage.envelope import Inbound, Outgoing, Part
from storage.errors import AppError, Lost, Unavailable
from storage.ledger import Ending, JobView, Ledger
from storage.live import Live
from storage.postgres import PostgresDatabase
from storage.runner import Interrupted, Runner, Work
from storage.shared_dispatch import SharedDispatcher

AnyDatabase = SqliteDatabase | PostgresDatabase


def inbound(n: int, conversation: str = "c1", *extra: str) -> Inbound:
    return Inbound(
        tenant="main",
        bot="b",
        channel="feishu",
        keys=(f"event-{n}", f"msg-{n}", *extra),
        vendor_id=f"msg-{n}",
        conversation=conversation,
        kind="direct",
        sender="ou_1",
        parts=(Part(kind="text", text=f"hello {n}"),),
    )


class Echo:
    """Answers what was said and notes the order in which it ran."""

    def __init__(self) -> None:
        self.ran: list[int] = []
        self.together = 0
        self.most_together = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.error: AppError | None = None

    async def run(self, work: Work) -> Ending:
        self.together += 1
        self.most_together = max(self.most_together, self.together)
        try:
            await self.gate.wait()
            if self.error:
                raise self.error
            self.ran.append(work.job.id)
            return Ending(say=(Outgoing(kind="answer", text="ok"),))
        finally:
            self.together -= 1

    def excuse(self, job: JobView, error: AppError) -> Ending:
        return Ending(status="failed", reason=error.code, say=(Outgoing(kind="notice", text=error.code),))


class House:
    def __init__(self, db: AnyDatabase, clock: ManualClock, most_running: int = 100) -> None:
        self.ledger, self.live, self.echo, self.background = Ledger(db, clock), Live(), Echo(), Background()
        self.runner = Runner(self.ledger, self.live, {"message": self.echo})
        self.dispatcher: LocalDispatcher | SharedDispatcher
        if isinstance(db, PostgresDatabase):
            self.dispatcher = SharedDispatcher(
                self.ledger, self.runner, self.background, db, Bus(), most_running=most_running
            )
            self.ledger.enlist = self.dispatcher.enlist
        else:
            self.dispatcher = LocalDispatcher(self.ledger, self.runner, self.background, most_running=most_running)
        self.ledger.on_job = self.dispatcher.submit
        self.sent: list[str] = []
        self.ledger.on_deliveries = lambda rows: self.sent.extend(row.key for row in rows)

    async def settled(self) -> None:
        """Wait until nothing is left to do."""
        async with asyncio.timeout(20):
            while await self.ledger.open_jobs() or self.runner.running:
                await asyncio.sleep(0.01)


@pytest.fixture
async def made(any_db: AnyDatabase, clock: ManualClock) -> AsyncIterator[Callable[..., Awaitable[House]]]:
    """Makes houses whose dispatchers run, and ends them."""
    houses: list[House] = []

    async def make(*, start: bool = True, **more: int) -> House:
        house = House(any_db, clock, **more)
        houses.append(house)
        if start:
            await house.dispatcher.start()
        return house

    yield make
    for house in houses:
        house.echo.gate.set()
        await house.dispatcher.stop(1)
        await house.background.stop()


Make = Callable[..., Awaitable[House]]


async def test_the_same_message_under_any_of_its_ids_enters_once(made: Make) -> None:
    house = await made()
    first = await house.ledger.accept(inbound(1))
    again = await house.ledger.accept(inbound(1))
    other_event = await house.ledger.accept(
        Inbound(
            tenant="main",
            bot="b",
            channel="feishu",
            keys=("event-9", "msg-1"),
            vendor_id="msg-1",
            conversation="c1",
            kind="direct",
            sender="ou_1",
        )
    )
    await house.settled()
    assert first.fresh
    assert not again.fresh
    assert not other_event.fresh
    assert again.job_id == other_event.job_id == first.job_id
    assert house.echo.ran == [first.job_id]
    assert house.sent == [f"{first.job_id}-0"]


async def test_a_lane_runs_in_order_and_lanes_run_side_by_side(made: Make) -> None:
    house = await made()
    house.echo.gate.clear()
    jobs = [(await house.ledger.accept(inbound(n, f"c{n % 2}"))).job_id for n in range(10)]
    async with asyncio.timeout(5):
        while house.echo.together < 2:
            await asyncio.sleep(0)
    house.echo.gate.set()
    await house.settled()
    assert house.echo.most_together == 2
    assert [j for j in house.echo.ran if j in jobs[::2]] == jobs[::2]
    assert [j for j in house.echo.ran if j in jobs[1::2]] == jobs[1::2]


async def test_an_open_job_is_taken_up_after_a_restart(made: Make, any_db: AnyDatabase, clock: ManualClock) -> None:
    dead = Ledger(any_db, clock)
    accepted = await dead.accept(inbound(1))
    assert await dead.claim(accepted.job_id) is not None  # claimed, and then the process ended
    house = await made()
    await house.settled()
    assert house.echo.ran == [accepted.job_id]


async def test_an_attempt_that_was_taken_over_writes_nothing(made: Make) -> None:
    house = await made(start=False)
    house.ledger.on_job = lambda job: None
    accepted = await house.ledger.accept(inbound(1))
    zombie = await house.ledger.claim(accepted.job_id)
    current = await house.ledger.claim(accepted.job_id)
    assert zombie is not None
    assert current is not None
    ending = Ending(say=(Outgoing(kind="answer", text="x"),))
    for late in (
        lambda: house.ledger.finish(zombie, ending),
        lambda: house.ledger.record_step(zombie, 1, "model", "model", "", "", 0),
    ):
        with pytest.raises(Lost):
            await late()
    await house.ledger.finish(current, ending)
    assert house.sent == [f"{accepted.job_id}-0"]


async def test_a_recorded_step_is_not_run_again(any_db: AnyDatabase, clock: ManualClock) -> None:
    ledger, ran = Ledger(any_db, clock), []

    async def act() -> str:
        ran.append(1)
        return "result"

    accepted = await ledger.accept(inbound(1))
    first = await ledger.claim(accepted.job_id)
    assert first is not None
    assert await Work(ledger, Live(), first).step("tool", "tool", act, repeatable=False) == "result"
    second = await ledger.claim(accepted.job_id)
    assert second is not None
    assert await Work(ledger, Live(), second).step("tool", "tool", act, repeatable=False) == "result"
    assert ran == [1]


async def test_a_cut_off_step_that_must_not_repeat_is_not_run_again(any_db: AnyDatabase, clock: ManualClock) -> None:
    ledger = Ledger(any_db, clock)
    accepted = await ledger.accept(inbound(1))
    first = await ledger.claim(accepted.job_id)
    assert first is not None
    await ledger.start_step(first, 1, "pay", "tool", "{}")
    second = await ledger.claim(accepted.job_id)
    assert second is not None

    async def act() -> str:
        raise AssertionError("ran twice")

    with pytest.raises(Interrupted):
        await Work(ledger, Live(), second).step("pay", "tool", act, repeatable=False)


async def test_a_job_that_keeps_crashing_is_given_up(made: Make) -> None:
    house = await made(start=False)
    house.ledger.on_job = lambda job: None
    accepted = await house.ledger.accept(inbound(1))
    for _ in range(3):
        await house.ledger.claim(accepted.job_id)
    await house.runner.run(accepted.job_id)
    assert house.echo.ran == []
    assert house.sent == [f"{accepted.job_id}-0"]


async def test_a_failure_ends_the_job_with_an_answer(made: Make) -> None:
    house = await made()
    house.echo.error = Unavailable("model.down")
    accepted = await house.ledger.accept(inbound(1))
    await house.settled()
    assert house.sent == [f"{accepted.job_id}-0"]
    assert await house.ledger.open_jobs() == []


async def test_a_cancelled_job_says_so_once(made: Make) -> None:
    house = await made()
    house.echo.gate.clear()
    accepted = await house.ledger.accept(inbound(1))
    async with asyncio.timeout(5):
        while accepted.job_id not in house.runner.running:
            await asyncio.sleep(0)
    said = (Outgoing(kind="notice", text="stopped"),)
    assert await house.ledger.cancel("main", accepted.job_id, said)
    assert not await house.ledger.cancel("main", accepted.job_id, said)
    house.runner.stop(accepted.job_id)
    await house.settled()
    assert house.sent == [f"{accepted.job_id}-0"]


async def test_tenants_take_turns(made: Make) -> None:
    house = await made(most_running=1)
    house.echo.gate.clear()
    noisy = [(await house.ledger.accept(inbound(n, f"n{n}"))).job_id for n in range(6)]
    quiet = (
        await house.ledger.accept(
            Inbound(
                tenant="other",
                bot="b",
                channel="feishu",
                keys=("q",),
                vendor_id="q",
                conversation="q",
                kind="direct",
                sender="ou_2",
            )
        )
    ).job_id
    house.echo.gate.set()
    await house.settled()
    assert house.echo.ran.index(quiet) <= 2
    assert sorted(house.echo.ran) == sorted([*noisy, quiet])
