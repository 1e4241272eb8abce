"""Bots as the panel, the API and `channels.yaml` change them: with the real registry, vault and a fake vendor."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import insert, select

from channels.access import access_t
from channels.actions import BotActions, BotDraft, BotEntry
from channels.registry import Bots, bot_t
from security.egress_client import EgressClient
from storage.audit import Audit, audit_t
from storage.background import Background
from storage.clock import ManualClock
from storage.database import SqliteDatabase
from storage.errors import Conflict, Denied, Invalid, NotFound
from storage.ledger import Ledger, delivery_t
from storage.live import Live
from storage.principal import Principal, principal
from storage.vault import Vault, secret_t
from storage.words import Words
from tests.fakes.feishu_server import FeishuServer
from tests.rules.reading import ROOT

ADMIN = principal(id="user:1", name="admin", role="admin")
AUDITOR = principal(id="user:2", name="auditor", role="auditor")
MEMBER = principal(id="user:3", name="member", role="member")
OTHER = principal(id="user:9", name="other", role="owner", tenant="other")
SECRETS = {"app_secret": "app-secret", "encrypt_key": "enc-key-0123456789", "verification_token": "vt"}


@pytest.fixture
async def server() -> AsyncIterator[FeishuServer]:
    made = await FeishuServer().start()
    yield made
    await made.stop()


@pytest.fixture
async def actions(db: SqliteDatabase, clock: ManualClock) -> AsyncIterator[BotActions]:
    background, egress = Background(), EgressClient(allow_local_vendors=True)
    vault = Vault(b"k" * 32, clock)
    bots = Bots(
        db=db,
        vault=vault,
        clock=clock,
        egress=egress,
        ledger=Ledger(db, clock),
        background=background,
        live=Live(),
        words=Words(ROOT / "assets" / "locale"),
        local=True,
    )
    yield BotActions(db=db, vault=vault, audit=Audit(clock, b"a" * 32), clock=clock, bots=bots)
    await bots.stop()
    await background.stop()
    await egress.close()


def draft(server: FeishuServer, **more: Any) -> BotDraft:
    whole: dict[str, Any] = {
        "name": "hr-bot",
        "type": "feishu",
        "mode": "webhook",
        "settings": {"app_id": "cli_test", "api_base": server.base},
        "secrets": SECRETS,
    }
    return BotDraft(**(whole | more))


async def audited(actions: BotActions) -> list[tuple[str, str]]:
    query = select(audit_t.c.action, audit_t.c.target).order_by(audit_t.c.id)
    rows = await actions.db.read(lambda c: c.execute(query).all())
    return [(row.action, row.target) for row in rows]


# ---- saved


async def test_a_saved_bot_runs_and_never_shows_a_secret(actions: BotActions, server: FeishuServer) -> None:
    row = await actions.save(ADMIN, draft(server), create=True)
    assert (row.name, row.connection, row.callback, row.paused) == (
        "hr-bot",
        "waiting",
        "/webhooks/feishu/hr-bot",
        False,
    )
    assert row.secrets == {"app_secret": "", "encrypt_key": "6789", "verification_token": ""}
    assert actions.bots.channel("main", "hr-bot") is not None
    log = await actions.db.read(lambda c: str(c.execute(select(audit_t)).all()) + str(c.execute(select(bot_t)).all()))
    assert not any(secret in log for secret in ("app-secret", "enc-key-0123456789"))
    assert "app-secret" not in repr(draft(server))


async def test_rights(actions: BotActions, server: FeishuServer) -> None:
    await actions.save(ADMIN, draft(server))
    assert [row.name for row in await actions.list(AUDITOR)] == ["hr-bot"]
    with pytest.raises(Denied):
        await actions.list(MEMBER)
    calls = [
        actions.save(AUDITOR, draft(server)),
        actions.remove(AUDITOR, "hr-bot"),
        actions.pause(AUDITOR, "hr-bot"),
        actions.resume(AUDITOR, "hr-bot"),
        actions.probe(AUDITOR, "hr-bot"),
        actions.send_test(AUDITOR, "hr-bot", "ou_1"),
        actions.decide(AUDITOR, [1], True),
    ]
    for call in calls:
        with pytest.raises(Denied):
            await call
    assert await actions.list(OTHER) == []
    with pytest.raises(NotFound):
        await actions.remove(OTHER, "hr-bot")


@pytest.mark.parametrize(
    ("change", "code", "field"),
    [
        ({"name": ""}, "bot.name", "name"),
        ({"name": "-x"}, "bot.name", "name"),
        ({"name": "a/b"}, "bot.name", "name"),
        ({"name": "x" * 41}, "bot.name", "name"),
        ({"name": "Web"}, "bot.name_reserved", "name"),
        ({"type": "telegraph"}, "bot.type", "type"),
        ({"mode": "stream"}, "bot.mode", "mode"),
        ({"settings": {}}, "bot.needed", "app_id"),
        ({"secrets": {"app_secret": "s"}}, "bot.needed", "encrypt_key"),
        ({"settings": {"app_id": "a", "api_base": "ftp://open.feishu.cn"}}, "bot.url", "api_base"),
        ({"settings": {"app_id": "a", "access": "all"}}, "bot.choice", "access"),
        ({"settings": {"app_id": "a\nb"}}, "bot.text", "app_id"),
        ({"settings": {"app_id": "a" * 2001}}, "bot.long", "app_id"),
        ({"events": ("task.begun",)}, "bot.event", "events"),
    ],
)
async def test_what_is_wrong_is_told_at_its_field(
    actions: BotActions, server: FeishuServer, change: dict[str, Any], code: str, field: str
) -> None:
    with pytest.raises(Invalid) as error:
        await actions.save(ADMIN, draft(server, **change))
    assert (error.value.code, error.value.field) == (code, field)
    assert await actions.list(ADMIN) == []
    words = actions.bots.words
    for lang in ("zh_CN", "en"):
        text = words.say(lang, f"error.{code}", **error.value.params)
        assert text != f"error.{code}"
        assert "{" not in text + words.say(lang, f"error.{code}.remedy", **error.value.params)


async def test_without_loopback_an_address_needs_tls(actions: BotActions, server: FeishuServer) -> None:
    actions.bots.local = False
    with pytest.raises(Invalid) as error:
        await actions.save(ADMIN, draft(server))
    assert (error.value.code, error.value.field) == ("bot.url", "api_base")


async def test_names_may_be_chinese_and_are_used_once(actions: BotActions, server: FeishuServer) -> None:
    row = await actions.save(ADMIN, draft(server, name=" 人事-bot "), create=True)
    assert (row.name, row.callback) == ("人事-bot", "/webhooks/feishu/%E4%BA%BA%E4%BA%8B-bot")
    with pytest.raises(Conflict, match="name_taken"):
        await actions.save(ADMIN, draft(server, name="人事-bot"), create=True)


async def test_a_change_keeps_what_is_not_given(actions: BotActions, server: FeishuServer) -> None:
    settings = {"app_id": "cli_test", "api_base": server.base, "allow": "ou_1\nou_2, ou_1", "push_to": "oc_ops"}
    with pytest.raises(Invalid, match=r"bot\.push_to"):
        await actions.save(ADMIN, draft(server, events=("error.alert",), model="m/1"))
    await actions.save(ADMIN, draft(server, events=("error.alert",), model="m/1", settings=settings))
    row = await actions.save(ADMIN, draft(server, settings=settings, secrets={"verification_token": "new"}))
    assert (row.events, row.model, row.settings["allow"]) == (("error.alert",), "m/1", "ou_1,ou_2")
    config = actions.bots.config("main", "hr-bot")
    assert config is not None
    assert dict(config.secrets) == SECRETS | {"verification_token": "new"}
    assert config.events == ("error.alert",)
    again = len(await audited(actions))
    await actions.save(ADMIN, draft(server, settings=settings, secrets={}))
    assert len(await audited(actions)) == again  # nothing changed, nothing is told


async def test_a_kept_secret_does_not_follow_the_address_to_another_host(
    actions: BotActions, server: FeishuServer
) -> None:
    await actions.save(ADMIN, draft(server))
    elsewhere = {"app_id": "cli_test", "api_base": "https://evil.example"}
    for call in (actions.save, actions.probe):
        with pytest.raises(Invalid) as error:
            await call(ADMIN, draft(server, settings=elsewhere, secrets={}))
        assert (error.value.code, error.value.field) == ("bot.secret_again", "app_secret")


async def test_an_app_has_one_long_connection(actions: BotActions, server: FeishuServer) -> None:
    line = {"mode": "websocket", "secrets": {"app_secret": "app-secret"}}
    await actions.save(ADMIN, draft(server, **line))
    await actions.save(ADMIN, draft(server, **line))
    await actions.save(ADMIN, draft(server, name="by-callback"))
    with pytest.raises(Invalid) as error:
        await actions.save(ADMIN, draft(server, name="second", **line))
    assert (error.value.code, error.value.field, error.value.params) == ("bot.same_app", "app_id", {"name": "hr-bot"})
    with pytest.raises(Invalid, match="same_app"):
        await actions.provision("channels.yaml", [entry(server, **line)])
    assert [row.name for row in await actions.list(ADMIN)] == ["by-callback", "hr-bot"]


async def test_a_bot_that_cannot_start_says_why(actions: BotActions, server: FeishuServer) -> None:
    base = f"{server.base}/with/a/path"
    row = await actions.save(ADMIN, draft(server, settings={"app_id": "a", "api_base": base}))
    assert (row.connection, row.last_error) == ("off", "feishu.base")
    assert row.error_params["value"] == base


# ---- paused, removed


async def test_pause_and_resume_are_told_once(actions: BotActions, server: FeishuServer) -> None:
    await actions.save(ADMIN, draft(server))
    assert (await actions.pause(ADMIN, "hr-bot")).paused
    assert (await actions.pause(ADMIN, "hr-bot")).paused
    config = actions.bots.config("main", "hr-bot")
    assert config is not None
    assert config.paused
    assert not (await actions.resume(ADMIN, "hr-bot")).paused
    config = actions.bots.config("main", "hr-bot")
    assert config is not None
    assert not config.paused
    assert await audited(actions) == [(f"bot.{act}", "hr-bot") for act in ("create", "pause", "resume")]


async def test_a_removed_bot_leaves_no_secret_and_nobody_let_in(actions: BotActions, server: FeishuServer) -> None:
    row = await actions.save(ADMIN, draft(server))
    await ask(actions, row.id, "ou_1")
    await actions.remove(ADMIN, "hr-bot")
    assert await actions.list(ADMIN) == []
    assert actions.bots.config("main", "hr-bot") is None
    left = await actions.db.read(lambda c: [c.execute(select(t)).all() for t in (secret_t, access_t)])
    assert left == [[], []]
    with pytest.raises(NotFound):
        await actions.remove(ADMIN, "hr-bot")


async def test_a_bot_of_a_type_that_is_gone_can_be_seen_and_removed(actions: BotActions) -> None:
    row = {
        "tenant": "main",
        "name": "old",
        "type": "pager",
        "mode": "x",
        "settings": "{}",
        "managed_by": "",
        "model": "",
    }
    await actions.db.write(lambda c: c.execute(insert(bot_t), row | {"created_at": 1, "updated_at": 1}))
    await actions.bots.reload("main", "old")
    (found,) = await actions.list(ADMIN)
    assert (found.type, found.connection, found.last_error, found.secrets) == ("pager", "off", "bot.type", {})
    await actions.remove(ADMIN, "old")
    assert await actions.list(ADMIN) == []


# ---- tried out


async def test_a_draft_is_tried_at_the_vendor_before_it_is_saved(actions: BotActions, server: FeishuServer) -> None:
    found = await actions.probe(ADMIN, draft(server))
    assert ("token", "pass") in [(r.name, r.status) for r in found]
    wrong = await actions.probe(ADMIN, draft(server, secrets=SECRETS | {"app_secret": "wrong"}))
    assert ("token", "fail", "feishu.10014") in [(r.name, r.status, r.code) for r in wrong]
    assert await actions.list(ADMIN) == []


async def test_a_saved_bot_is_tried_with_its_kept_secrets(actions: BotActions, server: FeishuServer) -> None:
    await actions.save(ADMIN, draft(server))
    for what in ("hr-bot", draft(server, secrets={})):
        assert "fail" not in [r.status for r in await actions.probe(ADMIN, what)]
    await actions.pause(ADMIN, "hr-bot")
    assert "fail" not in [r.status for r in await actions.probe(ADMIN, "hr-bot")]
    with pytest.raises(NotFound):
        await actions.probe(ADMIN, "gone")


async def test_a_test_message_stands_in_the_outbox(actions: BotActions, server: FeishuServer) -> None:
    await actions.save(ADMIN, draft(server))
    number = await actions.send_test(ADMIN, "hr-bot", "ou_1")
    row = await actions.db.read(lambda c: c.execute(select(delivery_t).where(delivery_t.c.id == number)).one())
    assert (row.bot, json.loads(row.address)) == ("hr-bot", {"to": "ou_1"})
    assert "hr-bot" in json.loads(row.payload)["text"]
    with pytest.raises(Invalid) as error:
        await actions.send_test(ADMIN, "hr-bot", "not an address")
    assert error.value.field == "target"


# ---- who may talk


async def ask(actions: BotActions, bot: int, *subjects: str) -> None:
    rows = [
        {"tenant": "main", "bot_id": bot, "subject": s, "name": "", "status": "asked", "asked_at": 1, "decided_by": ""}
        for s in subjects
    ]
    await actions.db.write(lambda c: c.execute(insert(access_t), rows))


async def test_people_are_let_in_many_at_once(actions: BotActions, server: FeishuServer) -> None:
    row = await actions.save(ADMIN, draft(server))
    await ask(actions, row.id, *(f"ou_{n}" for n in range(10)))
    assert (await actions.list(ADMIN))[0].asking == 10
    waiting = await actions.access_requests(AUDITOR)
    assert [one.subject for one in waiting] == [f"ou_{n}" for n in range(10)]
    foreign: Principal = replace(ADMIN, tenant="other")
    assert await actions.decide(foreign, [one.id for one in waiting], True) == 0
    assert await actions.decide(ADMIN, [one.id for one in waiting[:8]], True) == 8
    assert await actions.decide(ADMIN, [one.id for one in waiting[7:]], False) == 3
    assert await actions.access_requests(ADMIN) == []
    refused = await actions.access_requests(ADMIN, status="refused", bot="hr-bot")
    assert [(one.subject, one.decided_by) for one in refused] == [(f"ou_{n}", "user:1") for n in (7, 8, 9)]


# ---- provided by a file


def entry(server: FeishuServer, **more: Any) -> BotEntry:
    whole: dict[str, Any] = {
        "name": "file-bot",
        "type": "feishu",
        "mode": "webhook",
        "settings": {"app_id": "cli_test", "api_base": server.base},
        "secrets": SECRETS,
    }
    return BotEntry(**(whole | more))


async def test_a_file_makes_changes_and_removes_its_bots_only(actions: BotActions, server: FeishuServer) -> None:
    await actions.save(ADMIN, draft(server))
    document = BotEntry(
        name="dingtalk",
        type="webhook",
        settings={"endpoint": "https://oapi.dingtalk.com/robot/send"},
        secrets={"secret": "your-robot-secret"},
        events=("task.completed", "error.alert"),
    )
    file, entries = "channels.yaml", [entry(server), document]
    assert await actions.provision(file, entries) == ("file-bot", "dingtalk")
    assert await actions.provision(file, entries) == ()
    rows = {row.name: row for row in await actions.list(ADMIN)}
    assert [(row.name, row.managed_by) for row in rows.values()] == [
        ("dingtalk", file),
        ("file-bot", file),
        ("hr-bot", ""),
    ]
    assert (rows["dingtalk"].mode, rows["dingtalk"].events) == ("push", ("task.completed", "error.alert"))
    for call in (actions.remove(ADMIN, "file-bot"), actions.pause(ADMIN, "file-bot")):
        with pytest.raises(Conflict) as refused:
            await call
        assert (refused.value.code, refused.value.params) == ("bot.managed_by_file", {"file": file})
    with pytest.raises(Conflict, match="managed_by_file"):
        await actions.save(ADMIN, draft(server, name="file-bot"))
    assert await actions.provision(file, [entry(server, secrets=SECRETS | {"app_secret": "new"})]) == (
        "dingtalk",
        "file-bot",
    )
    assert [row.name for row in await actions.list(ADMIN)] == ["file-bot", "hr-bot"]
    assert await actions.provision(file, []) == ("file-bot",)


async def test_a_bad_file_changes_nothing(actions: BotActions, server: FeishuServer) -> None:
    await actions.save(ADMIN, draft(server))
    bad = [
        ([entry(server), entry(server)], "bot.name_taken"),
        ([entry(server), entry(server, name="hr-bot")], "bot.name_taken"),
        ([entry(server), entry(server, name="b", type="x")], "bot.type"),
        ([entry(server), entry(server, name="b", settings={"colour": "red"})], "bot.field"),
    ]
    for entries, code in bad:
        with pytest.raises((Conflict, Invalid)) as error:
            await actions.provision("channels.yaml", entries)
        assert error.value.code == code
    assert [row.name for row in await actions.list(ADMIN)] == ["hr-bot"]


async def test_an_incomplete_entry_is_kept_and_does_not_start(actions: BotActions, server: FeishuServer) -> None:
    await actions.provision("channels.yaml", [entry(server, secrets={"app_secret": "s"})])
    await actions.bots.reload("main", "file-bot")
    (row,) = await actions.list(ADMIN)
    assert (row.connection, row.last_error) == ("off", "feishu.incomplete")
    assert row.error_params["missing"] == "encrypt_key, verification_token"


async def test_the_export_has_no_secret(actions: BotActions, server: FeishuServer) -> None:
    settings = {"app_id": "cli_test", "api_base": server.base, "push_to": "oc_ops"}
    row = await actions.save(ADMIN, draft(server, events=("error.alert",), settings=settings))
    (item,) = await actions.export(AUDITOR)
    assert item["app_secret"] == f"${{BOT_{row.id}_APP_SECRET}}"
    assert (item["name"], item["mode"], item["app_id"], item["events"]) == (
        "hr-bot",
        "webhook",
        "cli_test",
        ["error.alert"],
    )


async def test_a_robots_address_is_kept_without_its_secret(actions: BotActions) -> None:
    endpoint = "https://open.feishu.cn/open-apis/bot/v2/hook/very-secret-token"
    row = await actions.save(
        ADMIN, BotDraft(name="alerts", type="webhook", mode="push", settings={"endpoint": endpoint})
    )
    assert row.settings == {"endpoint": "https://open.feishu.cn/open-apis/bot/v2/hook"}
    assert row.secrets == {"token": "oken"}
    assert (row.connection, row.callback) == ("waiting", "")
