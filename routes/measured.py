"""Ties the house's parts to the metrics: who tells what, and what is looked up at a scrape."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from agent.models.usage import Record, Spending
from channels.manifests import MANIFESTS
from channels.registry import Bots
from channels.sender import Sender
from storage.backlog import Backlog, read_backlog
from storage.clock import Clock
from storage.database import Database
from storage.ledger import DeliveryView, Ending, Ledger
from storage.metrics import Metrics
from storage.runner import Runner, Work

ALIVE = ("online", "waiting")


def measure(
    metrics: Metrics, *, ledger: Ledger, runner: Runner, sender: Sender, spending: Spending, bots: Bots
) -> None:
    """Have every part tell the metrics what happens. Called once, before anything runs."""
    _tasks(metrics, runner)
    _ways(metrics, ledger, sender)
    spending.listeners.append(partial(_spent, metrics))

    async def states() -> None:
        _bots(metrics, bots)

    metrics.sampler("bots", states)


def _tasks(metrics: Metrics, runner: Runner) -> None:
    clock = metrics.clock

    def worked(work: Work, ending: Ending) -> None:
        job, now = work.job, clock.ms()
        kind = metrics.kind(job.kind)
        took = max(0, now - job.received_at) / 1000
        metrics.tasks.labels(metrics.bot(job.bot), kind, ending.status).inc()
        metrics.task_seconds.labels(kind).observe(took)
        metrics.queue_seconds.observe(max(0, work.begun_at - job.received_at) / 1000)
        if job.kind == "schedule":
            metrics.schedule_runs.labels(metrics.schedule(job.title), ending.status).inc()
        if ending.status == "done" and not work.resumed:  # what a restart or a person took is not our own
            metrics.own_seconds.labels(kind).observe(max(0.0, took - work.outside_ms / 1000))

    def stepped(name: str, kind: str, result: str, ms: int) -> None:
        if kind == "tool":
            tool = metrics.tool(name)
            metrics.tool_calls.labels(tool, "ok" if _ok(result) else "failed").inc()
            metrics.tool_seconds.labels(tool).observe(ms / 1000)

    runner.on_work.append(worked)
    runner.on_step.append(stepped)


def _ways(metrics: Metrics, ledger: Ledger, sender: Sender) -> None:
    def accepted(channel: str, seconds: float) -> None:
        metrics.accept_seconds.labels(_channel(channel)).observe(seconds)

    def sent(row: DeliveryView, _vendor_id: str, written_at: int) -> None:
        channel = _channel(row.channel)
        metrics.push_seconds.labels(channel).observe(max(0, written_at - row.committed_at) / 1000)
        metrics.deliveries.labels(metrics.bot(row.bot), channel, "delivered").inc()

    def unsent(row: DeliveryView, status: str, _at: int) -> None:
        metrics.deliveries.labels(metrics.bot(row.bot), _channel(row.channel), status).inc()

    ledger.on_accepted = accepted
    sender.on_sent.append(sent)
    sender.on_ended.append(unsent)


def _spent(metrics: Metrics, record: Record) -> None:
    model = metrics.model(f"{record.provider}/{record.model}")
    metrics.model_calls.labels(model, metrics.code(record.outcome)).inc()
    if record.outcome == "ok":
        metrics.model_seconds.labels(model).observe(record.total_ms / 1000)
        if record.first_token_ms is not None:
            metrics.model_first.labels(model).observe(record.first_token_ms / 1000)
    metrics.model_tokens.labels(model, "in").inc(record.tokens_in)
    metrics.model_tokens.labels(model, "out").inc(record.tokens_out)
    metrics.model_cost.labels(model).inc(record.cost)


def _bots(metrics: Metrics, bots: Bots) -> None:
    metrics.bot_up.clear()
    metrics.bot_heard.clear()
    metrics.bot_reconnects.clear()
    for name in ("web", *(config.name for config in bots.all())):
        for status in ("done", "failed"):  # from zero on, so that the first failure is an increase
            metrics.tasks.labels(metrics.bot(name), "message", status)
    for config in bots.all():
        pulse = bots.pulse(config.tenant, config.name)
        labels = (metrics.bot(config.name), config.type)
        alive = pulse is not None and pulse.connection in ALIVE and not config.paused
        metrics.bot_up.labels(*labels).set(1 if alive else 0)
        if pulse is not None:
            metrics.bot_reconnects.labels(*labels).set(pulse.reconnects)
            if pulse.last_in:
                metrics.bot_heard.labels(*labels).set(pulse.last_in / 1000)


@dataclass(frozen=True, kw_only=True, slots=True)
class Lookups:
    """What a scrape looks up.

    Attributes:
        running: how many tasks this process works on.
        ready: codes of what keeps the process from working.
        checks: status by id of the security checklist. health: the same of the health tests.
    """

    db: Database
    clock: Clock
    running: Callable[[], int]
    ready: Callable[[], Any]
    checks: Callable[[], Mapping[str, str]]
    health: Callable[[], Mapping[str, str]]

    def join(self, metrics: Metrics) -> None:
        """Register with the metrics."""

        async def backlog() -> None:
            found: Backlog = await self.db.read(lambda c: read_backlog(c, self.clock.ms()))
            metrics.queue_depth.set(found.todo)
            metrics.queue_age.set(found.oldest / 1000)
            metrics.outbox.set(found.outbox)
            metrics.dead.set(found.dead)
            metrics.unsure.set(found.unknown)

        async def state() -> None:
            metrics.running.set(self.running())
            metrics.ready.set(0)
            metrics.ready.set(0 if await self.ready() else 1)

        async def checks() -> None:
            found = self.checks()
            metrics.check.clear()
            metrics.check_failing.clear()
            for name, status in found.items():
                layer = name.partition(".")[0]
                for each in ("pass", "warn", "fail", "unknown"):
                    metrics.check.labels(layer, each).inc(1 if each == status else 0)
                metrics.check_failing.labels(name).set(1 if status == "fail" else 0)
            metrics.health.clear()
            tested = list(self.health().values())
            for each in ("pass", "warn", "fail", "unknown"):
                metrics.health.labels(each).set(tested.count(each))

        metrics.sampler("backlog", backlog)
        metrics.sampler("state", state)
        metrics.sampler("checks", checks)


class Timed:
    """Callbacks, with the time until we answer: a vendor gives up after about three seconds."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app, self.metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        metrics, began = self.metrics, self.metrics.clock.monotonic()
        parts = str(scope["path"]).split("/", 3)
        channel = "hook" if parts[1] == "hooks" else _channel(parts[2] if len(parts) > 2 else "")

        async def told(message: Message) -> None:
            if message["type"] == "http.response.start":
                status = int(message["status"])
                metrics.callbacks.labels(
                    channel, str(status) if status in (200, 401, 429) else f"{status // 100}xx"
                ).inc()
                if status < 300:
                    metrics.acknowledge_seconds.labels(channel).observe(metrics.clock.monotonic() - began)
            await send(message)

        await self.app(scope, receive, told)


def _channel(name: str) -> str:
    return name if name in MANIFESTS or name in ("web", "hook", "api", "schedule") else "other"


def _ok(result: str) -> bool:
    try:
        found = json.loads(result)
    except ValueError:
        return False
    return bool(found.get("ok", True)) if isinstance(found, dict) else True


__all__ = ["ALIVE", "Lookups", "Timed", "measure"]
