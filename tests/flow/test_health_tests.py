"""The health tests on a real house: what they find, what a fix mends, what doctor sees; nothing unseen is green."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from starlette.types import Receive, Scope, Send

from agent.health import judged
from agent.models.trial import TestResult
from channels import selftest
from house import House
from routes.echo import EchoRoute
from routes.front import Front, Pages
from routes.hot import Hot
from security.addresses import Lists
from security.health import data
from security.health.actions import STALE, HealthActions
from security.health.console import plain, report, texts
from security.health.echo import FRESH_MS, Echo
from security.health.row import Found, HealthRow, HealthTest, good
from security.probes.facts import BackupFacts, Door
from storage.audit import Audit
from storage.background import Background
from storage.clock import ManualClock
from storage.database import SqliteDatabase
from storage.errors import Conflict, Denied, NotFound, Unavailable
from storage.principal import principal
from storage.settings import ROOT
from storage.words import LANGS, Words
from tests.fakes.feishu_server import FeishuServer
from tests.fakes.model_server import ModelServer, Reply
from tests.fakes.probe_house import listening
from tests.operations_house import OWNER, Operating, operating
from tests.serving import Serving, free_port

Seen = dict[tuple[str, str, str], HealthRow]
WORDS = Words(ROOT / "assets" / "locale")


async def _nothing(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 404, "headers": []})
    await send({"type": "http.response.body", "body": b""})


def _front(house: House) -> Front:
    hot = Hot(
        webhooks=_nothing,
        hooks=_nothing,
        assets=_nothing,
        forms=[],
        readiness=house.readiness,
        echo=EchoRoute(house.eyes.echo),
    )
    return Front(hot, _nothing, addresses=house.addresses, pages=Pages(lambda: []))


@asynccontextmanager
async def served(site: Operating) -> AsyncIterator[Door]:
    """The house with a real door, which its tests knock at."""
    async with listening(_front(site.house)) as door:
        object.__setattr__(site.house.checks.facts, "door", door)
        yield door


async def seen(site: Operating, *names: str) -> Seen:
    rows = await site.house.eyes.health.run(OWNER, names or None)
    return {(row.id, row.subject, row.step): row for row in rows if not names or row.id in names}


def one(rows: Seen, name: str) -> str:
    (row,) = [row for (test, _, _), row in rows.items() if test == name]
    return f"{row.status} {row.say or row.code or row.text}"


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Operating]:
    async with operating(tmp_path) as site:
        yield site


async def test_whole_run_of_a_working_house(site: Operating) -> None:
    async with ModelServer() as model, served(site):
        feishu = await FeishuServer().start()
        await site.provider(model.url)
        await site.feishu(feishu.base)
        await site.hear("hi")
        await feishu.count(1)
        await site.settled()
        rows = await seen(site)
        await feishu.stop()
    red = [row for row in rows.values() if row.status == "fail"]
    assert red == []
    for name, said in {
        "server.port": "pass listens",
        "server.ready": "pass ready",
        "server.metrics": "off off",
        "server.clock": "pass right",
        "network.public": "warn needed",
        "network.upgrade": "pass local",
        "data.whole": "pass whole",
        "data.write": "pass quick",
        "data.key": "pass opens",
        "queue.backlog": "pass short",
        "queue.failed": "pass none",
        "queue.success": "pass met",
        "model.any": "pass one",
        "model.answer": "pass quick",
        "model.recent": "pass well",
        "bot.alive": "pass heard",
        "bot.callback": "unknown no_name",
        "bot.signature": "pass pass",
        "bot.format": "pass pass",
        "memory.index": "off off",
    }.items():
        assert one(rows, name) == said, name
    steps = {step: row.status for (name, _, step), row in rows.items() if name == "bot.vendor"}
    assert steps == {"token": "pass", "identity": "pass", "scopes": "pass", "clock": "pass", "inbound": "pass"}
    assert site.house.eyes.health.snapshot()["server.port//"] == "pass"
    for lang in LANGS:
        for row in rows.values():
            what, remedy = texts(WORDS, lang, row)
            assert what
            assert "{" not in what + remedy, (lang, row)
            assert row.status in ("pass", "off") or remedy, (lang, row.id, row.say, row.code)


async def test_broken_parts_are_red_and_say_what_mends_them(site: Operating, tmp_path: Path) -> None:
    async with ModelServer(Reply(status=401, body={"error": {"message": "bad key"}})) as model:
        feishu = await FeishuServer().start()
        await site.provider(model.url, name="wrong")
        await site.provider(f"http://127.0.0.1:{free_port()}", name="down")
        await site.feishu(feishu.base, app_secret="not the secret")
        (site.house.settings.config_dir).mkdir(exist_ok=True)
        (site.house.settings.config_dir / "llm.yaml").write_text("providers:\n  - name: [")
        await site.house.provisioning.look()
        rows = await seen(site)
        await feishu.stop()
    models = {subject: row.code for (name, subject, _), row in rows.items() if name == "model.answer"}
    assert models == {"wrong": "model.key", "down": "model.connect"}
    reached = {subject: row.code or row.say for (name, subject, _), row in rows.items() if name == "network.outside"}
    assert sorted(reached.values()) == ["egress.connect", "reached", "reached"]
    assert rows[("bot.vendor", "hr-bot", "token")].code == "feishu.10014"
    assert ("bot.vendor", "hr-bot", "identity") not in rows  # not tried: not listed
    assert one(rows, "server.port") == "fail silent"
    assert rows[("server.files", "llm.yaml", "")].status == "fail"
    lines = "\n".join(report(WORDS, "en", list(rows.values())))
    assert "✗ A real answer · wrong: " in lines
    assert "      → " in lines
    told = json.loads(json.dumps(plain(WORDS, "zh_CN", list(rows.values()))))
    assert {item["status"] for item in told} <= {"pass", "warn", "fail", "unknown", "off"}


async def test_failed_deliveries_are_sent_again_by_the_fix(site: Operating) -> None:
    feishu = await FeishuServer().start()
    feishu.fail("code", code=99991672, count=1)
    await site.feishu(feishu.base)
    await site.house.bot_actions.send_test(OWNER, "hr-bot", "ou_alice")
    await site.until(lambda: _ended(site))
    rows = await seen(site, "queue.failed")
    row = rows[("queue.failed", "", "")]
    assert (row.status, row.fixable) == ("fail", True)
    with pytest.raises(Denied):
        await site.house.eyes.health.fix(principal(id="user:2", name="o", role="operator"), "queue.failed")
    await site.house.eyes.health.fix(OWNER, "queue.failed")
    assert (await feishu.count(1))[0].how == "send"
    await site.until(lambda: _ended(site))
    assert one(await seen(site, "queue.failed"), "queue.failed") == "pass none"
    with pytest.raises(Conflict):
        await site.house.eyes.health.fix(OWNER, "queue.failed")
    await feishu.stop()


async def _ended(site: Operating) -> bool:
    return all(row.status not in ("pending", "sending") for row in await site.deliveries())


async def test_lost_bot_is_connected_again_by_the_fix(site: Operating) -> None:
    feishu = await FeishuServer().start()
    feishu.fail("code", path="/callback/ws/endpoint", count=1, code=514)
    await site.feishu(feishu.base, mode="websocket")
    await site.until(lambda: _is(site, "lost"))
    row = (await seen(site, "bot.alive"))[("bot.alive", "hr-bot", "")]
    assert (row.status, row.code, row.fixable) == ("fail", "feishu.514", True)
    await site.house.eyes.health.fix(OWNER, "bot.alive", "hr-bot")
    await site.until(lambda: _is(site, "online"))
    assert one(await seen(site, "bot.alive"), "bot.alive") == "pass online"
    await feishu.stop()


async def _is(site: Operating, connection: str) -> bool:
    pulse = site.house.bots.pulse("main", "hr-bot")
    return pulse is not None and pulse.connection == connection


async def test_taken_metrics_port_is_told_and_tried_again(tmp_path: Path) -> None:
    async def hello(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi")
        writer.close()

    other = await asyncio.start_server(hello, "127.0.0.1", 0)
    port = other.sockets[0].getsockname()[1]
    async with operating(tmp_path, metrics_port=port) as site:
        row = (await seen(site, "server.metrics"))[("server.metrics", "", "")]
        assert (row.say, row.fixable) == ("taken", True)
        other.close()
        await site.house.eyes.health.fix(OWNER, "server.metrics")
        assert one(await seen(site, "server.metrics"), "server.metrics") == "pass serves"


# --- the way in by a proxy


class Proxy:
    """A reverse proxy on loopback in front of a door; what it forgets is configurable."""

    def __init__(self, door: Door) -> None:
        self.door, self.forward, self.proto, self.host, self.upgrade = door, True, True, "", True

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(k.decode(), v.decode()) for k, v in scope["headers"] if k not in (b"host", b"connection")]
        if not self.upgrade or scope["type"] != "websocket":
            headers = [(k, v) for k, v in headers if k != "upgrade"]
        elif scope["type"] == "websocket":
            headers = [*headers, ("upgrade", "websocket")] if "upgrade" not in dict(headers) else headers
        headers.append(("host", self.host or "panel.example.com"))
        if self.forward:
            headers.append(("x-forwarded-for", "203.0.113.7"))
        if self.proto:
            headers.append(("x-forwarded-proto", "https"))
        query = scope["query_string"].decode()
        reply = await self.door.ask("GET", f"{scope['path']}?{query}", headers=headers)
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.accept"} if reply.status == 101 else {"type": "websocket.close"})
            return
        await send({"type": "http.response.start", "status": reply.status, "headers": []})
        await send({"type": "http.response.body", "body": reply.body})


@asynccontextmanager
async def proxied(site: Operating, door: Door) -> AsyncIterator[Proxy]:
    """The public name leads to a proxy with a certificate that the egress client trusts."""
    import trustme

    from security.tls import server_context

    folder = site.house.settings.data
    authority = trustme.CA()
    pair = authority.issue_cert("panel.example.com")
    pair.private_key_and_cert_chain_pem.write_to_path(str(folder / "pair.pem"))
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    proxy = Proxy(door)
    tls = server_context(folder / "pair.pem", folder / "pair.pem")
    async with listening(proxy, tls=tls) as front:
        facts = site.house.checks.facts

        async def resolve(host: str, port: int) -> list[str]:
            if host != "panel.example.com":
                raise OSError(host)
            return ["127.0.0.1"]

        egress = type(facts.egress)(resolver=resolve, allow_local_vendors=True, ca_file=folder / "ca.pem")
        object.__setattr__(facts, "egress", egress)
        public = f"panel.example.com:{front.port}"
        await site.house.addresses.save(OWNER, Lists(hosts=("panel.example.com",), proxies=("127.0.0.1",)), from_ip="")
        object.__setattr__(site.house.addresses.lists, "hosts", (public,))
        try:
            yield proxy
        finally:
            await egress.close()


async def test_way_in_by_a_proxy_is_followed_to_the_end(site: Operating) -> None:
    names = ("network.public", "network.proxy", "network.upgrade", "network.tls")
    async with served(site) as door, proxied(site, door) as proxy:
        rows = await seen(site, *names)
        assert one(rows, "network.public") == "pass ours"
        assert one(rows, "network.proxy") == "pass handed_on"
        assert rows[("network.proxy", "", "")].params["ip"] == "203.0.113.7"
        assert one(rows, "network.upgrade") == "pass through"
        proxy.upgrade = False
        assert one(await seen(site, "network.upgrade"), "network.upgrade") == "fail lost"
        proxy.proto = False
        assert one(await seen(site, "network.proxy"), "network.proxy") == "fail no_proto"
        proxy.proto, proxy.host = True, "inner.example.com"
        assert one(await seen(site, "network.proxy"), "network.proxy") == "fail name"
        object.__setattr__(site.house.addresses, "_proxies", ())
        assert one(await seen(site, "network.proxy"), "network.proxy") == "fail not_believed"


async def test_public_name_that_leads_nowhere_is_never_green(site: Operating) -> None:
    async with served(site):
        await site.house.addresses.save(OWNER, Lists(hosts=("no-such-name.invalid",)), from_ip="")
        rows = await seen(site, "network.public", "network.proxy", "network.upgrade", "network.tls", "bot.callback")
        assert one(rows, "network.public") == "fail no_name"
        assert {row.status for row in rows.values()} <= {"fail", "unknown", "off"}


# --- without a house


@pytest.fixture
def parts(db: SqliteDatabase, clock: ManualClock) -> dict[str, Any]:
    return {"db": db, "audit": Audit(clock, b"a" * 32), "clock": clock, "background": Background()}


async def test_run_can_be_followed_and_left(parts: dict[str, Any]) -> None:
    gate = asyncio.Event()

    async def slow() -> list[Found]:
        await gate.wait()
        return [good("ready")]

    health = HealthActions(**parts, tests=[HealthTest(id="server.ready", look=slow)])
    assert [row.at for row in await health.list(OWNER)] == [0]
    health.start(OWNER)
    await asyncio.sleep(0)
    assert health.progress(OWNER).total == 1
    with pytest.raises(Conflict):
        health.start(OWNER)
    gate.set()
    await health.settled()
    assert health.progress(OWNER).total == 0
    assert [row.status for row in await health.list(OWNER)] == ["pass"]
    again = HealthActions(**parts, tests=[HealthTest(id="server.ready", look=slow)])
    await again.load()
    assert [row.status for row in await again.list(OWNER)] == ["pass"]
    parts["clock"].advance(STALE / 1000 + 1)
    assert [(row.status, row.say) for row in await again.list(OWNER)] == [("unknown", "any.stale")]
    with pytest.raises(NotFound):
        health.start(OWNER, ["server.nothing"])
    with pytest.raises(Denied):
        await health.list(principal(id="user:3", name="m", role="member"))


async def test_test_that_cannot_look_is_unknown(parts: dict[str, Any]) -> None:
    async def refused() -> list[Found]:
        raise Unavailable("db.slow")

    async def broken() -> list[Found]:
        raise OSError("no such device")

    async def endless() -> list[Found]:
        await asyncio.Event().wait()
        return []

    async def fine() -> list[Found]:
        return [good("quick")]

    tests = [
        HealthTest(id="data.write", look=refused),
        HealthTest(id="data.key", look=broken),
        HealthTest(id="data.whole", look=endless, seconds=0.05),
        HealthTest(id="data.backup", look=fine, inside=True),
    ]
    rows = await HealthActions(**parts, tests=tests, serving=False).run(OWNER)
    assert {row.id: (row.status, row.code or row.say) for row in rows} == {
        "data.write": ("unknown", "db.slow"),
        "data.key": ("unknown", "any.error"),
        "data.whole": ("unknown", "any.time"),
        "data.backup": ("unknown", "any.inside"),
    }


async def test_backups_are_judged_by_age_and_trial(site: Operating, clock: ManualClock) -> None:
    facts = site.house.checks.facts
    now = facts.clock.ms()

    async def said(backup: BackupFacts | None) -> str:
        async def newest() -> BackupFacts | None:
            return backup

        (test,) = [t for t in data.data_tests(replace(facts, backup=newest)) if t.id == "data.backup"]
        (found,) = await test.look()
        return f"{found.status} {found.say}"

    assert await said(None) == "warn none"
    assert await said(BackupFacts(at=now - 40 * 3_600_000, size=1)) == "fail old"
    assert await said(BackupFacts(at=now, size=1)) == "warn untested"
    assert await said(BackupFacts(at=now, size=1, tested_at=now)) == "pass fresh"
    (without,) = [t for t in data.data_tests(replace(facts, backup=None)) if t.id == "data.backup"]
    assert (await without.look())[0].status == "unknown"


def test_speed_of_an_answer_is_judged() -> None:
    def said(**more: Any) -> str:
        found = judged("m", TestResult(ok=True, model="x", total_ms=1000, **more))
        return f"{found.status} {found.say}"

    assert said(first_token_ms=300, tokens_out=50) == "pass quick"
    assert said(first_token_ms=4_000) == "warn slow"
    assert said(first_token_ms=11_000) == "fail slow"
    assert said(first_token_ms=0, tokens_out=6) == "warn drips"


def test_tickets_are_ours_and_fresh(clock: ManualClock) -> None:
    echo = Echo(b"k" * 32, clock)
    ticket = echo.ticket()
    assert echo.knows(ticket)
    assert Echo(b"k" * 32, clock).knows(ticket)
    assert not Echo(b"x" * 32, clock).knows(ticket)
    assert not any(map(echo.knows, ("", ".", "1.2", ticket[:-1] + ("0" if ticket[-1] != "0" else "1"), "é.é")))
    clock.advance(FRESH_MS / 1000 + 1)
    assert not echo.knows(ticket)


async def test_signature_test_sees_a_channel_that_lets_everything_in(site: Operating) -> None:
    feishu = await FeishuServer().start()
    await site.feishu(feishu.base)
    config = site.house.bots.config("main", "hr-bot")
    assert config is not None
    channel = site.house.bots.try_out(config)
    found = await selftest.signature(channel, config, site.house.clock)
    assert found is not None
    assert found.status == "pass"

    class Careless:
        async def receive(self, request: Any) -> None:
            return None

    forged = await selftest.signature(Careless(), config, site.house.clock)  # type: ignore[arg-type]
    assert forged is not None
    assert (forged.status, forged.code) == ("fail", "bot.forged")
    await feishu.stop()


# --- doctor


def doctor(folder: Path, *words: str, **env: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, str(ROOT / "app.py"), "doctor", "--lang", "en", *words],
        env=Serving(folder, wait=False, **env).env,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.timeout(120)
def test_doctor_beside_a_running_server_and_after_it(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = str(other.getsockname()[1])
        code, said = doctor(tmp_path / "fresh", ZHIXING_PORT=taken)
    assert code == 1
    assert taken in said
    with Serving(tmp_path) as server:
        port = str(server.port)
        code, said = doctor(tmp_path, "--json", ZHIXING_PORT=port)
        told = json.loads(said.splitlines()[0])
        by_test = {item["test"]: item["status"] for item in told["tests"]}
        assert code == 0
        assert told["ok"] is True
        assert by_test["server.port"] == "pass"
        assert by_test["server.ready"] == "pass"
        assert by_test["server.load"] == "unknown"
        assert by_test["data.whole"] == "pass"
        assert server.get("/healthz?probe=1.2") == (200, "ok")
    code, said = doctor(tmp_path, "--bundle", str(tmp_path / "bundle.zip"), ZHIXING_PORT=port)
    assert code == 0
    assert "is not running" in said
    assert (tmp_path / "bundle.zip").stat().st_mode & 0o077 == 0
