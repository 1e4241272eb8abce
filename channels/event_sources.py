"""Where events come from: ended jobs, dead letters, errors in the log, silent bots, security, spending."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Sequence

from sqlalchemy import Connection, select

from channels.event_text import Say, say
from channels.events import Event, Events
from channels.hooks import Pulse
from channels.registry import Bots
from storage.errors import AppError
from storage.jobs import DeliveryView, Ending, JobView
from storage.ledger import message_t
from storage.principal import TENANT, Principal

DEAF_MS = 60_000
LOOK_SECONDS = 10.0
OURS = ("agent", "channels", "pages", "routes", "security", "storage", "house", "door", "app")
LIMIT = re.compile(r"limit=([0-9.]{1,20})")
QUIET = ("channels.events", "channels.event_sources")
ALARMING = (
    "account.totp_off",
    "security.hide",
    "server.addresses",
    "server.exposure",
    "user.create",
    "user.enable",
    "user.password",
    "user.role",
    "user.totp_off",
)
"""Acts that an intruder would do, and of which admins want to hear."""


class EventSources:
    """Turns what parts of the house notice into events. The house ties each method to its part."""

    def __init__(self, events: Events, bots: Bots) -> None:
        self.events, self.bots, self.clock = events, bots, events.clock
        self._handler = _Errors(events)
        self._deaf: set[tuple[str, str]] = set()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Hear the log, and look after bots."""
        logging.getLogger().addHandler(self._handler)
        self._task = self.events.background.spawn("deaf bots", self._look())

    def stop(self) -> None:
        """Hear nothing more."""
        logging.getLogger().removeHandler(self._handler)
        if self._task is not None:
            self._task.cancel()

    # ---- jobs and deliveries, in their own transactions

    def finished(self, c: Connection, job: JobView, ending: Ending, now: int) -> Sequence[DeliveryView]:
        """A job has ended."""
        name = {"done": "task.completed", "failed": "task.failed"}.get(ending.status, "")
        rows: list[DeliveryView] = []
        if name and self.events.subscribers(job.tenant, name):
            task = {
                "id": job.id,
                "title": _title(c, job),
                "bot": job.bot,
                "channel": job.channel,
                "model": ending.model or job.model,
                "seconds": round((now - job.received_at) / 1000, 1),
                "tokens": ending.tokens_in + ending.tokens_out,
                "cost": round(ending.cost, 4),
            }
            data: dict[str, object] = {"task": task}
            if name == "task.failed":
                data |= {"reason": self.events.words.reason(ending.reason, {}), "code": ending.reason}
            # what a schedule has made goes to its own bot as it is: that one need not hear of it twice
            apart = job.bot if job.kind == "schedule" and ending.say else ""
            rows += self.events.write(c, Event(tenant=job.tenant, name=name, cause="", data=data, apart=apart))
        if ending.reason.startswith("budget."):
            limit = LIMIT.search(ending.detail)
            used = limit[1] if limit else "–"  # what was left did not suffice for one more call
            data = {"budget": {"of": _spender(c, job, ending.reason), "spent": used, "limit": used, "percent": 100}}
            day = now // 86_400_000
            cause = f"{ending.reason}:{job.bot}:{job.id if not job.bot else ''}:{day}"
            rows += self.events.write(c, Event(tenant=job.tenant, name="budget.warning", cause=cause, data=data))
        return rows

    def dead_letter(self, c: Connection, row: DeliveryView, error: str, now: int) -> Sequence[DeliveryView]:
        """A delivery has ended without a receipt. Of a push about an event its own bot is not told again."""
        data = {
            "what": say("event.what.delivery", bot=row.bot),
            "reason": self.events.words.reason(error, {}),
            "code": error,
        }
        apart = row.bot if row.key.startswith("event:") else ""
        cause = f"delivery:{row.bot}:{error}"
        return self.events.write(c, Event(tenant=row.tenant, name="error.alert", cause=cause, data=data, apart=apart))

    # ---- security

    def audited(self, c: Connection, who: Principal, action: str, target: str) -> None:
        """An act was written into the audit log."""
        if action in ALARMING:
            data = {"what": say("event.what.audit", action=say(f"event.action.{action}"), target=target, who=who.name)}
            cause = f"audit:{action}:{target}:{who.id}"
            self.events.raised(c, Event(tenant=who.tenant, name="security.alert", cause=cause, data=data))

    def locked(self, c: Connection, rule: str, row: str) -> None:
        """Somebody guesses: an account, an address or the one-time code is locked for a while."""
        data = {"what": say("event.what.guessing", of=say(f"event.guessing.{rule}"))}
        self.events.raised(c, Event(tenant=TENANT, name="security.alert", cause=f"guessing:{row}", data=data))

    def checked(self, title: str, name: str, status: str) -> None:
        """A check of the checklist has another status than before."""
        if status == "fail":
            data = {"what": say("event.what.check", title=say(title))}
            self.events.tell(Event(tenant=TENANT, name="security.alert", cause=f"check:{name}", data=data))

    # ---- spending

    def spent(self, c: Connection, tenant: str, kind: str, name: str, spent: float, limit: float, share: int) -> None:
        """A bot or a person has used so many per cent of the month's limit."""
        budget = {
            "of": say(f"event.budget.{kind}", name=name),
            "spent": f"{spent:.2f}",
            "limit": f"{limit:g}",
            "percent": share,
        }
        month = self.clock.now().strftime("%Y-%m")
        cause = f"{kind}:{name}:{month}:{share}"
        self.events.raised(c, Event(tenant=tenant, name="budget.warning", cause=cause, data={"budget": budget}))

    # ---- bots

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            self.look()

    def look(self) -> None:
        """Tell of bots that have been deaf for a minute, each once until it is well again."""
        now = self.clock.ms()
        for config in self.bots.all():
            key, pulse = (config.tenant, config.name), self.bots.pulse(config.tenant, config.name)
            if pulse is None or config.paused or not _deaf(pulse):
                self._deaf.discard(key)
            elif key not in self._deaf and now - (pulse.turned_at or pulse.last_error_at or now) >= DEAF_MS:
                self._deaf.add(key)
                data = {
                    "what": say("event.what.deaf", bot=config.name),
                    "reason": self.events.words.reason(pulse.last_error, pulse.params),
                    "code": pulse.last_error,
                }
                cause = f"deaf:{config.name}"
                self.events.tell(
                    Event(tenant=config.tenant, name="error.alert", cause=cause, data=data, apart=config.name)
                )


class _Errors(logging.Handler):
    """Hears errors of ours. Says where and what kind, never the text: that may hold what must not leave the house."""

    def __init__(self, events: Events) -> None:
        super().__init__(logging.ERROR)
        self.events = events

    def emit(self, record: logging.LogRecord) -> None:
        if record.name.partition(".")[0] not in OURS or record.name in QUIET:
            return
        kind = record.exc_info[0].__name__ if record.exc_info and record.exc_info[0] else ""
        error = record.exc_info[1] if record.exc_info else None
        code = error.code if isinstance(error, AppError) else kind
        place = f"{record.name}:{record.lineno}"
        data = {"what": say("event.what.log", place=place), "reason": code or place, "code": code}
        self.events.tell(Event(tenant=TENANT, name="error.alert", cause=f"log:{place}:{kind}", data=data))


def _deaf(pulse: Pulse) -> bool:
    return pulse.connection == "lost" or (pulse.connection == "off" and bool(pulse.last_error))


def _title(c: Connection, job: JobView) -> str:
    """What the task is called; nothing for what a person said: it is not for others' eyes."""
    if job.kind != "message":
        return job.title
    row = c.execute(select(message_t.c.sender).where(message_t.c.id == job.message_id)).first()
    return job.title if row is not None and row.sender.startswith(("hook:", "schedule:", "key:")) else ""


def _spender(c: Connection, job: JobView, reason: str) -> Say:
    if reason == "budget.bot":
        return say("event.budget.bot", name=job.bot)
    row = c.execute(select(message_t.c.sender_name).where(message_t.c.id == job.message_id)).first()
    return say("event.budget.person", name=row.sender_name if row is not None else "")
