"""The running bots: built from their rows, started, replaced one by one while the others go on."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection, Row, and_, delete, insert, select

from channels.access import AccessList, Verdict
from channels.base import BotConfig, Channel, RawRequest, RawResponse
from channels.history import History
from channels.hooks import Click, Hooks, Pulse, Turn
from channels.manifests import build, manifest_of
from security.egress import Egress
from storage.background import Background
from storage.clock import Clock
from storage.database import Database
from storage.envelope import Inbound, Outgoing
from storage.errors import AppError, Denied, NotFound, Unavailable
from storage.ledger import Ledger, lane_of
from storage.live import Live
from storage.outbox import Outbox
from storage.tables.bots import Bot, BotState
from storage.vault import Vault
from storage.words import Words

log = logging.getLogger(__name__)

bot_t = Bot.__table__  # type: ignore[attr-defined]
state_t = BotState.__table__  # type: ignore[attr-defined]

SAVE_EVERY = 5.0
HISTORY_EVERY = 60_000
ACCEPT_WITHIN = 2.5
STOP_WITHIN = 5.0


def config_of(c: Connection, vault: Vault | None, row: object) -> BotConfig:
    """A bot's row with its secrets opened; without a vault they are left out.

    Raises:
        Invalid: `bot.type`. Unavailable: a secret cannot be opened.
    """
    r: Bot = row  # type: ignore[assignment]
    secrets: dict[str, str] = {}
    for spec in manifest_of(r.type).fields if vault is not None else ():
        if spec.kind == "secret" and vault is not None:
            value = vault.open(c, r.tenant, f"bot:{r.id}:{spec.name}")
            if value is not None:
                secrets[spec.name] = value
    settings: dict[str, object] = json.loads(r.settings)
    raw_events = settings.pop("events", [])
    events = tuple(str(item) for item in raw_events) if isinstance(raw_events, list) else ()
    return BotConfig(
        id=int(r.id or 0),
        tenant=r.tenant,
        name=r.name,
        type=r.type,
        mode=r.mode,
        settings={key: str(value) for key, value in settings.items()},
        secrets=secrets,
        paused=r.paused_at is not None,
        model=r.model,
        events=events,
    )


def texts(error: AppError) -> dict[str, str]:
    """An error's parameters for the bot's card, bounded."""
    return {key: str(value)[:300] for key, value in error.params.items()}


def _taken(pulse: Pulse) -> list[Turn]:
    """The changes that are to be written down now."""
    return [pulse.turns.popleft() for _ in range(len(pulse.turns))]


async def _outcome(work: Awaitable[bool]) -> bool | AppError:
    """A failure as a value, for a task that may outlive whoever waits for it."""
    try:
        return await work
    except AppError as error:
        return error


class _Running:
    """A bot in this process."""

    def __init__(self, config: BotConfig, pulse: Pulse) -> None:
        self.config, self.pulse = config, pulse
        self.channel: Channel | None = None


class Bots:
    """All bots of this process. One owner of starting and stopping them.

    `may_connect` tells whether a bot's long connection is to be held by this process.

    Args:
        clicked: decides about pressed buttons.
        spoken: hears messages before they become work; True if that was all there is to do.
        read: bytes of an attachment named in `Outgoing.files`.
    """

    def __init__(
        self,
        *,
        db: Database,
        vault: Vault,
        clock: Clock,
        egress: Egress,
        ledger: Ledger,
        background: Background,
        live: Live,
        words: Words,
        local: bool = False,
        clicked: Callable[[Click], Awaitable[str]] | None = None,
        spoken: Callable[[BotConfig, Inbound], Awaitable[bool]] | None = None,
        read: Callable[[str], Awaitable[bytes]] | None = None,
    ) -> None:
        self.db, self.vault, self.clock, self.egress, self.ledger = db, vault, clock, egress, ledger
        self.background, self.live, self.words, self.local = background, live, words, local
        self.access = AccessList(db, clock)
        self.outbox = Outbox(ledger)
        self._clicked, self._spoken, self._read = clicked, spoken, read
        self._bots: dict[tuple[str, str], _Running] = {}
        self._changing = asyncio.Lock()
        self.may_connect: Callable[[BotConfig], bool] = lambda config: True
        self._changed: list[Callable[[str, str], None]] = []
        self._last: dict[int, Row[Any]] = {}
        self._saving: asyncio.Task[None] | None = None
        self._history, self._noted_at = History(), 0

    def on_change(self, listener: Callable[[str, str], None]) -> None:
        """Call `listener(tenant, name)` after a bot was started, replaced or stopped."""
        self._changed.append(listener)

    async def start(self) -> None:
        """Start every bot. One that cannot start says why in its pulse; the others go on."""

        def fn(c: Connection) -> tuple[Sequence[Row[Any]], Sequence[Row[Any]]]:
            return c.execute(select(bot_t.c.id, bot_t.c.tenant, bot_t.c.name)).all(), c.execute(select(state_t)).all()

        rows, states = await self.db.read(fn)
        self._last = {row.bot_id: row for row in states}
        for row in rows:
            await self.reload(row.tenant, row.name)
        self._last = {}
        self._saving = self.background.spawn("bot states", self._save_states())

    async def stop(self) -> None:
        """Close all connections; what was accepted stays in the ledger."""
        if self._saving is not None:
            self._saving.cancel()
        async with self._changing:
            for running in self._bots.values():
                await self._end(running)
            await self._save()

    async def reload(self, tenant: str, name: str) -> None:
        """Start, replace or stop one bot after its row has changed. Never raises for a bad configuration."""
        async with self._changing:
            old = self._bots.get((tenant, name))
            if old is not None:
                await self._end(old)
            config, error = await self.db.read(lambda c: self._config(c, tenant, name))
            if config is None:
                self._bots.pop((tenant, name), None)
            else:
                running = self._bots[(tenant, name)] = _Running(config, self._pulse(config, old))
                await self._begin(running, error)
        for listener in self._changed:
            listener(tenant, name)

    async def drop(self, tenant: str, name: str) -> None:
        """Stop a bot whose row is gone."""
        await self.reload(tenant, name)

    def channel(self, tenant: str, name: str) -> Channel | None:
        """The running channel, or None if the bot is unknown or could not start."""
        running = self._bots.get((tenant, name))
        return None if running is None else running.channel

    def pulse(self, tenant: str, name: str) -> Pulse | None:
        """Proof of life, or None for an unknown bot."""
        running = self._bots.get((tenant, name))
        return None if running is None else running.pulse

    def config(self, tenant: str, name: str) -> BotConfig | None:
        """The bot's configuration as it runs, or None for an unknown bot."""
        running = self._bots.get((tenant, name))
        return None if running is None else running.config

    def all(self) -> list[BotConfig]:
        """Every bot that this process knows."""
        return [running.config for running in self._bots.values()]

    def any_streams(self) -> bool:
        """True if some bot shows answers while they are written."""
        return any(bool(getattr(running.channel, "streams", False)) for running in self._bots.values())

    def try_out(self, config: BotConfig) -> Channel:
        """An unstarted channel for a live test of settings that may not be saved yet.

        Raises:
            Invalid: a setting is missing or wrong.
        """

        async def nobody(message: Inbound) -> bool:
            raise Unavailable("bot.not_started")

        return build(config, self.egress, self.clock, nobody, self._hooks(Pulse(clock=self.clock)))

    async def receive(self, type: str, name: str, tenant: str, request: RawRequest) -> RawResponse:
        """Hand a webhook call to its bot.

        Raises:
            NotFound: no such bot of this type. Denied: it is paused, and the message is for the vendor to send again.
            Unavailable: it could not start, or the ledger did not answer in time: likewise.
        """
        running = self._bots.get((tenant, name))
        if running is None or running.config.type != type:
            raise NotFound("bot.unknown")
        if running.channel is None:
            raise Unavailable("bot.not_started")
        try:
            return await running.channel.receive(request)
        except AppError as error:
            if error.status in (401, 403, 422) and error.code != "bot.paused":
                running.pulse.failed(error.code, **texts(error))
            raise

    # ---- inside

    def _config(self, c: Connection, tenant: str, name: str) -> tuple[BotConfig | None, AppError | None]:
        """A bot's configuration, and why it is incomplete if its secrets or its type are lost."""
        row = c.execute(select(bot_t).where(and_(bot_t.c.tenant == tenant, bot_t.c.name == name))).first()
        if row is None:
            return None, None
        try:
            return config_of(c, self.vault, row), None
        except AppError as error:
            return config_of(c, None, row), error

    def _pulse(self, config: BotConfig, old: _Running | None) -> Pulse:
        """A new pulse with the proof that the bot has given so far, also before a restart."""
        if old is not None and old.config.id == config.id:
            made = replace(old.pulse, connection="off", last_error="", last_error_at=None, params={})
            made.turns = old.pulse.turns  # what is not written down yet
            return made
        pulse = Pulse(clock=self.clock)
        if kept := self._last.get(config.id):
            pulse.last_in, pulse.last_out = kept.last_in, kept.last_out
            pulse.identity, pulse.checked_at, pulse.reconnects = kept.identity, kept.checked_at, kept.reconnects
        return pulse

    def _hooks(self, pulse: Pulse) -> Hooks:
        hooks = Hooks(background=self.background, pulse=pulse, local=self.local, live=self.live)
        if self._clicked is not None:
            hooks = replace(hooks, clicked=self._clicked)
        return hooks if self._read is None else replace(hooks, read=self._read)

    async def _begin(self, running: _Running, error: AppError | None) -> None:
        config, pulse = running.config, running.pulse
        try:
            if error is not None:
                raise error
            channel = build(config, self.egress, self.clock, self._accept_for(config), self._hooks(pulse))
            if self.may_connect(config):
                await channel.start()
        except AppError as refusal:
            log.warning("bot %s does not start: %s", config.name, refusal)
            pulse.connection = "off"
            pulse.failed(refusal.code, **texts(refusal))
            return
        running.channel = channel

    async def _end(self, running: _Running) -> None:
        channel, running.channel = running.channel, None
        if channel is None:
            return
        try:
            async with asyncio.timeout(STOP_WITHIN):
                await channel.stop()
        except (AppError, TimeoutError) as error:
            log.warning("bot %s did not stop cleanly: %r", running.config.name, error)
        running.pulse.connection = "off"

    def _accept_for(self, config: BotConfig) -> Callable[[Inbound], Awaitable[bool]]:
        async def enter(message: Inbound) -> bool:
            verdict = await self.access.verdict(config, message)
            if verdict == Verdict.ALLOWED:
                if self._spoken is not None and await self._spoken(config, message):
                    return False
                if config.model and not message.model:
                    message = replace(message, model=config.model)
                return (await self.ledger.accept(message)).fresh
            if verdict == Verdict.ASKED:
                await self._say(config, message, "access.asked")
            return False

        async def accept(message: Inbound) -> bool:
            if config.paused:
                raise Denied("bot.paused")
            # not cancelled when late: it may be committed already, and then its job must still be handed on
            task = self.background.spawn("accept", _outcome(enter(message)))
            done, _ = await asyncio.wait({task}, timeout=ACCEPT_WITHIN)
            if not done:
                raise Unavailable("db.slow")
            result = task.result()
            if isinstance(result, AppError):
                raise result
            return result

        return accept

    async def _say(self, config: BotConfig, message: Inbound, key: str) -> None:
        text = "\n".join(dict.fromkeys(self.words.say(lang, key) for lang in ("zh_CN", "en")))
        await self.outbox.push(
            tenant=config.tenant,
            bot=config.name,
            channel=message.channel,
            lane=lane_of(config.tenant, config.name, message.conversation),
            key=f"{key}:{config.id}:{message.sender}",
            address=message.address,
            out=Outgoing(kind="notice", text=text),
        )

    async def _save_states(self) -> None:
        while True:
            await asyncio.sleep(SAVE_EVERY)
            try:
                await self._save()
            except AppError as error:
                log.warning("states of bots not saved: %s", error)

    async def _save(self) -> None:
        every = [(r.config.id, r.pulse) for r in self._bots.values()]
        dirty = [(bot, pulse) for bot, pulse in every if pulse.dirty]
        now = self.clock.ms()
        due = now - self._noted_at >= HISTORY_EVERY
        noted = [(bot, _taken(pulse), pulse.connection) for bot, pulse in every if due or pulse.turns]
        if not dirty and not noted:
            return
        self._noted_at = now if due else self._noted_at
        names = (
            "connection",
            "last_in",
            "last_out",
            "last_error",
            "last_error_at",
            "reconnects",
            "identity",
            "checked_at",
        )
        rows = [{"bot_id": bot, **{name: getattr(pulse, name) for name in names}} for bot, pulse in dirty]
        for _, pulse in dirty:
            pulse.dirty = False

        def fn(c: Connection) -> None:
            if rows:
                c.execute(delete(state_t).where(state_t.c.bot_id.in_([row["bot_id"] for row in rows])))
                c.execute(insert(state_t), rows)
            for bot, turns, state in noted:
                self._history.note(c, bot, turns, state, now)

        await self.db.write(fn, durable=False)
