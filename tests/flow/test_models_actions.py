"""Providers as admins and files keep them, and the router that picks from them while everything runs."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import yaml
from sqlalchemy import insert, select

from agent.models.actions import ModelActions
from agent.models.base import ChatMessage, Completed, ModelRequest, TextDelta
from agent.models.breaker import Breaker
from agent.models.presets import PRESETS
from agent.models.provider import ModelSpec, ProviderDraft, read_entry, split_keys, split_models
from agent.models.router import ModelRouter
from security.egress_client import EgressClient
from storage.audit import Audit, audit_t
from storage.clock import ManualClock
from storage.database import SqliteDatabase
from storage.errors import AppError, Conflict, Denied, Invalid, NotFound
from storage.principal import TENANT, Principal, principal
from storage.tables.models import Usage
from storage.tables.system import Secret
from storage.vault import Vault
from storage.words import Words
from tests.fakes.model_server import ModelServer, Reply

WORDS = Words(Path(__file__).resolve().parents[2] / "assets" / "locale")
ADMIN = principal(id="user:1", name="ann", role="admin", lang="en")
MEMBER = principal(id="user:2", name="ben", role="member")
DOCUMENT = """
providers:
  - name: "enterprise-llm"
    type: "api"
    endpoint: "%s/v1/chat"
    api_key: "your-api-key-here"
    max_tokens: 2048
    temperature: 0.7
"""


@dataclass
class House:
    actions: ModelActions
    router: ModelRouter
    server: ModelServer
    db: SqliteDatabase
    breaker: Breaker

    def draft(self, name: str = "one", **more: object) -> ProviderDraft:
        given: dict[str, object] = {"endpoint": f"{self.server.url}/v1", "keys": ("sk-secret-1234",)}
        models = (ModelSpec(name="m", price_in=2, price_out=8),)
        return ProviderDraft(name=name, **{"models": models, **given, **more})  # type: ignore[arg-type]

    def refs(self, wanted: str = "") -> list[str]:
        return [choice.ref for choice in self.router.chain(TENANT, wanted)]

    async def audited(self) -> list[tuple[str, str]]:
        rows = await self.db.read(lambda c: c.execute(select(audit_t).order_by(audit_t.c.id)).all())
        assert "secret" not in json.dumps([[str(cell) for cell in row] for row in rows])
        return [(row.action, row.target) for row in rows]

    async def ask(self, wanted: str = "") -> Completed:
        request = ModelRequest(messages=(ChatMessage(role="user", text="hi"),), deadline=5)
        async with asyncio.timeout(10):
            events = [event async for event in self.router.chain(TENANT, wanted)[0].model.stream(request)]
        assert isinstance(events[-1], Completed)
        return events[-1]


@pytest.fixture
async def house(db: SqliteDatabase, clock: ManualClock) -> AsyncIterator[House]:
    egress, vault, breaker = EgressClient(), Vault(b"k" * 32, clock), Breaker(clock)
    router = ModelRouter(db=db, vault=vault, egress=egress, clock=clock, words=WORDS, pace=0)
    actions = ModelActions(
        db=db,
        vault=vault,
        audit=Audit(clock, b"a" * 32),
        clock=clock,
        router=router,
        breaker=breaker,
        words=WORDS,
    )
    async with ModelServer() as server:
        yield House(actions, router, server, db, breaker)
    await egress.close()


async def test_saved_provider_answers_and_its_key_is_never_shown(house: House) -> None:
    row = await house.actions.save(ADMIN, house.draft(temperature=0.3, max_tokens=99))
    assert (row.name, row.refs, row.key_tail, row.managed_by) == ("one", ("one/m",), "1234", "")
    assert row.draft.keys is None
    assert (await house.ask()).text == "hello"
    asked = house.server.asked[0]
    assert (asked.key, asked.body["model"]) == ("sk-secret-1234", "m")
    assert (asked.body["temperature"], asked.body["max_tokens"]) == (0.3, 99)
    boxes = await house.db.read(lambda c: c.execute(select(Secret.__table__)).all())
    assert all("secret" not in box.box for box in boxes)
    assert await house.audited() == [("model.create", "one")]


async def test_saving_the_same_again_changes_nothing(house: House) -> None:
    await house.actions.save(ADMIN, house.draft())
    before = house.router.chain(TENANT)[0].model
    await house.actions.save(ADMIN, house.draft())
    await house.actions.save(ADMIN, house.draft(keys=None))
    assert await house.audited() == [("model.create", "one")]
    assert house.router.chain(TENANT)[0].model is before


async def test_key_is_replaced_kept_or_removed(house: House) -> None:
    await house.actions.save(ADMIN, house.draft())
    await house.actions.save(ADMIN, house.draft(keys=None, temperature=1.0))
    await house.ask()
    await house.actions.save(ADMIN, house.draft(keys=("sk-secret-a", "sk-secret-b")))
    await house.ask()
    await house.ask()
    assert [asked.key for asked in house.server.asked] == ["sk-secret-1234", "sk-secret-a", "sk-secret-b"]
    assert (await house.actions.save(ADMIN, house.draft(keys=()))).key_tail is None


async def test_kept_key_never_goes_to_another_host(house: House) -> None:
    await house.actions.save(ADMIN, house.draft())
    moved = house.draft(endpoint="https://evil.example/v1", keys=None)
    for act in (house.actions.save, house.actions.test, house.actions.models):
        with pytest.raises(Invalid) as caught:
            await act(ADMIN, moved)  # type: ignore[operator]
        assert (caught.value.code, caught.value.field) == ("model.key_needed", "keys")
    await house.actions.save(ADMIN, house.draft(endpoint=f"{house.server.url}/other/v1", keys=None))


WRONG: list[tuple[dict[str, object], str, str]] = [
    ({"name": ""}, "model.name_form", "name"),
    ({"name": "a/b"}, "model.name_form", "name"),
    ({"name": "x" * 60}, "model.name_form", "name"),
    ({"type": "magic"}, "model.type", "type"),
    ({"endpoint": ""}, "model.endpoint.empty", "endpoint"),
    ({"endpoint": "ftp://x"}, "model.endpoint.scheme", "endpoint"),
    ({"keys": ("has space",)}, "model.key_form", "keys"),
    ({"keys": ("中文",)}, "model.key_form", "keys"),
    ({"models": (ModelSpec(name=""),)}, "model.models_form", "models"),
    ({"models": (ModelSpec(name="a"), ModelSpec(name="a"))}, "model.models_form", "models"),
    ({"models": (ModelSpec(name="a", price_in=-1),)}, "model.price", "price"),
    ({"models": (ModelSpec(name="a", price_in=float("nan")),)}, "model.price", "price"),
    ({"temperature": 3.0}, "model.temperature", "temperature"),
    ({"temperature": "hot"}, "model.temperature", "temperature"),
    ({"max_tokens": 0}, "model.max_tokens", "max_tokens"),
    ({"max_tokens": True}, "model.max_tokens", "max_tokens"),
    ({"timeout": 9999}, "model.timeout_form", "timeout"),
    ({"preset": "deepseek", "keys": None}, "model.key_needed", "keys"),
]


@pytest.mark.parametrize(("change", "code", "field"), WRONG)
async def test_wrong_input_is_told_at_its_field(change: dict[str, object], code: str, field: str, house: House) -> None:
    with pytest.raises(Invalid) as caught:
        await house.actions.save(ADMIN, house.draft(**change))
    assert (caught.value.code, caught.value.field) == (code, field)
    for lang in ("zh_CN", "en"):
        assert WORDS.has(lang, f"error.{code}")
        assert WORDS.has(lang, f"error.{code}.remedy")
    assert await house.audited() == []


async def test_rights(house: House) -> None:
    viewer = principal(id="user:3", name="cleo", role="auditor")
    await house.actions.save(ADMIN, house.draft())
    acts = [
        lambda who: house.actions.save(who, house.draft()),
        lambda who: house.actions.remove(who, "one"),
        lambda who: house.actions.order(who, ["one"]),
        lambda who: house.actions.default(who, "one/m"),
        lambda who: house.actions.price(who, "one/m", 1, 1),
        lambda who: house.actions.test(who, "one"),
        lambda who: house.actions.models(who, "one"),
        lambda who: house.actions.find_ollama(who),
    ]
    for act in acts:
        for who in (MEMBER, viewer):
            with pytest.raises(Denied):
                await act(who)
    with pytest.raises(Denied):
        await house.actions.list(MEMBER)
    assert [row.name for row in await house.actions.list(viewer)] == ["one"]
    assert [item.ref for item in await house.actions.choices(MEMBER)] == ["one/m"]


async def test_other_tenants_see_nothing(house: House) -> None:
    await house.actions.save(ADMIN, house.draft())
    other = Principal(id="user:9", tenant="other", name="o", role="owner", rights=ADMIN.rights)
    assert await house.actions.list(other) == []
    assert await house.actions.choices(other) == []
    assert house.router.chain("other") == []
    with pytest.raises(NotFound):
        await house.actions.remove(other, "one")
    await house.actions.save(other, house.draft(keys=("other",)))
    assert house.router.chain("other")[0].model is not house.router.chain(TENANT)[0].model


async def test_order_default_and_fallback(house: House) -> None:
    assert house.refs() == []
    two = (ModelSpec(name="a"), ModelSpec(name="x/b"))
    await house.actions.save(ADMIN, house.draft("one", models=two))
    await house.actions.save(ADMIN, house.draft("two"))
    await house.actions.save(ADMIN, house.draft("three", fallback=False))
    await house.actions.save(ADMIN, ProviderDraft(name="demo", type="demo"))
    assert house.refs() == ["one/a", "two/m"]
    assert house.refs("one/x/b") == ["one/x/b", "one/a", "two/m"]
    assert house.refs("three/m") == ["three/m", "one/a", "two/m"]
    assert house.refs("gone/m") == ["one/a", "two/m"]
    assert house.refs("demo") == ["demo"]
    await house.actions.order(ADMIN, ["three", "two", "one", "demo"])
    assert house.refs() == ["three/m", "two/m", "one/a"]
    await house.actions.default(ADMIN, "one/x/b")
    assert house.refs() == ["one/x/b", "two/m", "one/a"]
    assert house.refs("two/m") == ["two/m", "one/x/b", "one/a"]
    assert [item.ref for item in await house.actions.choices(MEMBER) if item.default] == ["one/x/b"]
    await house.actions.save(ADMIN, house.draft("one", models=two, enabled=False))
    assert house.refs() == ["three/m", "two/m"]
    assert [row.draft.enabled for row in await house.actions.list(ADMIN)] == [True, True, False, True]
    await house.actions.remove(ADMIN, "one")
    await house.actions.remove(ADMIN, "two")
    await house.actions.remove(ADMIN, "three")
    assert house.refs() == ["demo"]
    assert house.router.chain(TENANT)[0].demo
    with pytest.raises(Invalid):
        await house.actions.order(ADMIN, ["demo", "ghost"])
    with pytest.raises(NotFound):
        await house.actions.default(ADMIN, "ghost/m")


async def test_name_taken_and_absent(house: House) -> None:
    await house.actions.save(ADMIN, house.draft(), create=True)
    with pytest.raises(Conflict):
        await house.actions.save(ADMIN, house.draft(), create=True)
    with pytest.raises(NotFound):
        await house.actions.remove(ADMIN, "ghost")
    with pytest.raises(NotFound):
        await house.actions.test(ADMIN, "ghost")


async def test_prices(house: House) -> None:
    await house.actions.save(ADMIN, house.draft())
    await house.actions.price(ADMIN, "one/m", 1.5, 6)
    choice = house.router.chain(TENANT)[0]
    assert (choice.price_in, choice.price_out) == (1.5, 6)
    assert (await house.ask()).text == "hello"  # with the kept key


async def test_a_test_really_completes(house: House) -> None:
    house.server.enqueue(Reply(text="OK", reasoning="hm"))
    result = await house.actions.test(ADMIN, house.draft())
    assert (result.ok, result.text, result.model) == (True, "OK", "fake" if result.model == "fake" else "m")
    assert "Reply only" in house.server.asked[0].body["messages"][0]["content"]
    await house.actions.save(ADMIN, house.draft())
    assert (await house.actions.test(ADMIN, "one")).ok
    assert house.server.asked[-1].key == "sk-secret-1234"


@pytest.mark.parametrize(
    ("reply", "code"),
    [
        (Reply(status=401), "model.key"),
        (Reply(status=404, body={"error": {"message": "model m not found"}}), "model.unknown"),
        (Reply(status=402), "model.quota"),
        (Reply(status=429), "model.throttled"),
        (Reply(body="<html></html>"), "model.not_api"),
        (Reply(status=500), "model.down"),
    ],
)
async def test_a_failed_test_says_why(reply: Reply, code: str, house: House) -> None:
    house.server.default = reply
    result = await house.actions.test(ADMIN, house.draft())
    assert (result.ok, result.code) == (False, code)
    assert house.server.count == 1  # a test does not retry
    for lang in ("zh_CN", "en"):
        assert WORDS.has(lang, f"error.{code}")
        assert WORDS.has(lang, f"error.{code}.remedy")


async def test_a_test_of_an_unreachable_address(house: House) -> None:
    port = house.server.port
    await house.server.stop()
    result = await house.actions.test(ADMIN, house.draft(endpoint=f"http://127.0.0.1:{port}/v1"))
    assert result.code == "model.connect"
    result = await house.actions.test(ADMIN, house.draft(endpoint="https://no-such-host.invalid/v1"))
    assert result.code == "model.dns"


async def test_lists_models_and_finds_ollama(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    house.server.models = ["chat-1", "text-embedding-3", "chat-2"]
    assert await house.actions.models(ADMIN, house.draft()) == ["chat-1", "chat-2"]
    monkeypatch.setattr("agent.models.trial.LOCAL_OLLAMA", (house.server.url,))
    assert await house.actions.find_ollama(ADMIN) == (house.server.url, ["chat-1", "chat-2"])
    monkeypatch.setattr("agent.models.trial.LOCAL_OLLAMA", ("http://127.0.0.1:9",))
    assert await house.actions.find_ollama(ADMIN) is None


async def test_the_documents_file_works_unchanged(house: House) -> None:
    raw = yaml.safe_load(DOCUMENT % house.server.url)
    entries = [read_entry(item) for item in raw["providers"]]
    await house.actions.provision("llm.yaml", entries)
    assert house.refs() == ["enterprise-llm/auto"]
    house.server.models = ["text-embedding-1", "company-model"]
    assert (await house.ask()).text == "hello"
    asked = house.server.asked[0]
    assert asked.path == "/v1/chat/completions"
    assert (asked.key, asked.body["model"]) == ("your-api-key-here", "company-model")
    assert (asked.body["max_tokens"], asked.body["temperature"]) == (2048, 0.7)
    row = (await house.actions.list(ADMIN))[0]
    assert (row.managed_by, row.key_tail) == ("llm.yaml", "here")
    house.server.models = []
    await house.actions.provision("llm.yaml", [replace(entries[0], temperature=0.5)])
    await house.ask()
    assert house.server.asked[-1].body["model"] == "enterprise-llm"


async def test_provisioning(house: House) -> None:
    await house.actions.save(ADMIN, house.draft("panel"))
    files = [house.draft("f1"), house.draft("f2")]
    for _ in range(2):  # repeating changes nothing
        await house.actions.provision("llm.yaml", files)
    acts = [("model.create", "panel"), ("model.create", "f1"), ("model.create", "f2")]
    assert await house.audited() == acts
    for act in (
        lambda: house.actions.save(ADMIN, house.draft("f1", temperature=1.0)),
        lambda: house.actions.remove(ADMIN, "f1"),
        lambda: house.actions.price(ADMIN, "f1/m", 1, 1),
    ):
        with pytest.raises(Conflict) as caught:
            await act()
        assert caught.value.params == {"file": "llm.yaml"}
    await house.actions.provision("llm.yaml", [house.draft("f2", temperature=1.0)])
    assert (await house.audited())[3:] == [("model.remove", "f1"), ("model.update", "f2")]
    with pytest.raises(Conflict):
        await house.actions.provision("llm.yaml", [house.draft("new"), house.draft("panel")])
    assert house.refs() == ["panel/m", "f2/m"]  # refused whole
    with pytest.raises(Conflict):
        await house.actions.provision("llm.yaml", [house.draft("x"), house.draft("x")])
    await house.actions.provision("llm.yaml", [])
    assert house.refs() == ["panel/m"]
    exported = await house.actions.export(ADMIN)
    assert read_entry(exported[0]).models == house.draft("panel").models


@pytest.mark.parametrize(
    ("entry", "field"),
    [
        ({"type": "api", "endpoint": "https://x/v1"}, "name"),
        ({"name": "a", "endpoint": "https://x/v1", "colour": "red"}, "colour"),
        ({"name": "a", "endpoint": 7}, "endpoint"),
        ({"name": "a", "endpoint": "https://x/v1", "max_tokens": "many"}, "max_tokens"),
        ({"name": "a", "endpoint": "https://x/v1", "fallback": "yes"}, "fallback"),
        ({"name": "a", "endpoint": "https://x/v1", "models": [{"id": "x"}]}, "models"),
        ({"name": "a", "endpoint": "https://x/v1", "price": 5}, "price"),
        ({"name": "a", "type": "other", "endpoint": "https://x/v1"}, "type"),
        ({"name": "a"}, "endpoint"),
    ],
)
def test_wrong_entries_of_a_file(entry: dict[str, object], field: str) -> None:
    with pytest.raises(Invalid) as caught:
        read_entry(entry)
    assert caught.value.field == field


def test_entries_with_all_additions() -> None:
    draft = read_entry(
        {
            "name": "ds",
            "type": "openai",
            "endpoint": "https://api.deepseek.com",
            "api_key": ["k1", "k2"],
            "models": ["a", {"name": "b", "context": 1000, "price_out": 9}],
            "price": {"in": 2, "out": 3},
            "timeout": 60,
            "fallback": False,
        }
    )
    assert draft.keys == ("k1", "k2")
    assert draft.models == (
        ModelSpec(name="a", price_in=2, price_out=3),
        ModelSpec(name="b", context=1000, price_in=2, price_out=9),
    )
    assert (draft.timeout, draft.fallback) == (60, False)
    assert read_entry({"name": "o", "type": "ollama"}).endpoint == "http://127.0.0.1:11434"
    assert read_entry({"name": "d", "type": "demo"}).type == "demo"


def test_forms() -> None:
    assert split_keys(" a \n\nb, c，a") == ("a", "b", "c")
    assert [spec.name for spec in split_models("a\nb,c")] == ["a", "b", "c"]


async def test_figures_of_the_last_day(house: House, clock: ManualClock) -> None:
    await house.actions.save(ADMIN, house.draft())
    now = clock.ms()

    def rows(c: object) -> None:
        for outcome, first, cost, age in (
            ("ok", 100, 1.0, 0),
            ("ok", 300, 1.0, 0),
            ("model.down", None, 0.0, 0),
            ("reserved", None, 5.0, 0),
            ("ok", 999, 1.0, 2 * 86_400_000),
        ):
            c.execute(  # type: ignore[attr-defined]
                insert(Usage.__table__).values(
                    tenant=TENANT,
                    at=now - age,
                    provider="one",
                    model="m",
                    bot="",
                    person="",
                    tokens_in=1,
                    tokens_out=1,
                    cost=cost,
                    first_token_ms=first,
                    total_ms=1,
                    outcome=outcome,
                )
            )

    await house.db.write(rows)
    row = (await house.actions.list(ADMIN))[0]
    assert (row.first_token_ms, row.calls, row.failed) == (200, 3, 1)


async def test_resting_provider_is_shown(house: House) -> None:
    await house.actions.save(ADMIN, house.draft())
    for _ in range(5):
        house.breaker.failed("one", Conflict("x"))
        house.breaker.failed("one", AppError("x"))
    assert (await house.actions.list(ADMIN))[0].resting == 0
    from storage.errors import Unavailable

    for _ in range(5):
        house.breaker.failed("one", Unavailable("model.down"))
    row = (await house.actions.list(ADMIN))[0]
    assert (row.resting, row.resting_code) == (30, "model.down")


async def test_another_process_is_noticed(house: House, clock: ManualClock) -> None:
    await house.actions.save(ADMIN, house.draft())
    assert await house.router.refresh() is False
    second = ModelRouter(
        db=house.db,
        vault=house.router.vault,
        egress=house.router.egress,
        clock=clock,
        words=WORDS,
        pace=0,
    )
    assert await second.refresh() is True
    assert [choice.ref for choice in second.chain(TENANT)] == ["one/m"]
    clock.advance(1)
    await house.actions.save(ADMIN, house.draft("two"))
    assert await second.refresh() is True
    await house.actions.default(ADMIN, "two/m")
    assert await second.refresh() is True
    assert second.default(TENANT) == "two/m"
    await house.actions.remove(ADMIN, "one")
    assert await second.refresh() is True
    assert await second.refresh() is False


async def test_demo_provider_streams(house: House) -> None:
    await house.actions.save(ADMIN, ProviderDraft(name="demo", type="demo", preset="demo"))
    choice = house.router.chain(TENANT)[0]
    request = ModelRequest(messages=(ChatMessage(role="user", text="你好"),))
    texts = [event.text async for event in choice.model.stream(request) if isinstance(event, TextDelta)]
    assert choice.demo
    assert "演示模型" in "".join(texts)
    assert (await house.actions.test(ADMIN, "demo")).ok


def test_every_preset_is_usable_and_named() -> None:
    for item in PRESETS:
        for lang in ("zh_CN", "en"):
            assert WORDS.has(lang, f"preset.{item.name}")
            assert WORDS.has(lang, f"preset.{item.name}.where")
        if item.endpoint:
            entry = {"name": item.name, "type": item.type, "endpoint": item.endpoint, "api_key": "k"}
            assert read_entry(entry).endpoint == item.endpoint
