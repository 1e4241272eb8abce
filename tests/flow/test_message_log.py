"""The message log and the connection history: what went through a bot, and when it could hear."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import func, select

from channels.history import MOST_SPANS, History, span_t, spans_of
from channels.hooks import Pulse
from channels.message_log import LogActions, LogFilter
from storage.clock import ManualClock
from storage.database import SqliteDatabase
from storage.errors import Denied
from storage.principal import principal
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
    db: SqliteDatabase, clock: ManualClock, tmp_path: Path, server: FeishuServer
) -> AsyncIterator[BotHouse]:
    made = await BotHouse(db, clock, tmp_path).start()
    await made.feishu(server.base)
    yield made
    await made.stop()


def log_of(house: BotHouse) -> LogActions:
    return LogActions(db=house.db, clock=house.clock, outbox=house.outbox)


async def say(house: BotHouse, *texts: str) -> None:
    events = FeishuEvents(now=house.clock.ms)
    for text in texts:
        posted = events.message(text)
        assert (await house.post(PATH, posted.body, posted.headers))[0] == 200
        house.clock.advance(1)


async def test_in_and_out_newest_first_with_filters(house: BotHouse) -> None:
    await say(house, "早上好", "下班了")
    await house.delivered(2)
    log = log_of(house)
    rows = await log.list(ADMIN, LogFilter())
    assert sorted((row.way, row.text) for row in rows) == [
        ("in", "下班了"),
        ("in", "早上好"),
        ("out", "re: 下班了"),
        ("out", "re: 早上好"),
    ]
    assert [row.at for row in rows] == sorted((row.at for row in rows), reverse=True)
    assert all(row.job for row in rows)
    assert {row.text for row in await log.list(ADMIN, LogFilter(way="in"))} == {"下班了", "早上好"}
    assert {row.text for row in await log.list(ADMIN, LogFilter(search="早上"))} == {"re: 早上好", "早上好"}
    assert {row.way for row in await log.list(ADMIN, LogFilter(state="delivered"))} == {"out"}
    assert await log.list(ADMIN, LogFilter(bot="other")) == []
    assert await log.list(ADMIN, LogFilter(search="%")) == []
    older = await log.list(ADMIN, LogFilter(before=rows[0].at))
    assert all(row.at < rows[0].at for row in older)


async def test_what_was_refused_has_its_reason_and_is_sent_again(house: BotHouse, server: FeishuServer) -> None:
    server.fail("code", code=230002)
    await say(house, "你好")
    log = log_of(house)

    async def failed() -> bool:
        return bool(await log.list(ADMIN, LogFilter(state="failed")))

    await house.until(failed)
    (row,) = await log.list(ADMIN, LogFilter(state="failed"))
    assert row.error == "feishu.230002"
    assert await log.resend(ADMIN, row.delivery or 0)
    await house.delivered(1)
    assert not await log.resend(ADMIN, row.delivery or 0)
    assert [m.text for m in server.messages] == ["re: 你好"]


async def test_only_who_may_see_traces_sees_what_was_said(house: BotHouse) -> None:
    member = principal(id="user:9", name="m", role="member")
    with pytest.raises(Denied):
        await log_of(house).list(member, LogFilter())
    with pytest.raises(Denied):
        await log_of(house).resend(member, 1)
    other = principal(id="user:8", name="o", role="admin", tenant="other")
    await say(house, "你好")
    await house.delivered(1)
    assert await log_of(house).list(other, LogFilter()) == []


async def test_every_change_of_a_connection_is_a_span(house: BotHouse, clock: ManualClock) -> None:
    pulse = house.bots.pulse("main", "hr-bot")
    assert pulse is not None
    await house.bots._save()
    for step in ("connecting", "online"):
        clock.advance(10)
        pulse.connection = step
    clock.advance(600)
    pulse.lost("line.silent", seconds="40")
    clock.advance(30)
    pulse.connected()
    clock.advance(3600)
    await house.bots._save()
    ((name, spans),) = await log_of(house).connections(ADMIN, ms=86_400_000)
    assert name == "hr-bot"
    assert [(span.state, (span.ended_at - span.begun_at) // 1000) for span in spans] == [
        ("waiting", 10),
        ("connecting", 10),
        ("online", 600),
        ("lost", 30),
        ("online", 3600),
    ]
    assert spans[3].reason == "line.silent"


async def test_the_time_in_which_the_process_did_not_run_is_a_gap(db: SqliteDatabase, clock: ManualClock) -> None:
    first, second = History(), History()
    await db.write(lambda c: first.note(c, 7, [(clock.ms(), "online", "")], "online", clock.ms()))
    clock.advance(60)
    await db.write(lambda c: first.note(c, 7, [], "online", clock.ms()))
    clock.advance(3600)
    await db.write(lambda c: second.note(c, 7, [(clock.ms(), "online", "")], "online", clock.ms()))
    spans = await db.read(lambda c: spans_of(c, 7, 0))
    assert [span.ended_at - span.begun_at for span in spans] == [60_000, 0]
    assert spans[1].begun_at - spans[0].ended_at == 3_600_000


async def test_the_history_is_bounded(db: SqliteDatabase, clock: ManualClock) -> None:
    history, pulse = History(), Pulse(clock=clock)
    for _ in range(12):
        for n in range(200):
            clock.advance(1)
            pulse.connection = ("lost", "online")[n % 2]
        turns = [pulse.turns.popleft() for _ in range(len(pulse.turns))]
        await db.write(lambda c, turns=turns: history.note(c, 1, turns, "online", clock.ms()))
    count = await db.read(lambda c: c.execute(select(func.count()).select_from(span_t)).scalar_one())
    assert count <= MOST_SPANS


async def test_a_removed_bot_leaves_no_history(house: BotHouse) -> None:
    await house.bots._save()
    await house.actions.remove(ADMIN, "hr-bot")
    assert await house.db.read(lambda c: c.execute(select(func.count()).select_from(span_t)).scalar_one()) == 0
