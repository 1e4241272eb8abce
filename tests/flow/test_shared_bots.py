"""Where a bot lives when several processes share the work: one connection, one sender, moved by lease."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from sqlalchemy import text

from channels.homes import BotHomes
from storage.bus import SharedBus
from storage.clock import Clock
from storage.follow import Follow
from storage.leases import SharedLeases
from storage.postgres import PostgresDatabase
from storage.shared_dispatch import SharedDispatcher
from tests.bot_house import ADMIN, BotHouse
from tests.conftest import TEMPLATE
from tests.fakes.feishu_events import FeishuEvents
from tests.fakes.feishu_server import FeishuServer
from tests.postgres import Cluster

pytestmark = pytest.mark.pg
PATH = "/webhooks/feishu/hr-bot"


class SharedBotHouse(BotHouse):
    """One process of several."""

    def __init__(self, db: PostgresDatabase, files: Path) -> None:
        super().__init__(db, Clock(), files)  # type: ignore[arg-type]
        self.bus = SharedBus(db.conninfo, db.origin, self.background)
        self.leases = SharedLeases(db, db.origin, self.background, self.bus)
        self.homes = BotHomes(
            db, self.bots, self.sender, self.leases, self.bus, Follow(self.bus, self.background), self.background
        )
        self.shared = SharedDispatcher(self.ledger, self.runner, self.background, db, self.bus)
        self.ledger.enlist, self.ledger.on_job = self.shared.enlist, self.shared.submit
        self.ledger.on_deliveries = self.homes.submit

    async def start(self) -> SharedBotHouse:
        await self.bus.start()
        await self.bots.start()
        await self.homes.start()
        await self.leases.start()
        await self.shared.start()
        return self

    async def stop(self) -> None:
        await self.shared.stop(0.1)
        await self.homes.stop()
        await self.sender.stop(0.5)
        await self.bots.stop()
        await self.leases.stop()
        await self.bus.stop()
        await self.background.stop(1)
        await self.egress.close()
        self.db.close()

    def lives_here(self) -> bool:
        return self.homes.here("main", "hr-bot")


Make = Callable[[], Awaitable[SharedBotHouse]]


@pytest.fixture
async def houses(postgres: Cluster, tmp_path: Path) -> AsyncIterator[Make]:
    """Makes processes on one database."""
    name, made = postgres.database(TEMPLATE), list[SharedBotHouse]()

    async def make() -> SharedBotHouse:
        house = SharedBotHouse(PostgresDatabase(postgres.url(name)), tmp_path)
        made.append(house)
        return await house.start()

    yield make
    for house in made:
        await house.stop()
    postgres.drop(name)


@pytest.fixture
async def server() -> AsyncIterator[FeishuServer]:
    made = FeishuServer()
    await made.start()
    yield made
    await made.stop()


async def say(house: BotHouse, words: str) -> None:
    posted = FeishuEvents().message(words)
    assert (await house.post(PATH, posted.body, posted.headers))[0] == 200


async def test_one_process_holds_the_connection_and_another_takes_it_over(houses: Make, server: FeishuServer) -> None:
    one, other = await houses(), await houses()
    await one.feishu(server.base, mode="websocket", verification_token="")
    await one.until(lambda: len(server.gateway.sockets) == 1)
    home, away = (one, other) if one.lives_here() else (other, one)
    events = FeishuEvents(verification_token="")
    await server.gateway.push(events.raw_message("hello"))
    await one.delivered(1)
    assert not away.lives_here()
    proof = "connection" if away is other else "identity"
    await away.until(lambda: getattr(away.bots.pulse("main", "hr-bot"), proof) not in ("", "off"), 15)
    await home.leases.stop()  # as at the end of its process
    await away.until(lambda: away.lives_here() and len(server.gateway.sockets) == 1, 15)
    await server.gateway.push(events.raw_message("again"))
    await away.delivered(2)
    assert len(server.messages) == 2


async def test_any_process_takes_a_callback_and_one_sends_the_answer(houses: Make, server: FeishuServer) -> None:
    one, other = await houses(), await houses()
    await one.feishu(server.base)
    await other.until(lambda: other.bots.channel("main", "hr-bot"))
    for n in range(10):
        await say((one, other)[n % 2], f"question {n}")
    rows = await one.delivered(10)
    assert [row.status for row in rows] == ["delivered"] * 10
    assert len(server.messages) == 10
    assert one.lives_here() != other.lives_here()
    # what an admin changes in one process holds in the other
    await one.actions.pause(ADMIN, "hr-bot")
    await other.until(lambda: other.bots.config("main", "hr-bot").paused)  # type: ignore[union-attr]
    posted = FeishuEvents().message("too late")
    assert (await other.post(PATH, posted.body, posted.headers))[0] == 403


async def test_who_has_lost_the_lease_sends_nothing(houses: Make, server: FeishuServer) -> None:
    one = await houses()
    await one.feishu(server.base)
    await one.until(one.lives_here)
    late = "extract(epoch FROM now() + interval '1 hour') * 1000"
    stolen = text(f"UPDATE lease SET owner = 'somebody', until = {late} WHERE name LIKE 'bot:%'")
    await one.db.write(lambda c: c.execute(stolen).rowcount)
    await one.until(lambda: not one.lives_here())
    await say(one, "who answers?")
    await one.until(lambda: _answered(one))
    assert [row.status for row in await one.deliveries()] == ["pending"]
    await one.db.write(lambda c: c.execute(text("DELETE FROM lease WHERE owner = 'somebody'")).rowcount)
    await one.delivered(1)
    assert len(server.messages) == 1


async def _answered(house: BotHouse) -> bool:
    return len(await house.deliveries()) == 1
