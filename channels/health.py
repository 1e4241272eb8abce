"""Health tests of the bots: alive, known to their vendor, reachable by it, signature and form of messages right."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import orjson
from sqlalchemy import Connection, and_, func, select

from channels import selftest
from channels.actions import BotActions
from channels.base import BotConfig, ProbeResult
from channels.bot_view import BotRow
from channels.manifests import MANIFESTS
from channels.registry import bot_t, config_of
from security.egress import Policy
from security.health.row import Found, HealthTest, off
from security.health.site import Remote
from storage.errors import AppError, NotFound, Unavailable
from storage.ledger import delivery_t
from storage.principal import SYSTEM, Principal

REACH = Policy(private=True, seconds=8.0, most_bytes=200_000)
BEYOND = frozenset({"egress.connect", "egress.timeout"})
DAY = 86_400_000
FORM = frozenset(
    {
        "feishu.230001",
        "feishu.230025",
        "feishu.230099",
        "feishu.9499",
        "feishu.19002",
        "dingtalk.content",
        "dingtalk.too_long",
        "wecom.content",
        "wecom.too_long",
    }
)
BASES = ("api_base", "oapi_base", "endpoint")
DEFAULTS = {
    "feishu": ("https://open.feishu.cn",),
    "dingtalk": ("https://api.dingtalk.com", "https://oapi.dingtalk.com"),
    "wecom": ("https://qyapi.weixin.qq.com",),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class BotHealth:
    """What the tests of bots look at.

    Attributes:
        public: the name under which vendors reach us; empty if none is known.
    """

    actions: BotActions
    public: Callable[[], str]

    def tests(self) -> list[HealthTest]:
        """Tests of group `bot`."""
        return [
            HealthTest(id="bot.alive", look=self._alive, inside=True, fix=self._reconnect),
            HealthTest(id="bot.vendor", look=self._vendor, seconds=60.0, asks=True),
            HealthTest(id="bot.callback", look=self._callback, seconds=40.0),
            HealthTest(id="bot.signature", look=self._signature),
            HealthTest(id="bot.format", look=self._format),
        ]

    async def remotes(self) -> list[Remote]:
        """Vendors' addresses that bots are set to."""
        found = []
        for row in await self.actions.list(SYSTEM):
            given = [row.settings[name] for name in BASES if row.settings.get(name, "").startswith("http")]
            found += [Remote(url=url, used_by=row.name) for url in given or DEFAULTS.get(row.type, ())]
        return found

    async def called(self) -> list[str]:
        """Bots that their vendor has to reach."""
        return [row.name for row in await self.actions.list(SYSTEM) if row.callback and not row.paused]

    async def _reconnect(self, who: Principal, subject: str) -> None:
        who.require("bot.manage")
        await self.actions.bots.reload(who.tenant, subject)

    # ---- tests

    async def _alive(self) -> Sequence[Found]:
        rows = await self.actions.list(SYSTEM)
        return [_life(row) for row in rows] or [off("none")]

    async def _vendor(self) -> Sequence[Found]:
        """Credentials, identity, permissions, clock: asked of the vendor; nothing is said to anybody."""
        found: list[Found] = []
        for row in await self.actions.list(SYSTEM):
            if row.type not in MANIFESTS:
                found.append(Found(status="fail", code="bot.type", params={"type": row.type}, subject=row.name))
                continue
            try:
                results = await self.actions.probe(SYSTEM, row.name)
            except AppError as error:
                found.append(Found(status="fail", code=error.code, params=error.params, subject=row.name, to="/bots"))
                continue
            broken = any(result.status == "fail" for result in results)
            # steps behind a failed one were not tried: they would only repeat it
            kept = [result for result in results if not (broken and result.status == "unknown")]
            found += [_found(row.name, result) for result in kept]
        return found or [off("none")]

    async def _callback(self) -> Sequence[Found]:
        """The bot's own address, asked for by the public name with a method that only our own route refuses so."""
        rows = [row for row in await self.actions.list(SYSTEM) if row.callback and not row.paused]
        if not rows:
            return [off("none")]
        host, found = self.public(), []
        for row in rows:
            if not host:
                found.append(
                    Found(
                        status="unknown", say="no_name", subject=row.name, to="/server", params={"path": row.callback}
                    )
                )
                continue
            found.append(await self._reached(row, host))
        return found

    async def _reached(self, row: BotRow, host: str) -> Found:
        url = f"https://{host}{row.callback}"
        try:
            answer = await self.actions.bots.egress.request("PUT", url, policy=REACH)
        except Unavailable as error:
            if error.code in BEYOND:
                return Found(status="unknown", say="unreachable", subject=row.name, params={"url": url})
            return Found(status="fail", code=error.code, params={**error.params, "host": host}, subject=row.name)
        try:
            ours = orjson.loads(answer.content).get("code") == "http.method"
        except (orjson.JSONDecodeError, AttributeError):
            ours = False
        if not ours:
            params = {"url": url, "status": answer.status_code, "server": answer.headers.get("server", "?")[:60]}
            return Found(status="fail", say="other", subject=row.name, params=params)
        if row.last_in is None:
            return Found(status="warn", say="silent", subject=row.name, params={"url": url}, to="/bots")
        return Found(status="pass", say="open", subject=row.name, params={"url": url})

    async def _signature(self) -> Sequence[Found]:
        found = []
        for row in await self.actions.list(SYSTEM):
            try:
                config = await self.actions.db.read(lambda c, name=row.name: self._config(c, name))  # type: ignore[misc]
                channel = self.actions.bots.try_out(config)
            except AppError:
                continue  # what it lacks is told by its vendor test
            try:
                result = await selftest.signature(channel, config, self.actions.clock)
            finally:
                await channel.stop()
            if result is not None:
                found.append(_found(row.name, result))
        return found or [off("none")]

    async def _format(self) -> Sequence[Found]:
        """A rich message fits, and no message of the last day was refused for its form."""
        rows = await self.actions.list(SYSTEM)
        since = self.actions.clock.ms() - DAY
        refused = await self.actions.db.read(lambda c: _refused(c, since))
        found = []
        for row in rows:
            if row.name in refused:
                code, count = refused[row.name]
                found.append(Found(status="fail", code=code, params={"count": count}, subject=row.name, to="/activity"))
                continue
            try:
                config = await self.actions.db.read(lambda c, name=row.name: self._config(c, name))  # type: ignore[misc]
                channel = self.actions.bots.try_out(config)
            except AppError:
                continue
            found.append(_found(row.name, selftest.form(channel)))
            await channel.stop()
        return found or [off("none")]

    def _config(self, c: Connection, name: str) -> BotConfig:
        row = c.execute(select(bot_t).where(and_(bot_t.c.tenant == SYSTEM.tenant, bot_t.c.name == name))).first()
        if row is None:
            raise NotFound("bot.unknown", name=name[:60])
        return config_of(c, self.actions.vault, row)


def _life(row: BotRow) -> Found:
    if row.paused:
        return Found(status="off", say="paused", subject=row.name, to="/bots")
    if row.connection == "online":
        return Found(status="pass", say="online", subject=row.name)
    if row.connection == "waiting":
        if row.type == "webhook" or not MANIFESTS[row.type].receives:
            return Found(status="pass", say="ready", subject=row.name)
        return Found(
            status="pass" if row.last_in else "unknown", say="heard" if row.last_in else "waits", subject=row.name
        )
    if row.connection == "connecting":
        return Found(status="warn", say="connecting", subject=row.name, fixable=True)
    if row.last_error:
        return Found(
            status="fail", code=row.last_error, params=row.error_params, subject=row.name, to="/bots", fixable=True
        )
    return Found(status="fail", say="down", subject=row.name, to="/bots", fixable=True)


def _found(name: str, result: ProbeResult) -> Found:
    return Found(
        status=result.status,
        say="" if result.code else result.status,
        code=result.code,
        params=result.params,
        subject=name,
        step=result.name,
        to="/bots" if result.status in ("fail", "warn") else "",
        ms=result.ms,
    )


def _refused(c: Connection, since: int) -> dict[str, tuple[str, int]]:
    mine = and_(
        delivery_t.c.committed_at > since, delivery_t.c.status == "failed", delivery_t.c.error.in_(sorted(FORM))
    )
    query = select(delivery_t.c.bot, delivery_t.c.error, func.count().label("n")).where(mine)
    return {row.bot: (row.error, row.n) for row in c.execute(query.group_by(delivery_t.c.bot, delivery_t.c.error))}
