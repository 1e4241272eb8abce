"""Feishu callbacks posted to the route, with ledger, sender and a fake vendor behind it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from channels import registry
from routes import webhooks
from storage.clock import ManualClock
from storage.database import SqliteDatabase
from tests.bot_house import ADMIN, BotHouse
from tests.fakes.feishu_events import FeishuEvents, Posted
from tests.fakes.feishu_server import FeishuServer

HOUR = 3_600_000
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


@pytest.fixture
def events(clock: ManualClock) -> FeishuEvents:
    return FeishuEvents(now=clock.ms)


async def post(house: BotHouse, posted: Posted, path: str = PATH) -> int:
    status, _ = await house.post(path, posted.body, posted.headers)
    return status


async def test_a_signed_event_has_exactly_one_reply_with_the_vendors_id(
    house: BotHouse, server: FeishuServer, events: FeishuEvents
) -> None:
    posted = events.message("你好", person="ou_alice")
    assert await house.post(PATH, posted.body, posted.headers) == (200, {})
    (row,) = await house.delivered(1)
    (sent,) = server.messages
    assert (sent.how, sent.to, sent.content) == ("reply", posted.message_id, {"text": "re: 你好"})
    assert row.vendor_id == sent.id
    assert await house.stored() == (1, 1, 1)


async def test_the_address_check_is_answered(house: BotHouse, events: FeishuEvents) -> None:
    posted = events.challenge("abc")
    assert await house.post(PATH, posted.body, posted.headers) == (200, {"challenge": "abc"})
    assert await house.stored() == (0, 0, 0)


async def test_each_message_is_answered_where_it_was_asked(
    house: BotHouse, server: FeishuServer, events: FeishuEvents
) -> None:
    house.answers.gate.clear()
    posted = [events.message(f"q{n}", person="ou_alice") for n in range(5)]
    assert [await post(house, item) for item in posted] == [200] * 5
    house.answers.gate.set()
    await house.delivered(5)
    assert [(m.to, m.content["text"]) for m in server.messages] == [
        (item.message_id, f"re: q{n}") for n, item in enumerate(posted)
    ]


async def test_repeated_events_have_one_answer(
    house: BotHouse, server: FeishuServer, events: FeishuEvents, tmp_path: Path, clock: ManualClock
) -> None:
    posted = events.message("once")
    assert [await post(house, posted) for _ in range(3)] == [200] * 3
    other = events.raw_message("once", message={"message_id": posted.message_id})
    assert await post(house, events.posted(other)) == 200
    await house.delivered(1)
    await house.stop()
    again = await BotHouse(house.db, clock, tmp_path).start()
    try:
        clock.advance(7 * 3600)  # as late as the platform tries
        assert await post(again, posted) == 200
        assert await post(again, events.posted(other, at_ms=clock.ms())) == 200
        fresh = events.message("two")
        assert await post(again, fresh) == 200
        await again.delivered(2)
        assert [m.to for m in server.messages] == [posted.message_id, fresh.message_id]
        assert await again.stored() == (2, 2, 2)
    finally:
        await again.stop()


async def test_shuffled_and_doubled_events_are_each_handled_once(
    house: BotHouse, server: FeishuServer, events: FeishuEvents
) -> None:
    unique = [events.message(f"q{n}", person=f"ou_{n % 17}") for n in range(150)]
    posted = unique + random.Random(7).choices(unique, k=50)
    random.Random(8).shuffle(posted)
    for start in range(0, len(posted), 25):
        results = await asyncio.gather(*(post(house, item) for item in posted[start : start + 25]))
        assert set(results) == {200}
    await house.delivered(150)
    assert sorted(m.to for m in server.messages) == sorted(item.message_id for item in unique)
    assert await house.stored() == (150, 150, 150)


async def test_an_unknown_event_is_acknowledged_and_ignored(house: BotHouse, events: FeishuEvents) -> None:
    for kind in ("im.message.message_read_v1", "contact.user.created_v3", "im.chat.member.bot.added_v1"):
        assert await post(house, events.posted(events.envelope(kind, {"x": 1}))) == 200
    assert await house.stored() == (0, 0, 0)


def refused(events: FeishuEvents, clock: ManualClock) -> Iterator[tuple[str, Posted, int, str]]:
    """Name, request, status, code."""
    good = events.message("x")

    def headers(**changes: str | None) -> Posted:
        names = {
            "signature": "X-Lark-Signature",
            "timestamp": "X-Lark-Request-Timestamp",
            "nonce": "X-Lark-Request-Nonce",
        }
        made = good.headers | {names[k]: v for k, v in changes.items() if v is not None}
        for name in (names[k] for k, v in changes.items() if v is None):
            made.pop(name)
        return Posted(body=good.body, headers=made)

    def signed(body: bytes, at_ms: int | None = None) -> Posted:
        return Posted(body=body, headers=events.sign(body, at_ms=at_ms))

    now = clock.ms()
    yield "wrong signature", headers(signature="0" * 64), 401, "feishu.signature"
    yield "upper case signature", headers(signature=good.headers["X-Lark-Signature"].upper()), 401, "feishu.signature"
    yield "missing signature", headers(signature=None), 401, "feishu.unsigned"
    yield "missing all", headers(signature=None, timestamp=None, nonce=None), 401, "feishu.unsigned"
    yield "stale", signed(good.body, now - 9 * HOUR), 401, "feishu.stale"
    yield "future", signed(good.body, now + HOUR), 401, "feishu.future"
    yield "another body", Posted(body=events.message("y").body, headers=good.headers), 401, "feishu.signature"
    other = FeishuEvents(now=clock.ms, verification_token="other")
    yield "wrong token", other.message("x"), 401, "feishu.token"
    other = FeishuEvents(now=clock.ms, app_id="cli_other")
    yield "another app", other.message("x"), 403, "feishu.other_app"
    yield "undecryptable", signed(b'{"encrypt":"' + b"QUJD" * 30 + b'"}'), 401, "feishu.encryption"
    yield "oversized", signed(b"x" * 1_000_001), 413, ""
    yield "empty", signed(b""), 422, "feishu.empty"
    yield "malformed", signed(b"{"), 422, "feishu.malformed"
    yield "malformed inside", signed(events.encrypt(b"{")), 422, "feishu.malformed"


async def test_what_is_not_proven_is_refused_and_leaves_nothing(
    house: BotHouse, server: FeishuServer, events: FeishuEvents, clock: ManualClock
) -> None:
    for name, posted, status, code in refused(events, clock):
        got, body = await house.post(PATH, posted.body, posted.headers)
        assert (name, got) == (name, status)
        assert not code or body["code"] == code, name
        assert body["message"], name
    assert await house.stored() == (0, 0, 0)
    assert server.messages == []
    assert await post(house, events.message("still works")) == 200
    await house.delivered(1)


async def test_an_endless_body_is_cut_off(house: BotHouse, events: FeishuEvents) -> None:
    taken = 0

    def endless() -> Iterator[bytes]:
        nonlocal taken
        while True:
            taken += 64_000
            yield b"x" * 64_000

    status, body = await house.post(PATH, endless(), events.sign(b""))
    assert (status, body["code"]) == (413, "http.body_size")
    assert taken < 1_200_000


async def test_a_slow_body_is_cut_off(house: BotHouse, events: FeishuEvents, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhooks, "BODY_SECONDS", 0.05)
    status, body = await house.post(PATH, b"x", events.sign(b"x"), stall=True)
    assert (status, body["code"]) == (422, "http.body_slow")


async def test_headers_that_come_twice_are_refused(house: BotHouse, events: FeishuEvents) -> None:
    posted = events.message("x")
    name = "X-Lark-Signature"
    doubled = posted.headers | {name.lower(): posted.headers[name], name: "0" * 64}
    status, body = await house.post(PATH, posted.body, doubled)
    assert (status, body["code"]) == (422, "http.header_twice")


@pytest.mark.parametrize(
    "path", ["/webhooks/feishu/nobody", "/webhooks/dingtalk/hr-bot", "/webhooks/feishu/", "/webhooks/x/y/z"]
)
async def test_unknown_bots(house: BotHouse, events: FeishuEvents, path: str) -> None:
    posted = events.message("x")
    status, body = await house.post(path, posted.body, posted.headers)
    assert (status, body["code"]) == (404, "bot.unknown")


@pytest.mark.parametrize("method", ["GET", "PUT", "HEAD", "DELETE"])
async def test_other_methods(house: BotHouse, method: str) -> None:
    status, body = await house.post(PATH, b"", method=method)
    assert (status, body["code"]) == (405, "http.method")


async def test_a_paused_bot_takes_nothing_new_but_answers_what_it_took(
    house: BotHouse, server: FeishuServer, events: FeishuEvents
) -> None:
    house.answers.gate.clear()
    taken, late = events.message("taken"), events.message("late")
    assert await post(house, taken) == 200
    await house.actions.pause(ADMIN, "hr-bot")
    status, body = await house.post(PATH, late.body, late.headers)
    assert (status, body["code"]) == (403, "bot.paused")
    assert await post(house, events.challenge()) == 200
    house.answers.gate.set()
    await house.delivered(1)
    await house.actions.resume(ADMIN, "hr-bot")
    assert await post(house, late) == 200  # the platform sends it again
    await house.delivered(2)
    assert [m.to for m in server.messages] == [taken.message_id, late.message_id]


async def test_without_a_key_the_bot_does_not_start_and_says_why(
    house: BotHouse, server: FeishuServer, events: FeishuEvents
) -> None:
    def fn(c: object) -> None:
        from sqlalchemy import delete

        from storage.tables.system import Secret

        table = Secret.__table__  # type: ignore[attr-defined]
        c.execute(delete(table).where(table.c.name.like("%encrypt_key")))  # type: ignore[attr-defined]

    await house.db.write(fn)
    await house.bots.reload("main", "hr-bot")
    (row,) = await house.actions.list(ADMIN)
    assert (row.connection, row.last_error, row.error_params["missing"]) == (
        "off",
        "feishu.incomplete",
        "encrypt_key",
    )
    status, body = await house.post(PATH, events.message("x").body, events.message("x").headers)
    assert (status, body["code"]) == (503, "bot.not_started")
    assert await house.stored() == (0, 0, 0)


async def test_a_ledger_that_is_late_is_not_acknowledged_and_loses_nothing(
    house: BotHouse, server: FeishuServer, events: FeishuEvents, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "ACCEPT_WITHIN", 0.05)
    held, write = asyncio.Event(), house.db.write

    async def slow(fn: object, **how: bool) -> object:
        await held.wait()
        return await write(fn, **how)  # type: ignore[arg-type]

    house.db.write = slow  # type: ignore[method-assign, assignment]
    posted = events.message("x")
    status, body = await house.post(PATH, posted.body, posted.headers)
    assert (status, body["code"]) == (503, "db.slow")
    held.set()
    monkeypatch.undo()
    await house.delivered(1)  # it was written after all, and is handed on
    assert await post(house, posted) == 200
    assert await house.stored() == (1, 1, 1)
    assert len(server.messages) == 1


async def test_one_bot_changes_while_others_go_on(house: BotHouse, server: FeishuServer, events: FeishuEvents) -> None:
    await house.feishu(server.base, "it-bot")
    kept = house.bots.channel("main", "it-bot")
    await house.feishu(server.base, "hr-bot", group_mention="off")
    assert house.bots.channel("main", "it-bot") is kept
    assert await post(house, events.group("x", mention_bot=False)) == 200
    assert await post(house, events.message("y"), "/webhooks/feishu/it-bot") == 200
    await house.delivered(2)


async def test_who_is_not_let_in_is_asked_for_once_and_told(
    house: BotHouse, server: FeishuServer, events: FeishuEvents
) -> None:
    await house.feishu(server.base, access="request")
    assert [await post(house, events.message(f"x{n}", person="ou_new")) for n in range(3)] == [200] * 3
    await house.delivered(1)
    assert len(server.messages) == 1
    assert (await house.stored())[:2] == (0, 0)
    (asked,) = await house.actions.access_requests(ADMIN)
    assert (asked.subject, asked.bot) == ("ou_new", "hr-bot")
    await house.actions.decide(ADMIN, [asked.id], True)
    assert await post(house, events.message("now", person="ou_new")) == 200
    await house.delivered(2)
    await house.feishu(server.base, access="allowlist", allow="ou_boss")
    assert await post(house, events.message("no", person="ou_stranger")) == 200
    assert await post(house, events.message("yes", person="ou_boss")) == 200
    await house.delivered(3)
    assert [m.content["text"] for m in server.messages[1:]] == ["re: now", "re: yes"]
