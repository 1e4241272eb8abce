"""Events: each told once by the bots that want it, in the transaction of what happened, and never as a storm."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from agent.models.base import Spender
from agent.models.budget_watch import BudgetWatch
from agent.models.limits import Limits
from agent.models.usage import Record, _write
from channels.actions import BotDraft
from channels.bot_draft import EVENTS
from channels.event_actions import EventActions
from channels.event_sources import EventSources
from channels.event_text import SAMPLES, say
from channels.events import MOST_CAUSES, RULES, Event, Events, window_t
from security.guessing import ACCOUNT, Guessing, by_account
from storage.audit import Audit
from storage.clock import ManualClock
from storage.database import SqliteDatabase
from storage.envelope import Outgoing
from storage.errors import Invalid, Rejected
from storage.ledger import Ending, delivery_t
from storage.principal import SYSTEM, principal
from storage.runner import Work
from tests.bot_house import ADMIN, BotHouse
from tests.fakes.feishu_events import FeishuEvents
from tests.fakes.feishu_server import FeishuServer
from tests.fakes.quick_http import QuickServer, Request, Response


class House(BotHouse):
    """Bots with all that tells them of events."""

    def __init__(self, db: SqliteDatabase, clock: ManualClock, files: Path) -> None:
        super().__init__(db, clock, files)
        self.events = Events(
            db=db, clock=clock, ledger=self.ledger, bots=self.bots, background=self.background, words=self.words
        )
        self.sources = EventSources(self.events, self.bots)
        self.ledger.in_finish, self.ledger.in_dead_letter = self.sources.finished, self.sources.dead_letter
        self.audit = self.actions.audit
        self.audit.in_record = self.sources.audited
        self.event_actions = EventActions(db=db, audit=self.audit, clock=clock, events=self.events)

    async def start(self) -> House:
        await self.bots.start()
        await self.sender.start()
        await self.events.start()
        self.sources.start()
        await self.dispatcher.start()
        return self

    async def stop(self) -> None:
        self.sources.stop()
        await self.events.stop()
        await super().stop()

    async def hook(self, url: str, *events: str, name: str = "ops", lang: str = "zh_CN") -> None:
        settings = {"endpoint": url, "push_lang": lang}
        await self.actions.save(
            ADMIN, BotDraft(name=name, type="webhook", mode="push", settings=settings, events=events)
        )

    async def pushes(self, event: str = "") -> list[Any]:
        """Deliveries of events, in order."""
        return [row for row in await self.deliveries() if row.event and event in ("", row.event)]


class Ops:
    """Another system that listens."""

    def __init__(self) -> None:
        self.got: list[dict[str, Any]] = []
        self.status = 200
        self.server = QuickServer(self._answer)

    def _answer(self, request: Request) -> Response:
        if self.status == 200:
            self.got.append(json.loads(request.body))
        return Response(status=self.status)

    def texts(self) -> list[str]:
        return [str(item["text"]) for item in self.got]


@pytest.fixture
async def ops() -> AsyncIterator[Ops]:
    made = Ops()
    await made.server.start()
    yield made
    await made.server.stop()


@pytest.fixture
async def house(db: SqliteDatabase, clock: ManualClock, tmp_path: Path) -> AsyncIterator[House]:
    made = await House(db, clock, tmp_path).start()
    yield made
    await made.stop()


@pytest.fixture
async def feishu() -> AsyncIterator[FeishuServer]:
    made = await FeishuServer().start()
    yield made
    await made.stop()


def url(ops: Ops) -> str:
    return f"{ops.server.base}/in"


def test_every_event_has_a_sample_and_a_rule() -> None:
    assert tuple(SAMPLES) == tuple(RULES) == EVENTS


async def talk(house: House, n: int = 1) -> None:
    """Feishu delivers messages of one person."""
    events = FeishuEvents(now=house.clock.ms)
    for k in range(n):
        posted = events.message(f"secret words {k}", person="ou_anna")
        status, _ = await house.post("/webhooks/feishu/hr-bot", posted.body, posted.headers)
        assert status == 200


async def test_an_ended_task_is_told_in_its_own_transaction(house: House, feishu: FeishuServer, ops: Ops) -> None:
    await house.feishu(feishu.base)
    await house.hook(url(ops), "task.completed", "task.failed")
    seen: list[int] = []

    def count(rows: Any) -> None:
        seen.append(len(rows))
        house.sender.submit(rows)

    house.ledger.on_deliveries = count
    await talk(house)
    await house.until(lambda: ops.got)
    assert seen == [2]  # answer and event were committed together
    (got,) = ops.got
    assert (got["event"], got["data"]["task"]["bot"], got["data"]["task"]["title"]) == ("task.completed", "hr-bot", "")
    assert "secret words" not in json.dumps(ops.got, ensure_ascii=False)
    assert "任务 #1 已完成" in got["text"]


async def test_a_failed_task_names_its_reason_in_the_bots_language(
    house: House, feishu: FeishuServer, ops: Ops
) -> None:
    await house.feishu(feishu.base)
    await house.hook(url(ops), "task.failed", lang="en")

    def fail(work: Work) -> Ending:
        raise Rejected("model.filtered")

    house.answers.say = fail
    await talk(house)
    await house.until(lambda: ops.got)
    assert ops.got[0]["data"]["code"] == "model.filtered"
    assert house.words.say("en", "error.model.filtered") in ops.texts()[0]


async def test_nobody_listens_and_nothing_is_written(house: House, feishu: FeishuServer) -> None:
    await house.feishu(feishu.base)
    await talk(house)
    await house.delivered(1)
    assert await house.pushes() == []
    assert await rows(house) == 0


async def rows(house: House) -> int:
    return int(await house.db.read(lambda c: c.execute(select(func.count()).select_from(window_t)).scalar_one()))


async def test_an_app_bot_pushes_where_it_was_told_to(house: House, feishu: FeishuServer) -> None:
    await house.feishu(feishu.base, push_to="oc_ops")
    draft = BotDraft(
        name="hr-bot",
        type="feishu",
        mode="webhook",
        settings={"app_id": "cli_test", "api_base": feishu.base, "access": "open", "push_to": "oc_ops"},
        events=("security.alert",),
    )
    await house.actions.save(ADMIN, draft)
    await house.db.write(lambda c: house.audit.record(c, ADMIN, "user.role", "anna", "member", "owner"))
    await house.until(lambda: feishu.messages)
    (sent,) = feishu.messages
    assert sent.to == "oc_ops"
    assert "anna" in sent.text


async def test_a_storm_is_one_message_and_a_count(house: House, ops: Ops, clock: ManualClock) -> None:
    await house.hook(url(ops), "error.alert")
    for _ in range(500):
        house.events.tell(Event(tenant="main", name="error.alert", cause="same", data=SAMPLES["error.alert"]))
    await house.until(lambda: ops.got)
    await house.until(lambda: not house.events._raised)
    await house.until(lambda: held(house, "same", 499))
    assert len(ops.got) == 1
    clock.advance(601)
    house.events._wake()
    await house.until(lambda: len(ops.got) == 2)
    assert "499" in ops.texts()[1]
    assert ops.got[1]["data"]["more"] == 499
    await house.until(lambda: rows_are(house, 0))


async def held(house: House, cause: str, n: int) -> bool:
    query = select(window_t.c.count - window_t.c.told).where(window_t.c.cause == cause)
    return await house.db.read(lambda c: c.execute(query).scalar()) == n


async def rows_are(house: House, n: int) -> bool:
    return await rows(house) == n


async def test_many_causes_are_bounded_too(house: House, ops: Ops, clock: ManualClock) -> None:
    await house.hook(url(ops), "error.alert")
    for n in range(MOST_CAUSES + 100):
        house.events.tell(Event(tenant="main", name="error.alert", cause=f"c{n}", data=SAMPLES["error.alert"]))
    await house.until(lambda: held(house, "*", MOST_CAUSES + 100 - RULES["error.alert"].most))
    assert len(await house.pushes()) == RULES["error.alert"].most
    assert await rows(house) <= MOST_CAUSES + 1


async def test_tasks_are_told_one_by_one_until_there_are_many(house: House, ops: Ops, clock: ManualClock) -> None:
    await house.hook(url(ops), "task.completed")
    for n in range(50):
        event = Event(tenant="main", name="task.completed", cause="", data={"task": {"id": n}})
        await house.db.write(lambda c, event=event: house.events.raised(c, event))
    await house.until(lambda: len(ops.got) == 20)
    clock.advance(61)
    house.events._wake()
    await house.until(lambda: len(ops.got) == 21)
    assert ops.got[-1]["data"]["more"] == 30


async def test_what_was_undone_is_not_told(house: House, ops: Ops) -> None:
    await house.hook(url(ops), "security.alert")

    def undone(c: Any) -> None:
        house.audit.record(c, ADMIN, "user.role", "anna")
        raise Invalid("x.y")

    with pytest.raises(Invalid):
        await house.db.write(undone)
    await house.db.write(lambda c: house.audit.record(c, ADMIN, "user.create", "bert"))
    await house.until(lambda: ops.got)
    assert [row.event for row in await house.pushes()] == ["security.alert"]
    assert "bert" in ops.texts()[0]


async def test_a_dead_letter_is_told_by_others_and_never_about_itself(house: House, ops: Ops) -> None:
    other = Ops()
    await other.server.start()
    try:
        await house.hook(url(ops), "error.alert", name="ops")
        await house.hook(url(other), "error.alert", name="second")
        ops.status = 403
        house.events.tell(Event(tenant="main", name="error.alert", cause="x", data=SAMPLES["error.alert"]))
        await house.until(lambda: len(other.got) == 2)  # the first alert, and that ops could not be told of it
        assert other.got[1]["data"]["code"] == "webhook.refused"
        await house.until(lambda: settled(house))
        assert [row.bot for row in await house.pushes()].count("ops") == 1
    finally:
        await other.server.stop()


async def settled(house: House) -> bool:
    query = select(func.count()).select_from(delivery_t).where(delivery_t.c.status.in_(("pending", "sending")))
    return await house.db.read(lambda c: c.execute(query).scalar_one()) == 0


async def test_an_error_in_the_log_tells_where_and_never_what(house: House, ops: Ops) -> None:
    await house.hook(url(ops), "error.alert")
    log = logging.getLogger("storage.test")
    for secret in ("hunter2", "hunter3"):
        try:
            raise OSError(secret)
        except OSError:
            log.exception("could not write %s", secret)
    logging.getLogger("somebody.else").error("not ours")
    await house.until(lambda: ops.got)
    await house.until(lambda: not house.events._raised)
    assert len(ops.got) == 1
    assert "storage.test" in ops.texts()[0]
    assert "hunter" not in json.dumps(ops.got)


async def test_guessing_is_told_when_something_is_locked(house: House, ops: Ops, clock: ManualClock) -> None:
    await house.hook(url(ops), "security.alert")
    guessing = Guessing(clock)
    guessing.on_lock = house.sources.locked
    for _ in range(ACCOUNT.tries):
        await house.db.write(lambda c: guessing.attempt(c, by_account("boss")))
    await house.until(lambda: ops.got)
    assert len(ops.got) == 1
    assert "boss" not in json.dumps(ops.got)


async def test_a_red_check_is_told(house: House, ops: Ops) -> None:
    await house.hook(url(ops), "security.alert")
    house.sources.checked("check.network.listen", "network.listen", "pass")
    house.sources.checked("check.network.listen", "network.listen", "fail")
    await house.until(lambda: ops.got)
    assert len(ops.got) == 1


async def test_a_limit_is_told_at_four_fifths_and_at_the_end_once_each(
    house: House, ops: Ops, clock: ManualClock
) -> None:
    await house.hook(url(ops), "budget.warning")
    watch = BudgetWatch(clock, lambda tenant: Limits(bots={"hr-bot": 100.0}), house.sources.spent)

    def spend(cost: float) -> Record:
        spender = Spender(tenant="main", bot="hr-bot", person="feishu:ou_a", job_id=1)
        return Record(
            at=clock.ms(),
            spender=spender,
            provider="p",
            model="m",
            tokens_in=1,
            tokens_out=1,
            cost=cost,
            first_token_ms=1,
            total_ms=1,
            outcome="ok",
        )

    for cost in (50.0, 31.0, 1.0, 17.9, 0.2, 5.0):
        record = spend(cost)
        await house.db.write(lambda c, r=record: (_write(c, [(None, r)]), watch.written(c, [r])))
    await house.until(lambda: len(ops.got) == 2)
    await house.until(lambda: settled(house))
    assert [item["data"]["budget"]["percent"] for item in ops.got] == [80, 100]
    again = BudgetWatch(clock, lambda tenant: Limits(bots={"hr-bot": 100.0}), house.sources.spent)
    record = spend(1.0)  # after a restart the window knows that it was told
    await house.db.write(lambda c: (_write(c, [(None, record)]), again.written(c, [record])))
    await house.until(lambda: settled(house))
    assert len(ops.got) == 2


async def test_a_call_that_the_limit_does_not_allow_is_told(house: House, feishu: FeishuServer, ops: Ops) -> None:
    await house.feishu(feishu.base)
    await house.hook(url(ops), "budget.warning")

    def refuse(work: Work) -> Ending:
        return Ending(status="refused", reason="budget.bot", detail="budget.bot (limit=100)")

    house.answers.say = refuse
    await talk(house, 3)
    await house.until(lambda: ops.got)
    await house.until(lambda: settled(house))
    (got,) = ops.got
    assert (got["data"]["budget"]["percent"], got["data"]["budget"]["limit"]) == (100, "100")
    assert "hr-bot" in got["text"]


async def test_a_deaf_bot_is_told_of_once_by_others(house: House, ops: Ops, clock: ManualClock) -> None:
    await house.feishu("http://127.0.0.1:9", mode="websocket")
    await house.hook(url(ops), "error.alert")
    pulse = house.bots.pulse("main", "hr-bot")
    assert pulse is not None
    pulse.connection = "online"
    pulse.lost("line.cut", status="-")
    house.sources.look()
    clock.advance(61)
    house.sources.look()
    house.sources.look()
    await house.until(lambda: ops.got)
    assert len(ops.got) == 1
    assert "hr-bot" in ops.texts()[0]


async def test_words_can_be_changed_tried_and_taken_back(house: House, ops: Ops) -> None:
    await house.hook(url(ops), "error.alert")
    (row,) = [item for item in await house.event_actions.list(ADMIN) if item.name == "error.alert"]
    assert (row.bots, row.own) == (("ops",), ())
    assert {"what", "reason", "code", "at", "event"} <= set(row.names)
    tried = await house.event_actions.try_out(ADMIN, "error.alert", "zh_CN", "坏了：{{what}} {{nothing}}")
    assert tried.text.startswith("坏了：")
    assert tried.missing == ("nothing",)
    await house.event_actions.save(ADMIN, "error.alert", "zh_CN", "坏了：{{code}}")
    house.events.tell(Event(tenant="main", name="error.alert", cause="x", data={"code": "a.b", "what": say("x.y")}))
    await house.until(lambda: ops.got)
    assert ops.texts() == ["坏了：a.b"]
    await house.event_actions.save(ADMIN, "error.alert", "zh_CN", "")
    (row,) = [item for item in await house.event_actions.list(ADMIN) if item.name == "error.alert"]
    assert row.own == ()
    for bad in ("{{what", "{% if x %}"):
        with pytest.raises(Invalid):
            await house.event_actions.save(ADMIN, "error.alert", "zh_CN", bad)
    member = principal(id="user:9", name="m", role="member")
    with pytest.raises(Exception, match=r"right\.missing"):
        await house.event_actions.save(member, "error.alert", "zh_CN", "x")


async def test_a_restart_sends_what_was_committed(
    db: SqliteDatabase, clock: ManualClock, tmp_path: Path, ops: Ops
) -> None:
    first = await House(db, clock, tmp_path).start()
    await first.hook(url(ops), "security.alert")
    first.ledger.on_deliveries = lambda rows: None  # the process dies before the sender hears of it
    await db.write(lambda c: Audit.record(first.audit, c, SYSTEM, "user.role", "anna"))
    await first.stop()
    assert ops.got == []
    second = await House(db, clock, tmp_path).start()
    await second.until(lambda: ops.got)
    assert len(ops.got) == 1
    await second.stop()


async def test_a_message_is_never_empty(house: House) -> None:
    words = house.events.words
    for event in EVENTS:
        for lang in ("zh_CN", "en"):
            sample = words.sample(event, lang, 0)
            text = words.text("main", event, lang, sample)
            assert "{{" not in text
            assert words.tried(words.default(event, lang), sample).missing == ()
            assert words.title(event, lang) != f"event.{event}.title"
    assert Outgoing(kind="push", text="x").to_json()
