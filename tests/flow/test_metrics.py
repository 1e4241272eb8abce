"""What Prometheus reads: the figures of real work, on the own port and behind the token, with bounded labels."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from routes.measured import Timed
from routes.metrics import MetricsListener, MetricsRoute
from security.addresses import Addresses, Lists
from security.scrape import ScrapeToken
from storage.audit import Audit
from storage.background import Background
from storage.clock import ManualClock
from storage.database import SqliteDatabase
from storage.errors import Denied, Unavailable
from storage.metrics import Bound, Metrics
from storage.principal import principal
from tests.fakes.feishu_server import FeishuServer
from tests.fakes.model_server import Call, ModelServer, Reply
from tests.operations_house import OWNER, operating
from tests.serving import free_port

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def read(text: bytes) -> Samples:
    """All samples of an exposition, read by Prometheus' own parser."""
    found: Samples = {}
    for family in text_string_to_metric_families(text.decode()):
        for sample in family.samples:
            found[(sample.name, tuple(sorted(sample.labels.items())))] = sample.value
    return found


def one(samples: Samples, name: str, **labels: str) -> float:
    return samples[(f"zhixing_{name}", tuple(sorted(labels.items())))]


async def get(port: int, path: str = "/metrics", *, method: str = "GET", host: str = "") -> tuple[int, bytes]:
    """One request to the own port, by hand."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"{method} {path} HTTP/1.1\r\nHost: {host or f'localhost:{port}'}\r\n\r\n".encode())
    async with asyncio.timeout(10):
        whole = await reader.read()
    writer.close()
    head, _, body = whole.partition(b"\r\n\r\n")
    return int(head.split()[1]), body


async def test_figures_of_real_work(tmp_path: Path) -> None:
    async with ModelServer() as model, operating(tmp_path) as site:
        feishu = await FeishuServer().start()
        await site.provider(model.url)
        await site.feishu(feishu.base)
        calls = (
            Call(name="time", arguments="{}"),
            Call(name="fetch", id="call_2", arguments='{"url": "http://127.0.0.1:1/"}'),
        )
        model.enqueue(Reply(text="", calls=calls), Reply(text="done"))
        await site.hear("what time is it")
        await feishu.count(1)
        await site.settled(1)
        model.default = Reply(status=401, body={"error": {"message": "bad key"}})
        await site.hear("and now")
        await site.settled(2)
        found = read(await site.house.eyes.metrics.exposition())
        await feishu.stop()
    assert one(found, "tasks_total", bot="hr-bot", kind="message", status="done") == 1
    assert one(found, "tasks_total", bot="hr-bot", kind="message", status="failed") == 1
    assert one(found, "task_own_seconds_count", kind="message") == 1
    assert one(found, "task_own_seconds_sum", kind="message") < 1
    assert one(found, "push_seconds_count", channel="feishu") == 2
    assert one(found, "deliveries_total", bot="hr-bot", channel="feishu", status="delivered") == 2
    assert one(found, "model_first_token_seconds_count", model="fake/fake") == 2
    assert one(found, "model_tokens_total", model="fake/fake", direction="out") == 14
    assert one(found, "model_calls_total", model="fake/fake", outcome="model.key") >= 1
    assert one(found, "tool_calls_total", tool="time", outcome="ok") == 1
    assert one(found, "tool_calls_total", tool="fetch", outcome="failed") == 1
    assert one(found, "bot_up", bot="hr-bot", type="feishu") == 1
    assert one(found, "bot_last_received_seconds", bot="hr-bot", type="feishu") > 1e9
    assert one(found, "accept_seconds_count", channel="feishu") == 2
    assert one(found, "queue_depth") == 0
    assert one(found, "ready") == 1
    assert one(found, "check", layer="network", status="unknown") > 0
    assert found[("process_resident_memory_bytes", ())] > 1e6


async def test_own_port_answers_this_machine_only_and_only_what_is_asked(
    db: SqliteDatabase, clock: ManualClock
) -> None:
    audit, background = Audit(clock, b"a" * 32), Background()
    addresses, metrics = Addresses(db, clock, audit), Metrics(clock, "1.2.3")
    port = free_port()
    listener = MetricsListener(metrics, background, addresses, port)
    await listener.start()
    await listener.start()  # safe to repeat
    status, body = await get(port)
    assert status == 200
    assert read(body)[("zhixing_build_info", (("version", "1.2.3"),))] == 1
    assert (await get(port, "/"))[0] == 404
    assert (await get(port, method="POST"))[0] == 405
    assert await get(port, method="HEAD") == (200, b"")
    assert (await get(port, host="evil.example"))[0] == 403
    await addresses.save(OWNER, Lists(sources={"metrics": ("10.0.0.0/8",)}), from_ip="")
    assert (await get(port))[0] == 403
    await listener.stop()
    await background.stop()
    with pytest.raises(OSError, match=r"refused|Connect"):
        await get(port)


async def test_taken_port_is_told_with_its_holder_and_tried_again(db: SqliteDatabase, clock: ManualClock) -> None:
    background, addresses = Background(), Addresses(db, clock, Audit(clock, b"a" * 32))
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        listener = MetricsListener(Metrics(clock, "1"), background, addresses, port)
        await listener.start()
        assert not listener.listening
        assert listener.refusal is not None
        assert str(listener.refusal) == f"metrics.port (port={port}, holder={listener.refusal.params['holder']})"
    await listener.start()
    assert listener.listening
    assert listener.refusal is None
    await listener.stop()
    await background.stop()


async def test_main_port_needs_a_token_that_an_admin_made(db: SqliteDatabase, clock: ManualClock) -> None:
    token = ScrapeToken(db, clock, Audit(clock, b"a" * 32))
    route = MetricsRoute(Metrics(clock, "1"), token.digest)

    async def ask(value: str = "", method: str = "GET") -> int:
        sent: list[Any] = []

        async def send(event: Any) -> None:
            sent.append(event)

        headers = [(b"authorization", value.encode())] if value else []
        await route({"type": "http", "method": method, "path": "/metrics", "headers": headers}, _never, send)
        return int(sent[0]["status"])

    assert await ask() == 404
    with pytest.raises(Denied):
        await token.make(principal(id="user:2", name="op", role="operator"))
    first = await token.make(OWNER)
    assert await ask() == 401
    assert await ask("Bearer wrong") == 401
    assert await ask(f"Bearer {first}") == 200
    assert await ask(f"Bearer {first}", "POST") == 405
    second = await token.make(OWNER)
    assert await ask(f"Bearer {first}") == 401
    again = ScrapeToken(db, clock, Audit(clock, b"a" * 32))
    await again.load()
    assert again.digest() == token.digest() != second
    await again.drop(OWNER)
    await token.load()
    assert await ask(f"Bearer {second}") == 404


async def _never() -> Any:
    raise AssertionError("nothing is read")


def test_labels_are_bounded() -> None:
    bound = Bound(2)
    assert [bound(name) for name in ("a", "b", "c", "a", "", "x" * 500)] == ["a", "b", "other", "a", "other", "other"]


async def test_part_that_cannot_be_looked_up_leaves_the_rest(clock: ManualClock) -> None:
    metrics = Metrics(clock, "1")

    async def broken() -> None:
        raise Unavailable("db.full")

    async def fine() -> None:
        metrics.queue_depth.set(3)

    metrics.sampler("broken", broken)
    metrics.sampler("fine", fine)
    found = read(await metrics.exposition())
    assert one(found, "queue_depth") == 3
    assert one(found, "sample_errors_total", what="broken") == 1
    metrics.queue_depth.set(9)
    assert one(read(await metrics.exposition()), "queue_depth") == 3, "made at most once a second"
    clock.advance(2)
    metrics.queue_depth.set(9)
    assert one(read(await metrics.exposition()), "sample_errors_total", what="broken") == 2


async def test_callbacks_are_timed_by_what_they_were_answered(clock: ManualClock) -> None:
    metrics = Metrics(clock, "1")

    async def app(scope: Any, receive: Any, send: Any) -> None:
        clock.advance(0.3)
        await send({"type": "http.response.start", "status": scope["status"], "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def send(event: Any) -> None:
        return None

    timed = Timed(app, metrics)
    for path, status in (("/webhooks/feishu/a", 200), ("/webhooks/nonsense/a", 404), ("/hooks/x", 401)):
        await timed({"type": "http", "path": path, "status": status}, _never, send)
    found = read(await metrics.exposition())
    assert one(found, "acknowledge_seconds_sum", channel="feishu") == pytest.approx(0.3)
    assert one(found, "callbacks_total", channel="other", status="4xx") == 1
    assert one(found, "callbacks_total", channel="hook", status="401") == 1
