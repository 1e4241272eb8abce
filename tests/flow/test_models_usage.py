"""Usage is written down once for each call; a monthly limit is never overshot."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import insert, select

from agent.models.actions import ModelActions
from agent.models.base import ChatMessage, Completed, ModelEvent, ModelRequest, Spender, TextDelta
from agent.models.breaker import Breaker
from agent.models.cache import AnswerCache
from agent.models.chain import Switched, answer
from agent.models.limits import Limits, month_start, read_limits
from agent.models.provider import ModelSpec, ProviderDraft
from agent.models.router import ModelRouter
from agent.models.usage import Record, Spending, usage_t
from agent.models.usage_actions import UsageActions
from security.egress_client import EgressClient
from storage.audit import Audit
from storage.background import Background
from storage.clock import ManualClock
from storage.database import SqliteDatabase
from storage.errors import AppError, Conflict, Denied, Invalid
from storage.principal import TENANT, principal
from storage.vault import Vault
from storage.words import Words
from tests.fakes.model_server import ModelServer, Reply

WORDS = Words(Path(__file__).resolve().parents[2] / "assets" / "locale")
ADMIN = principal(id="user:1", name="ann", role="admin")
SPENDER = Spender(tenant=TENANT, bot="hr-bot", person="feishu:ou_1", job_id=7)


@dataclass
class House:
    db: SqliteDatabase
    router: ModelRouter
    models: ModelActions
    usage: UsageActions
    spending: Spending
    cache: AnswerCache
    breaker: Breaker
    clock: ManualClock
    server: ModelServer

    async def provider(self, name: str, price: float = 1.0, **more: object) -> None:
        model = ModelSpec(name=name, price_in=price, price_out=price)
        draft = ProviderDraft(name=name, endpoint=self.server.url, keys=("k",), models=(model,), **more)  # type: ignore[arg-type]
        await self.models.save(ADMIN, draft)

    async def ask(self, spender: Spender | None = SPENDER, **more: object) -> list[ModelEvent | Switched]:
        request = ModelRequest(messages=(ChatMessage(role="user", text="hi"),), spender=spender, deadline=10, **more)  # type: ignore[arg-type]
        stream = answer(
            self.router.chain(TENANT),
            request,
            clock=self.clock,
            breaker=self.breaker,
            spending=self.spending,
            cache=self.cache,
        )
        async with asyncio.timeout(20):
            return [event async for event in stream]

    async def rows(self) -> list[tuple[str, str, float, int, int]]:
        await self.spending.flush()
        rows = await self.db.read(lambda c: c.execute(select(usage_t).order_by(usage_t.c.id)).all())
        return [(row.model, row.outcome, round(row.cost * 1e6, 3), row.tokens_in, row.tokens_out) for row in rows]


@pytest.fixture
async def house(db: SqliteDatabase, clock: ManualClock) -> AsyncIterator[House]:
    egress, vault, breaker, background = EgressClient(), Vault(b"k" * 32, clock), Breaker(clock), Background()
    router = ModelRouter(db=db, vault=vault, egress=egress, clock=clock, words=WORDS, pace=0)
    audit = Audit(clock, b"a" * 32)
    models = ModelActions(db=db, vault=vault, audit=audit, clock=clock, router=router, breaker=breaker, words=WORDS)
    spending = Spending(db=db, clock=clock, background=background, limits=router.limits)
    usage = UsageActions(db=db, audit=audit, clock=clock, router=router, spending=spending)
    cache = AnswerCache(clock, router.caches)
    async with ModelServer() as server:
        yield House(db, router, models, usage, spending, cache, breaker, clock, server)
    await spending.flush()
    await background.stop()
    await egress.close()


async def test_each_call_is_written_down_once(house: House) -> None:
    await house.provider("m", 2.0)
    heard: list[Record] = []
    house.spending.listeners.append(heard.append)
    await house.ask()
    await house.ask(spender=None)
    assert await house.rows() == [("m", "ok", 36.0, 11, 7)]
    assert [record.outcome for record in heard] == ["ok"]
    row = await house.db.read(lambda c: c.execute(select(usage_t)).one())
    assert (row.bot, row.person, row.job_id, row.provider) == ("hr-bot", "feishu:ou_1", 7, "m")


async def test_every_attempt_of_a_chain_is_written_down(house: House) -> None:
    await house.provider("bad")
    await house.provider("good")
    house.server.default = lambda asked: (
        Reply(text="some words", cut_at=3, pause=0.01) if asked.body["model"] == "bad" else Reply()
    )
    events = await house.ask()
    assert [type(event) for event in events if not isinstance(event, TextDelta)] == [Switched, Completed]
    rows = await house.rows()
    assert [row[:2] for row in rows] == [("bad", "model.broken"), ("good", "ok")]
    assert rows[0][4] > 0  # what had streamed is estimated


async def test_a_cancelled_call_is_written_down(house: House) -> None:
    await house.provider("m")
    await house.usage.set_limits(ADMIN, Limits(bots={"": 100}))
    house.server.default = Reply(text="word " * 500, pause=0.01)
    request = ModelRequest(messages=(ChatMessage(role="user", text="hi"),), spender=SPENDER)
    stream = answer(
        house.router.chain(TENANT), request, clock=house.clock, breaker=house.breaker, spending=house.spending
    )
    await anext(stream)
    await stream.aclose()
    assert [row[:2] for row in await house.rows()] == [("m", "cancelled")]


@pytest.mark.parametrize("who", ["bot", "person"])
async def test_fifty_parallel_calls_overshoot_a_limit_by_nothing(who: str, house: House) -> None:
    await house.provider("m", 1000.0, max_tokens=20)
    limit = 0.5
    limits = Limits(bots={"hr-bot": limit}) if who == "bot" else Limits(people={"": limit})
    await house.usage.set_limits(ADMIN, limits)
    house.server.default = Reply(text="hello", tokens_in=12, tokens_out=20, pause=0.002)

    async def one() -> str:
        try:
            await house.ask()
        except AppError as error:
            return error.code
        return "ok"

    ends: list[str] = []
    for _ in range(3):
        ends += await asyncio.gather(*(one() for _ in range(50)))
        await house.spending.flush()
    total = (
        await house.usage.spent(ADMIN, bot="hr-bot")
        if who == "bot"
        else await house.usage.spent(ADMIN, person="feishu:ou_1")
    )
    assert set(ends) == {"ok", f"budget.{who}"}
    assert total <= limit
    assert total == pytest.approx(ends.count("ok") * 0.032)
    assert limit - total < 0.1  # and what is allowed can be used
    assert all(asked.body["max_tokens"] == 20 for asked in house.server.asked)


async def test_a_limit_bounds_the_answer_where_nobody_else_did(house: House) -> None:
    await house.provider("m")
    await house.ask()
    await house.usage.set_limits(ADMIN, Limits(bots={"": 10}))
    await house.ask()
    assert [asked.body.get("max_tokens") for asked in house.server.asked] == [None, 4096]


async def test_a_spent_limit_leaves_what_costs_nothing(house: House) -> None:
    await house.provider("dear", 10.0)
    await house.provider("free", 0.0)
    await house.usage.set_limits(ADMIN, Limits(people={"feishu:ou_1": 0}))
    events = await house.ask()
    assert [event.ref for event in events if isinstance(event, Switched)] == ["free/free"]
    assert await house.rows() == [("free", "ok", 0.0, 11, 7)]
    other = Spender(tenant=TENANT, bot="hr-bot", person="feishu:ou_2")
    assert not [event for event in await house.ask(other) if isinstance(event, Switched)]


async def test_what_a_crash_left_reserved_is_given_back(house: House) -> None:
    await house.provider("m", 1000.0)
    await house.usage.set_limits(ADMIN, Limits(bots={"": 10}))

    def reserved(at: int, cost: float, outcome: str) -> None:
        record = Record(
            at=at,
            spender=SPENDER,
            provider="m",
            model="m",
            tokens_in=0,
            tokens_out=0,
            cost=cost,
            first_token_ms=None,
            total_ms=0,
            outcome=outcome,
        )
        rows.append(record.columns())

    rows: list[dict[str, object]] = []
    reserved(house.clock.ms(), 9.9, "reserved")
    await house.db.write(lambda c: c.execute(insert(usage_t), rows).rowcount)
    with pytest.raises(Conflict) as caught:
        await house.ask()
    assert (caught.value.code, caught.value.params) == ("budget.bot", {"limit": "10"})
    house.clock.advance(3601)
    await house.ask()


async def test_a_new_month_begins_anew(house: House) -> None:
    await house.provider("m", 1000.0, max_tokens=20)
    await house.usage.set_limits(ADMIN, Limits(bots={"": 0.06}))
    await house.ask()
    await house.spending.flush()
    with pytest.raises(Conflict):
        await house.ask()
    house.clock.advance(31 * 86_400)
    await house.ask()


def test_a_month_begins_at_midnight_in_china() -> None:
    def ms(*parts: int) -> int:
        return int(datetime(*parts, tzinfo=UTC).timestamp() * 1000)  # type: ignore[arg-type,misc]

    assert month_start(ms(2026, 11, 24, 3)) == ms(2026, 10, 31, 16)
    assert month_start(ms(2026, 10, 31, 15, 59)) == ms(2026, 9, 30, 16)
    assert month_start(ms(2026, 10, 31, 16)) == ms(2026, 10, 31, 16)


async def test_cache_is_off_until_switched_on_and_kept_apart(house: House) -> None:
    await house.provider("m")
    await house.ask()
    await house.ask()
    assert house.server.count == 2
    await house.usage.set_cache(ADMIN, True)
    for _ in range(3):
        events = await house.ask()
    assert house.server.count == 3
    assert isinstance(events[0], TextDelta)
    assert isinstance(events[-1], Completed)
    assert (events[0].text, events[-1].text, events[-1].tokens_out) == ("hello", "hello", 0)
    assert [row[1] for row in await house.rows()] == ["ok"] * 3 + ["cached"] * 2
    await house.ask(temperature=0.1)
    assert house.server.count == 4
    house.clock.advance(601)
    await house.ask()
    assert house.server.count == 5
    await house.usage.set_cache(ADMIN, False)
    await house.ask()
    assert house.server.count == 6


async def test_sums(house: House) -> None:
    await house.provider("m", 2.0)
    for person in ("a", "a", "b"):
        await house.ask(Spender(tenant=TENANT, bot="x", person=person))
    by = {item.key: item for item in await house.usage.usage(ADMIN, "person")}
    assert {key: item.calls for key, item in by.items()} == {"a": 2, "b": 1}
    assert [item.key for item in await house.usage.usage(ADMIN, "model")] == ["m/m"]
    total = (await house.usage.usage(ADMIN, "provider"))[0]
    assert (total.calls, total.failed, total.tokens_in, total.tokens_out) == (3, 0, 33, 21)
    assert total.cost == pytest.approx(108e-6)
    with pytest.raises(Invalid):
        await house.usage.usage(ADMIN, "colour")
    other = principal(id="user:8", name="o", role="owner", tenant="other")
    assert await house.usage.usage(other, "model") == []


async def test_rights_and_wrong_limits(house: House) -> None:
    viewer = principal(id="user:3", name="cleo", role="auditor")
    with pytest.raises(Denied):
        await house.usage.set_limits(viewer, Limits())
    with pytest.raises(Denied):
        await house.usage.usage(principal(id="user:4", name="d", role="member"))
    for wrong in (-1.0, float("nan"), float("inf"), "5", True):
        with pytest.raises(Invalid):
            await house.usage.set_limits(ADMIN, Limits(bots={"": wrong}))  # type: ignore[dict-item]
    assert read_limits(None) == Limits()
    await house.provider("m")
    await house.usage.set_limits(ADMIN, Limits(bots={"": 5}))
    assert (await house.usage.limits(ADMIN)).bot("any") == 5
    await house.usage.set_limits(ADMIN, Limits())
    assert (await house.usage.limits(ADMIN)).bot("any") is None
