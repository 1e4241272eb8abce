"""Processes that share a PostgreSQL: what one does, the others know. Each `Machine` is a process's worth of parts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

import pytest
from sqlalchemy import Connection, insert, select, text, update

from storage.background import Background
from storage.bus import SharedBus
from storage.clock import Clock
from storage.errors import Unavailable
from storage.follow import Follow
from storage.leases import SharedLeases
from storage.ledger import Ledger
from storage.live import LiveEvent
from storage.postgres import PostgresDatabase
from storage.runner import Runner
from storage.shared_dispatch import SharedDispatcher
from storage.shared_live import SharedLive
from storage.tables.people import Session, User
from storage.tables.system import Setting
from tests.flow.test_ledger import Echo, inbound
from tests.postgres import Cluster

pytestmark = pytest.mark.pg

setting_t = Setting.__table__  # type: ignore[attr-defined]
user_t = User.__table__  # type: ignore[attr-defined]
session_t = Session.__table__  # type: ignore[attr-defined]


@dataclass(kw_only=True)
class Machine:
    """The shared parts of one process."""

    db: PostgresDatabase
    background: Background = field(default_factory=Background)
    dead: float = 60.0

    def __post_init__(self) -> None:
        self.bus = SharedBus(self.db.conninfo, self.db.origin, self.background)
        self.live = SharedLive(self.bus)
        self.leases = SharedLeases(self.db, self.db.origin, self.background, self.bus)
        self.follow = Follow(self.bus, self.background)
        self.ledger, self.echo = Ledger(self.db, Clock()), Echo()
        self.runner = Runner(self.ledger, self.live, {"message": self.echo})
        self.dispatcher = SharedDispatcher(self.ledger, self.runner, self.background, self.db, self.bus, dead=self.dead)
        self.ledger.enlist, self.ledger.on_job = self.dispatcher.enlist, self.dispatcher.submit

    async def stop(self) -> None:
        self.echo.gate.set()
        await self.dispatcher.stop(1)
        await self.leases.stop()
        await self.bus.stop()
        await self.background.stop()
        self.db.close()


Make = Callable[..., Awaitable[Machine]]


@pytest.fixture
async def machines(postgres: Cluster) -> AsyncIterator[Make]:
    """Makes machines on one database."""
    from tests.conftest import TEMPLATE

    name, made = postgres.database(TEMPLATE), list[Machine]()

    async def make(*, work: bool = False) -> Machine:
        machine = Machine(db=PostgresDatabase(postgres.url(name)))
        made.append(machine)
        await machine.bus.start()
        if work:
            await machine.dispatcher.start()
        return machine

    yield make
    for machine in made:
        await machine.stop()
    postgres.drop(name)


async def until(check: Callable[[], object], seconds: float = 10) -> None:
    """Wait until something is so."""
    async with asyncio.timeout(seconds):
        while not check():
            await asyncio.sleep(0.01)


# ---- jobs


async def test_three_take_turns_on_lanes_and_never_share_one(machines: Make) -> None:
    three = [await machines(work=True) for _ in range(3)]
    accepted = await asyncio.gather(*(three[n % 3].ledger.accept(inbound(n, f"c{n % 6}")) for n in range(60)))
    async with asyncio.timeout(30):
        while await three[0].ledger.open_jobs():
            await asyncio.sleep(0.02)
    ran = [job for machine in three for job in machine.echo.ran]
    assert sorted(ran) == sorted(one.job_id for one in accepted)
    attempts = await three[0].db.read(lambda c: set(c.execute(text("SELECT attempts FROM job")).scalars()))
    assert attempts == {1}


async def test_the_same_message_at_three_at_once_enters_once(machines: Make) -> None:
    three = [await machines() for _ in range(3)]
    for n in range(20):
        found = await asyncio.gather(*(machine.ledger.accept(inbound(n, f"c{n}")) for machine in three))
        assert sorted(one.fresh for one in found) == [False, False, True]
        assert len({one.job_id for one in found}) == 1


async def test_what_a_schedule_enters_at_three_at_once_fires_once(machines: Make) -> None:
    three = [await machines(work=True) for _ in range(3)]
    for n in range(20):
        values = {"tenant": "main", "key": f"cron:1:{n}", "lane": "cron:1", "kind": "message", "payload": "{}"}
        found = await asyncio.gather(*(machine.ledger.add_job(**values) for machine in three))
        assert sorted(one.fresh for one in found) == [False, False, True]
    async with asyncio.timeout(20):
        while await three[0].ledger.open_jobs():
            await asyncio.sleep(0.02)
    ran = [job for machine in three for job in machine.echo.ran]
    assert len(ran) == len(set(ran)) == 20


async def test_a_job_is_stopped_wherever_it_runs(machines: Make) -> None:
    one, other = await machines(work=True), await machines()
    one.echo.gate.clear()
    accepted = await other.ledger.accept(inbound(1))
    await until(lambda: accepted.job_id in one.runner.running)
    assert await other.ledger.cancel("main", accepted.job_id)
    assert not other.runner.stop(accepted.job_id)
    await until(lambda: not one.runner.running)
    assert one.echo.ran == []


async def test_what_a_dead_process_held_is_taken_over(machines: Make) -> None:
    dead, alive = await machines(work=True), await machines()
    dead.echo.gate.clear()
    accepted = await alive.ledger.accept(inbound(1))
    await until(lambda: accepted.job_id in dead.runner.running)
    # it holds the entry and the job, and nothing is heard of it any more
    await alive.db.write(lambda c: c.execute(text("DELETE FROM procrastinate_workers")).rowcount)
    alive.dispatcher.dead = 2.0
    await until_up(alive)
    await alive.dispatcher.start()
    await until(lambda: alive.echo.ran == [accepted.job_id])
    dead.echo.gate.set()  # it wakes up and wants to answer too
    await until(lambda: not dead.runner.running)
    said = text("SELECT count(*) FROM message WHERE direction = 'out'")
    assert await alive.db.read(lambda c: c.execute(said).scalar()) == 1


async def until_up(machine: Machine) -> None:
    """The server must have been up for longer than a heartbeat."""
    up = text("SELECT now() - pg_postmaster_start_time() > interval '4 seconds'")
    async with asyncio.timeout(10):
        while not await machine.db.read(lambda c: c.execute(up).scalar()):
            await asyncio.sleep(0.1)


# ---- leases


async def test_a_lease_has_one_holder_and_moves_when_it_is_let_go(machines: Make) -> None:
    one, other = await machines(), await machines()
    told: list[tuple[str, bool]] = []
    other.leases.on_change(lambda name, held: told.append((name, held)))
    for machine in (one, other):
        machine.leases.want(["bot:1"], kind="bot")
        await machine.leases.start()
    assert one.leases.holds("bot:1")
    assert not other.leases.holds("bot:1")
    one.leases.want([], kind="bot")
    await until(lambda: other.leases.holds("bot:1"))
    assert not one.leases.holds("bot:1")
    assert ("bot:1", True) in told


async def test_a_lease_that_runs_out_is_taken_and_its_holder_knows_before(machines: Make) -> None:
    one, other = await machines(), await machines()
    one.leases.want(["bot:1"], kind="bot")
    await one.leases.round()
    other.leases.want(["bot:1"], kind="bot")
    await other.leases.round()
    assert not other.leases.holds("bot:1")
    await other.db.write(lambda c: c.execute(text("UPDATE lease SET until = 1")).rowcount)
    await until_free(other)
    assert other.leases.holds("bot:1")
    await one.leases.round()
    assert not one.leases.holds("bot:1")


async def until_free(machine: Machine) -> None:
    """Take what is free; after a start of the server holders come first for as long as a lease lasts."""
    async with asyncio.timeout(15):
        while not machine.leases.holds("bot:1"):
            await machine.leases.round()
            await asyncio.sleep(0.1)


# ---- telling


async def test_what_is_watched_in_one_process_is_seen_from_all(machines: Make) -> None:
    one, other = await machines(), await machines()
    seen: list[LiveEvent] = []
    other.live.watch(7, seen.append)
    one.live.publish(LiveEvent(conversation=7, job=3, kind="job.started"))
    for n in range(300):
        one.live.publish(LiveEvent(conversation=7, job=3, kind="text", data={"delta": f"第{n}句。"}))
    assert one.live.text_so_far(3).endswith("第299句。")
    long = {"n": 1, "ok": True, "result": "很长" * 9000}
    one.live.publish(LiveEvent(conversation=7, job=3, kind="tool.ended", data=long))
    await until(lambda: seen and seen[-1].kind == "tool.ended")
    assert seen[0].kind == "job.started"
    assert "".join(e.data["delta"] for e in seen if e.kind == "text") == one.live.text_so_far(3)
    assert other.live.text_so_far(3) == one.live.text_so_far(3)
    assert seen[-1].data["result"].startswith("很长很长")
    one.live.publish(LiveEvent(conversation=7, job=3, kind="job.ended", data={"status": "done"}))
    await until(lambda: seen[-1].kind == "job.ended")
    assert other.live.text_so_far(3) == ""


async def test_a_process_follows_what_another_one_writes(machines: Make) -> None:
    one, other = await machines(), await machines()
    seen: list[str] = []

    async def look() -> None:
        query = select(setting_t.c.value).where(setting_t.c.key == "k")
        seen.append(str(await other.db.read(lambda c: c.execute(query).scalar())))

    other.follow.tables("settings", ("setting",), look)

    def put(c: Connection) -> None:
        c.execute(insert(setting_t), {"tenant": "main", "key": "k", "value": "1", "updated_at": 1})

    await one.db.write(put)
    await until(lambda: seen == ["1"])

    def change(c: Connection) -> None:
        c.execute(update(setting_t).values(value="2"))

    await other.db.write(change)  # its own: it knows
    await one.db.write(lambda c: c.execute(update(setting_t).values(value="3")).rowcount)
    await until(lambda: seen == ["1", "3"])


async def test_a_session_that_ended_elsewhere_ends_within_a_second(machines: Make) -> None:
    from security.sessions import Sessions

    one, other = await machines(), await machines()
    here, there = Sessions(one.db, Clock()), Sessions(other.db, Clock())
    other.follow.tables("sessions", ("session", "user"), there.sweep)
    await there.load()

    def fill(c: Connection) -> str:
        row = {"id": 1, "tenant": "main", "name": "an", "name_key": "an", "role": "owner", "created_at": 1}
        c.execute(insert(user_t).values(lang="", theme="auto", version=1, totp_last_step=0, **row))
        return here.start(c, role="owner", user_id=1, ip="127.0.0.1", agent="")[0]

    value = await one.db.write(fill)
    live = await there.find(value)  # made by one, known to the other
    assert live is not None
    gone: list[str] = []
    there.on_end(gone.append)
    await here.revoke(live.id)
    await until(lambda: gone == [live.id], seconds=1.0)
    assert not there.alive(live.id)


# ---- the database


async def test_writes_that_read_first_run_one_after_another(machines: Make) -> None:
    two = [await machines() for _ in range(2)]

    def count(c: Connection) -> None:
        value = c.execute(select(setting_t.c.value).where(setting_t.c.key == "n")).scalar()
        if value is None:
            c.execute(insert(setting_t), {"tenant": "main", "key": "n", "value": "1", "updated_at": 1})
        else:
            c.execute(update(setting_t).where(setting_t.c.key == "n").values(value=str(int(value) + 1)))

    await asyncio.gather(*(two[n % 2].db.write(count) for n in range(60)))
    query = select(setting_t.c.value).where(setting_t.c.key == "n")
    assert await two[0].db.read(lambda c: c.execute(query).scalar()) == "60"


async def test_a_zero_character_can_be_said(machines: Make) -> None:
    one = await machines()

    def put(c: Connection) -> str:
        c.execute(insert(setting_t), {"tenant": "main", "key": "z", "value": "a\x00b", "updated_at": 1})
        return str(c.execute(select(setting_t.c.value).where(setting_t.c.key == "z")).scalar())

    assert await one.db.write(put) == "a\ufffdb"


async def test_a_database_that_is_away_is_said_so(machines: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    from storage import postgres

    for name in ("URGENT_PATIENCE", "PATIENCE", "SHARED_PATIENCE"):
        monkeypatch.setattr(postgres, name, 0.1)
    gone = PostgresDatabase("postgresql://nobody:x@127.0.0.1:1/none")
    for call in (gone.read(lambda c: 1), gone.write(lambda c: 1), gone.write(lambda c: 1, urgent=True)):
        with pytest.raises(Unavailable) as caught:
            await call
        assert caught.value.code == "db.unreachable"
    gone.close()
