"""`POST /hooks/<name>` with the real ledger and vault: what enters, once, and what is refused."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from typing import Any

import pytest
from sqlalchemy import select

from channels.webhook.actions import HookActions, HookDraft
from channels.webhook.proof import document_sign
from channels.webhook.receiver import HookReceiver, hook_t
from channels.webhook.signing import signature
from routes.hooks import HookRoute
from storage.audit import Audit, audit_t
from storage.clock import ManualClock
from storage.database import SqliteDatabase
from storage.errors import Conflict, Denied, Invalid, NotFound
from storage.ledger import DeliveryView, JobView, Ledger, message_t
from storage.principal import Principal, principal
from storage.tables.bots import Bot
from storage.vault import Vault
from storage.words import Words
from tests.rules.reading import ROOT

ADMIN = principal(id="user:1", name="admin", role="admin")
MEMBER = principal(id="user:2", name="member", role="member")
SECRET = "a-shared-secret-of-some-length"
ALERT = {"alert": {"name": "磁盘满", "id": "ev-1"}}


class House:
    """Everything behind the route."""

    def __init__(self, db: SqliteDatabase, clock: ManualClock) -> None:
        self.db, self.clock = db, clock
        self.ledger = Ledger(db, clock)
        self.jobs: list[JobView] = []
        self.pushes: list[DeliveryView] = []
        self.ledger.on_job = self.jobs.append
        self.ledger.on_deliveries = self.pushes.extend
        vault = Vault(b"k" * 32, clock)
        self.receiver = HookReceiver(db, vault, clock, self.ledger)
        self.actions = HookActions(db, vault, Audit(clock, b"a" * 32), clock, self.receiver)
        self.route = HookRoute(self.receiver, Words(ROOT / "assets" / "locale"))
        self.waits = 0

    async def bot(self, name: str, type: str) -> None:
        row = {
            "tenant": "main",
            "name": name,
            "type": type,
            "mode": "",
            "settings": "{}",
            "managed_by": "",
            "model": "",
        }
        now = {"created_at": self.clock.ms(), "updated_at": self.clock.ms()}
        await self.db.write(lambda c: c.execute(Bot.__table__.insert(), row | now))  # type: ignore[attr-defined]

    async def hook(self, **fields: Any) -> None:
        defaults: dict[str, Any] = {"name": "alerts", "template": "处理告警：{{alert.name}}", "secret": SECRET}
        await self.actions.save(ADMIN, HookDraft(**(defaults | fields)))

    async def ask(
        self,
        path: str,
        headers: Iterable[tuple[str, str]],
        body: bytes | list[bytes],
        method: str = "POST",
        ip: str = "10.0.0.9",
    ) -> tuple[int, dict[str, Any], dict[str, str]]:
        pieces = list(body) if isinstance(body, list) else [body]
        sent: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            if not pieces:
                return {"type": "http.disconnect"}
            piece = pieces.pop(0)
            return {"type": "http.request", "body": piece, "more_body": bool(pieces)}

        async def send(event: Any) -> None:
            sent.append(event)

        raw = [(k.encode(), v.encode("utf-8")) for k, v in headers]
        scope = {"type": "http", "method": method, "path": path, "headers": raw, "client": (ip, 1)}
        async with asyncio.timeout(5):
            await self.route(scope, receive, send)
        given = {k.decode(): v.decode() for k, v in sent[0]["headers"]}
        return sent[0]["status"], json.loads(sent[1]["body"]), given

    async def event(
        self, body: object = ALERT, *, secret: str = SECRET, delivery: str = "", **more: Any
    ) -> tuple[int, dict[str, Any]]:
        """A call signed in the hmac scheme."""
        raw = json.dumps(body).encode()
        at = str(self.clock.ms() // 1000)
        headers = [("x-zhixing-timestamp", at), ("x-zhixing-signature", signature(secret, at, raw))]
        if delivery:
            headers.append(("x-zhixing-delivery", delivery))
        status, answer, _ = await self.ask("/hooks/alerts", headers, raw, **more)
        return status, answer


@pytest.fixture
def house(db: SqliteDatabase, clock: ManualClock) -> House:
    return House(db, clock)


# ---- entering


async def test_an_event_becomes_a_task(house: House) -> None:
    await house.hook()
    status, answer = await house.event()
    assert (status, answer["accepted"], answer["duplicate"]) == (202, True, False)
    job = house.jobs[0]
    assert (job.id, job.channel, job.bot, job.title) == (answer["job"], "api", "hooks", "处理告警：磁盘满")
    row = await house.db.read(lambda c: c.execute(select(message_t)).one())
    assert (row.text, row.sender, row.origin) == ("处理告警：磁盘满", "hook:alerts", "t5")


async def test_a_tasks_answer_goes_to_the_named_bot(house: House) -> None:
    await house.bot("it-bot", "dingtalk")
    await house.hook(bot="it-bot", target="group:cidG==")
    await house.event()
    job = house.jobs[0]
    assert (job.channel, job.bot) == ("dingtalk", "it-bot")
    assert json.loads(job.address) == {"kind": "group", "conversation": "cidG=="}


async def test_an_event_becomes_a_message(house: House) -> None:
    await house.bot("ding", "webhook")
    await house.hook(turns="message", bot="ding", template="告警 {{alert.name}}")
    assert (await house.event())[0] == 202
    assert house.jobs == []
    assert [(p.bot, p.channel, json.loads(p.payload)["text"]) for p in house.pushes] == [
        ("ding", "webhook", "告警 磁盘满")
    ]


@pytest.mark.parametrize("turns", ["task", "message"])
async def test_the_same_event_enters_once(house: House, turns: str) -> None:
    await house.bot("ding", "webhook")
    await house.hook(turns=turns, bot="ding", id_path="alert.id")
    assert (await house.event())[1]["duplicate"] is False
    assert (await house.event())[1]["duplicate"] is True
    house.clock.advance(400)
    assert (await house.event())[1]["duplicate"] is True  # signed anew, same id
    assert (await house.event({"alert": {"name": "x", "id": "ev-2"}}))[1]["duplicate"] is False
    assert len(house.jobs) + len(house.pushes) == 2


@pytest.mark.parametrize("turns", ["task", "message"])
async def test_a_captured_call_cannot_be_played_again_under_another_delivery_id(house: House, turns: str) -> None:
    await house.bot("ding", "webhook")
    await house.hook(turns=turns, bot="ding")
    assert (await house.event(delivery="d1"))[1]["duplicate"] is False
    assert (await house.event(delivery="d2"))[1]["duplicate"] is True
    assert (await house.event())[1]["duplicate"] is True
    restarted = House(house.db, house.clock)
    assert (await restarted.event(delivery="d3"))[1]["duplicate"] is True
    assert len(house.jobs) + len(house.pushes) == 1


async def test_the_documents_scheme_and_a_bearer_token(house: House) -> None:
    await house.hook(name="doc", scheme="document")
    await house.hook(name="bear", scheme="bearer")
    raw, at = json.dumps(ALERT).encode(), str(house.clock.ms())
    signed = [("timestamp", at), ("sign", document_sign(SECRET, at, raw))]
    assert (await house.ask("/hooks/doc", signed, raw))[0] == 202
    bearer = [("authorization", f"Bearer {SECRET}")]
    assert (await house.ask("/hooks/bear", bearer, raw))[0] == 202
    assert (await house.ask("/hooks/bear", bearer, raw))[1]["duplicate"] is False
    once = [*bearer, ("x-zhixing-delivery", "d")]
    assert (await house.ask("/hooks/bear", once, raw))[1]["duplicate"] is False
    assert (await house.ask("/hooks/bear", once, raw))[1]["duplicate"] is True


# ---- refusing


async def test_wrong_calls_store_nothing(house: House) -> None:
    await house.hook()
    raw, at = json.dumps(ALERT).encode(), str(house.clock.ms() // 1000)
    good = [("x-zhixing-timestamp", at), ("x-zhixing-signature", signature(SECRET, at, raw))]
    cases: list[tuple[list[tuple[str, str]], bytes | list[bytes], str, str, int]] = [
        (good, raw, "GET", "/hooks/alerts", 405),
        (good, raw, "PUT", "/hooks/alerts", 405),
        (good, raw, "POST", "/hooks/other", 404),
        (good, raw, "POST", "/hooks/ALERTS", 404),
        (good, raw, "POST", "/hooks/alerts/", 404),
        (good, raw, "POST", "/hooks/" + "a" * 60_000, 404),
        ([], raw, "POST", "/hooks/alerts", 401),
        (good[:1], raw, "POST", "/hooks/alerts", 401),
        (good, raw + b" ", "POST", "/hooks/alerts", 401),
        (good, b"", "POST", "/hooks/alerts", 401),
        ([*good, ("x-zhixing-signature", "sha256=00")], raw, "POST", "/hooks/alerts", 422),
        ([*good, ("X-Zhixing-Timestamp", at)], raw, "POST", "/hooks/alerts", 422),
        ([*good, ("content-length", "2000000")], raw, "POST", "/hooks/alerts", 413),
        (good, [b"x" * 100_000] * 11, "POST", "/hooks/alerts", 413),
    ]
    for headers, body, method, path, wanted in cases:
        status, answer, _ = await house.ask(path, headers, body, method)
        assert (status, set(answer)) == (wanted, {"error"}), (headers, path, answer)
    assert house.jobs == []
    assert (await house.event())[0] == 202


@pytest.mark.parametrize("body", [b"", b"{", b"[" * 5000, b"\xff", b"NaN", b"{'a':1}"])
async def test_a_signed_body_that_is_no_json_is_refused(house: House, body: bytes) -> None:
    await house.hook()
    at = str(house.clock.ms() // 1000)
    headers = [("x-zhixing-timestamp", at), ("x-zhixing-signature", signature(SECRET, at, body))]
    status, answer, _ = await house.ask("/hooks/alerts", headers, body)
    assert (status, answer["error"]["code"]) == (422, "hook.json")
    assert house.jobs == []


async def test_an_event_that_fills_nothing_is_refused(house: House) -> None:
    await house.hook(template="{{alert.gone}}")
    status, answer = await house.event()
    assert (status, answer["error"]["code"]) == (422, "hook.nothing")


async def test_a_caller_who_knocks_too_often_waits_and_others_do_not(house: House) -> None:
    await house.hook()
    codes = [(await house.event(secret="wrong"))[0] for _ in range(80)]
    assert codes[0] == 401
    assert codes[-1] == 429
    status, _, headers = await house.ask("/hooks/alerts", [], b"{}")
    assert status == 429
    assert int(headers["retry-after"]) >= 1
    assert (await house.event(ip="10.0.0.10"))[0] == 202
    house.clock.advance(60)
    assert (await house.event(delivery="later"))[0] == 202


async def test_a_slow_body_is_given_up(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("routes.hooks.BODY_SECONDS", 0.01)
    await house.hook()
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        await asyncio.Event().wait()
        raise AssertionError

    async def send(event: Any) -> None:
        sent.append(event)

    scope = {"type": "http", "method": "POST", "path": "/hooks/alerts", "headers": [], "client": None}
    async with asyncio.timeout(5):
        await house.route(scope, receive, send)
    assert sent[0]["status"] == 422


async def test_a_full_database_is_told_and_nothing_acknowledged(house: House) -> None:
    await house.hook()

    async def full(*_: object, **__: object) -> Any:
        from storage.errors import Unavailable

        raise Unavailable("db.full")

    house.ledger.accept = full  # type: ignore[method-assign]
    assert (await house.event())[0] == 503


async def test_a_paused_hook_and_a_removed_bot(house: House) -> None:
    await house.bot("ding", "webhook")
    await house.hook(bot="ding")
    await house.actions.pause(ADMIN, "alerts")
    assert (await house.event())[0] == 404
    await house.actions.pause(ADMIN, "alerts", paused=False)
    await house.db.write(lambda c: c.execute(Bot.__table__.delete()))  # type: ignore[attr-defined]
    status, answer = await house.event()
    assert (status, answer["error"]["code"]) == (422, "hook.bot_gone")


# ---- what an admin does


async def test_a_new_hook_shows_its_secret_once(house: House) -> None:
    saved = await house.actions.save(ADMIN, HookDraft(name="ci", template="{{.}}"))
    assert len(saved.secret) >= 32
    assert saved.row.path == "/hooks/ci"
    again = await house.actions.save(ADMIN, HookDraft(name="ci", template="x {{.}}"))
    assert again.secret == ""
    assert again.row.secret == saved.secret[-4:]
    new = await house.actions.rotate(ADMIN, "ci")
    assert new not in ("", saved.secret)
    whole = await house.db.read(lambda c: str([*c.execute(select(audit_t)), *c.execute(select(hook_t))]))
    assert saved.secret not in whole
    assert new not in whole


async def test_calls_are_listed_also_refused_ones(house: House) -> None:
    await house.hook()
    await house.event(secret="wrong")
    await house.event()
    await house.event()
    calls = await house.actions.calls(ADMIN, "alerts")
    assert [(c.code, c.fresh) for c in calls] == [("", False), ("", True), ("hook.signature", True)]
    assert (await house.actions.list(ADMIN))[0].last == calls[0]


async def test_a_template_is_tried_out(house: House) -> None:
    draft = HookDraft(name="x", template="{{alert.name}} {{alert.gone}}", id_path="alert.id")
    found = await house.actions.try_out(ADMIN, draft, json.dumps(ALERT))
    assert (found.text, found.missing, found.event) == ("磁盘满 ", ("alert.gone",), "ev-1")
    with pytest.raises(Invalid):
        await house.actions.try_out(ADMIN, draft, "{")
    assert house.jobs == []


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"name": ""}, "name"),
        ({"name": "Upper"}, "name"),
        ({"name": "a/b"}, "name"),
        ({"name": "-a"}, "name"),
        ({"name": "a" * 64}, "name"),
        ({"scheme": "none"}, "scheme"),
        ({"turns": "code"}, "turns"),
        ({"template": ""}, "template"),
        ({"template": "{{a()}}"}, "template"),
        ({"secret": "short"}, "secret"),
        ({"turns": "message"}, "bot"),
        ({"bot": "nobody"}, "bot"),
        ({"bot": "it-bot", "target": "nonsense"}, "target"),
        ({"id_path": "a" * 300}, "id_path"),
    ],
)
async def test_wrong_input_names_its_field(house: House, fields: dict[str, Any], field: str) -> None:
    await house.bot("it-bot", "dingtalk")
    with pytest.raises(Invalid) as error:
        await house.hook(**fields)
    assert error.value.field == field


async def test_rights_and_tenants(house: House) -> None:
    await house.hook()
    stranger = principal(id="user:9", name="x", role="admin", tenant="other")
    for who, kind in ((MEMBER, Denied), (stranger, NotFound)):
        with pytest.raises(kind):
            await house.actions.rotate(who, "alerts")
        with pytest.raises(kind):
            await house.actions.pause(who, "alerts")
        with pytest.raises(kind):
            await house.actions.remove(who, "alerts")
        with pytest.raises(kind):
            await house.actions.calls(who, "alerts")
    with pytest.raises(Denied):
        await house.actions.list(MEMBER)
    assert await house.actions.list(stranger) == []
    with pytest.raises(Conflict):
        await house.actions.save(stranger, HookDraft(name="alerts", template="{{.}}"))
    await house.actions.remove(ADMIN, "alerts")
    assert (await house.event())[0] == 404


def test_a_principal_is_what_actions_take() -> None:
    assert isinstance(ADMIN, Principal)
