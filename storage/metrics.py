"""What the process measures, in the form that Prometheus reads. Labels are bounded: too many become `other`."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.process_collector import ProcessCollector

from storage.clock import Clock
from storage.errors import AppError

log = logging.getLogger(__name__)

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
FRESH_SECONDS = 1.0
SAMPLE_SECONDS = 2.0
LONGEST_LABEL = 80
OTHER = "other"

QUICK = (0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.5, 1.0, 2.5)
OWN = (0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0, 2.0, 5.0)
LONG = (0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 60.0, 120.0, 300.0)
LATE = (0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0, 3600.0)


class Bound:
    """Values of one label. The first `most` of them are kept for the life of the process, later ones are `other`."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._seen: set[str] = set()

    def __call__(self, value: str) -> str:
        """The value, or `other`."""
        text = value[:LONGEST_LABEL] or "-"
        if text in self._seen:
            return text
        if len(self._seen) >= self.most:
            return OTHER
        self._seen.add(text)
        return text


class Metrics:
    """All instruments of one process. `sampler` adds what is looked up at each scrape."""

    def __init__(self, clock: Clock, version: str) -> None:
        self.clock = clock
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.bot, self.model, self.tool, self.schedule = Bound(100), Bound(40), Bound(60), Bound(100)
        self.code, self.kind = Bound(60), Bound(20)
        self._samplers: list[tuple[str, Callable[[], Awaitable[None]]]] = []
        self._text = b""
        self._text_at = float("-inf")
        self._making = asyncio.Lock()

        # tasks
        self.tasks = self._counter("tasks", "Tasks that ended, by outcome", ("bot", "kind", "status"))
        self.task_seconds = self._histogram("task_seconds", "From received to ended", LONG, ("kind",))
        self.own_seconds = self._histogram("task_own_seconds", "The same without models and tools", OWN, ("kind",))
        self.queue_seconds = self._histogram("task_queue_seconds", "From received to begun", LATE)
        self.queue_depth = self._gauge("queue_depth", "Tasks that wait to begin")
        self.queue_age = self._gauge("queue_age_seconds", "How long the oldest of them waits")
        self.running = self._gauge("tasks_running", "Tasks that are being worked on")

        # in and out
        self.accept_seconds = self._histogram("accept_seconds", "Writing a message down", QUICK, ("channel",))
        self.acknowledge_seconds = self._histogram(
            "acknowledge_seconds", "Answering a callback, from its first byte", QUICK, ("channel",)
        )
        self.callbacks = self._counter("callbacks", "Callbacks, by HTTP status", ("channel", "status"))
        self.push_seconds = self._histogram(
            "push_seconds", "From the final text committed to its request written", QUICK, ("channel",)
        )
        self.deliveries = self._counter("deliveries", "Deliveries that ended", ("bot", "channel", "status"))
        self.outbox = self._gauge("outbox_depth", "Deliveries that wait to be sent")
        self.dead = self._gauge("dead_letters", "Deliveries of the last 24 hours that failed for good")
        self.unsure = self._gauge("unknown_deliveries", "Deliveries of the last 24 hours whose outcome is unknown")
        self.bot_up = self._gauge("bot_up", "1 while a bot can receive and send", ("bot", "type"))
        self.bot_heard = self._gauge("bot_last_received_seconds", "Unix time of a bot's last message", ("bot", "type"))
        self.bot_reconnects = self._gauge("bot_reconnects", "Reconnects of a bot since the start", ("bot", "type"))

        # models and tools
        self.model_calls = self._counter("model_calls", "Model calls, by outcome", ("model", "outcome"))
        self.model_first = self._histogram("model_first_token_seconds", "To the first token", LONG, ("model",))
        self.model_seconds = self._histogram("model_seconds", "To the end of the answer", LONG, ("model",))
        self.model_tokens = self._counter("model_tokens", "Tokens, in and out", ("model", "direction"))
        self.model_cost = self._counter("model_cost_cny", "Cost by the price table", ("model",))
        self.tool_calls = self._counter("tool_calls", "Tool calls, by outcome", ("tool", "outcome"))
        self.tool_seconds = self._histogram("tool_seconds", "Duration of tool calls", LONG, ("tool",))

        # schedules, checks, process
        self.schedule_lateness = self._histogram("schedule_lateness_seconds", "Begun later than planned", LATE)
        self.schedule_runs = self._counter("schedule_runs", "Runs of schedules, by outcome", ("schedule", "status"))
        self.check = self._gauge("check", "Security checks by status", ("layer", "status"))
        self.check_failing = self._gauge("check_failing", "1 for a security check that is red", ("check",))
        self.health = self._gauge("health_test", "Health tests by status", ("status",))
        self.log_records = self._counter("log_records", "Log records from warnings up", ("level",))
        self.loop_lag = self._histogram("loop_lag_seconds", "How late the event loop was", QUICK)
        self.ready = self._gauge("ready", "1 while the process is able to work")
        self.sample_errors = self._counter("sample_errors", "What could not be looked up for a scrape", ("what",))
        self._gauge("build_info", "Version of the program", ("version",)).labels(version).set(1)
        for level in ("warning", "error"):
            self.log_records.labels(level)

    def _counter(self, name: str, text: str, labels: tuple[str, ...] = ()) -> Counter:
        return Counter(f"zhixing_{name}", text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, labels: tuple[str, ...] = ()) -> Gauge:
        return Gauge(f"zhixing_{name}", text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...], labels: tuple[str, ...] = ()) -> Histogram:
        return Histogram(f"zhixing_{name}", text, labels, buckets=buckets, registry=self.registry)

    def sampler(self, what: str, look: Callable[[], Awaitable[None]]) -> None:
        """Have `look` set gauges before each scrape. One that fails or takes long leaves the others alone."""
        self._samplers.append((what, look))

    async def exposition(self) -> bytes:
        """Everything in Prometheus' text form; made at most once a second."""
        async with self._making:
            now = self.clock.monotonic()
            if now - self._text_at >= FRESH_SECONDS or not self._text:
                for what, look in self._samplers:
                    await self._sample(what, look)
                self._text = await asyncio.to_thread(generate_latest, self.registry)
                self._text_at = now
        return self._text

    async def _sample(self, what: str, look: Callable[[], Awaitable[None]]) -> None:
        try:
            async with asyncio.timeout(SAMPLE_SECONDS):
                await look()
        except (AppError, TimeoutError) as error:
            log.info("no figures of %s: %r", what, error)
            self.sample_errors.labels(what).inc()


class LogCounter(logging.Handler):
    """Counts log records from warnings up."""

    def __init__(self, metrics: Metrics) -> None:
        super().__init__(logging.WARNING)
        self._warning, self._error = (metrics.log_records.labels(level) for level in ("warning", "error"))

    def emit(self, record: logging.LogRecord) -> None:
        (self._error if record.levelno >= logging.ERROR else self._warning).inc()
