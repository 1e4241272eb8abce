"""The registry: bots that cannot start, proof of life over a restart, replacement of one by one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import select, update

from channels.base import RawRequest
from channels.registry import bot_t, state_t
from storage.clock import ManualClock
from storage.database import SqliteDatabase
from storage.errors import NotFound, Unavailable
from storage.vault import Vault
from tests.bot_house import ADMIN, BotHouse
from tests.fakes.feishu_events import FeishuEvents
from tests.fakes.feishu_server import FeishuServer

PATH = "/webhooks/feishu/hr-bot"


@pytest.fixture
async def server() -> AsyncIterator[FeishuServer]:
    made = await FeishuServer().start()
    yield made
    await made.stop()


@pytest.fixture
async def house(
    db: SqliteDatabase, clock: ManualClock, server: FeishuServer, tmp_path: Path
) -> AsyncIterator[BotHouse]:
    made = await BotHouse(db, clock, tmp_path).start()
    await made.feishu(server.base)
    yield made
    await made.stop()


def request(body: bytes = b"{}") -> RawRequest:
    return RawRequest(method="POST", path=PATH, query={}, headers={}, body=body, ip="127.0.0.1")


async def test_proof_of_life_is_kept_over_a_restart(house: BotHouse, clock: ManualClock, tmp_path: Path) -> None:
    events = FeishuEvents(now=clock.ms)
    posted = events.message("x")
    assert (await house.post(PATH, posted.body, posted.headers))[0] == 200
    await house.delivered(1)
    pulse = house.bots.pulse("main", "hr-bot")
    assert pulse is not None
    await house.until(lambda: pulse.identity)
    assert (pulse.last_in, pulse.last_out, pulse.identity) == (clock.ms(), clock.ms(), "Test bot")
    await house.stop()
    states = await house.db.read(lambda c: c.execute(select(state_t)).all())
    assert [(row.last_in, row.identity) for row in states] == [(clock.ms(), "Test bot")]
    before = clock.ms()
    clock.advance(3600)
    again = await BotHouse(house.db, clock, tmp_path).start()
    try:
        kept = again.bots.pulse("main", "hr-bot")
        assert kept is not None
        assert (kept.last_in, kept.last_out, kept.identity) == (before, before, "Test bot")
    finally:
        await again.stop()


async def test_a_lost_master_key_stops_one_thing_and_says_so(
    house: BotHouse, clock: ManualClock, tmp_path: Path
) -> None:
    await house.stop()
    again = BotHouse(house.db, clock, tmp_path)
    again.bots.vault = Vault(b"x" * 32, clock)
    await again.start()
    try:
        (row,) = await again.actions.list(ADMIN)
        assert (row.connection, row.last_error) == ("off", "vault.wrong_key")
        with pytest.raises(Unavailable, match=r"bot\.not_started"):
            await again.bots.receive("feishu", "hr-bot", "main", request())
    finally:
        await again.stop()


async def test_a_type_of_another_version_does_not_stop_the_others(house: BotHouse, server: FeishuServer) -> None:
    await house.feishu(server.base, "old-bot")
    await house.db.write(
        lambda c: c.execute(update(bot_t).where(bot_t.c.name == "old-bot").values(type="telex")) and None
    )
    await house.bots.reload("main", "old-bot")
    assert house.bots.channel("main", "old-bot") is None
    pulse = house.bots.pulse("main", "old-bot")
    assert pulse is not None
    assert pulse.last_error == "bot.type"
    assert house.bots.channel("main", "hr-bot") is not None


async def test_a_bot_belongs_to_its_tenant_and_type(house: BotHouse) -> None:
    for type, name, tenant in (("feishu", "hr-bot", "other"), ("dingtalk", "hr-bot", "main"), ("feishu", "x", "main")):
        with pytest.raises(NotFound, match=r"bot\.unknown"):
            await house.bots.receive(type, name, tenant, request())


async def test_a_replaced_bot_keeps_its_proof_and_loses_its_error(house: BotHouse, server: FeishuServer) -> None:
    pulse = house.bots.pulse("main", "hr-bot")
    assert pulse is not None
    pulse.came_in()
    pulse.failed("feishu.signature", ip="1.2.3.4")
    await house.feishu(server.base, group_mention="off")
    now = house.bots.pulse("main", "hr-bot")
    assert now is not None
    assert now is not pulse  # what the old channel may still report is not the new one's
    assert (now.last_in, now.last_error, now.params, now.connection) == (pulse.last_in, "", {}, "waiting")


async def test_a_removed_bot_is_gone(house: BotHouse) -> None:
    changed: list[str] = []
    house.bots.on_change(lambda tenant, name: changed.append(name))
    await house.actions.remove(ADMIN, "hr-bot")
    assert house.bots.config("main", "hr-bot") is None
    assert house.bots.all() == []
    assert changed == ["hr-bot"]
    assert (await house.post(PATH, b"{}"))[0] == 404
