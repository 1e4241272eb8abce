"""WeCom behind the face of `tests.fakes.rigs`: the app with its callback, and the AI bot on its long connection."""

from __future__ import annotations

from typing import Any

from channels.base import BotConfig, RawRequest
from channels.line import Timing
from channels.wecom.app import WeComApp
from channels.wecom.bot import WeComBot
from channels.wecom.reply import ReplyPace
from channels.wecom.runtime import build
from storage.errors import AppError
from tests.fakes.rigs import Raw, Rig
from tests.fakes.wecom_server import FakeWeCom


class _WeComRig(Rig):
    person, group = "user:zhangsan", "group:wrgroup1"
    mode = ""

    async def start(self) -> None:
        self.fake = FakeWeCom(now=self.clock.ms)
        await self.fake.start()
        self.channel = self.made()
        await self.channel.start()
        if self.by_line:
            await self.until(lambda: self.pulse.connection == "online")

    async def stop_vendor(self) -> None:
        await self.fake.stop()

    def config(self, settings: dict[str, str], secrets: dict[str, str]) -> BotConfig:
        return BotConfig(
            id=1, tenant="main", name="bot", type="wecom", mode=self.mode, settings=settings, secrets=secrets
        )

    def media(self, kind: str, data: bytes) -> Raw:
        raise NotImplementedError

    def quote(self, words: str, said: str) -> Raw:
        raise NotImplementedError

    def other_event(self, raw: Raw) -> Raw:
        return raw

    def press(self, value: str) -> Raw | None:
        return None

    def expire(self) -> None:
        self.fake.tokens = dict.fromkeys(self.fake.tokens, False)

    def tokens(self) -> int:
        return self.fake.token_calls

    async def cut(self) -> None:
        await self.fake.bot.drop()

    def opened(self) -> int:
        return self.fake.bot.logins


class WeComAppRig(_WeComRig):
    """A self-built app, by encrypted callback. It knows direct chats and text only."""

    mode = "app"
    lacks = frozenset({"group", "media", "quote", "button", "files", "stream", "line"})

    def made(self, **settings: str) -> WeComApp:
        own = {"corp_id": self.fake.corp_id, "agent_id": self.fake.agent_id, "api_base": self.fake.url}
        secrets = {"corp_secret": "wecom-secret", "token": self.fake.callback_token, "aes_key": self.fake.aes_key}
        made = build(self.config(own | settings, secrets), self.egress, self.clock, self.accept, self.hooks())
        assert isinstance(made, WeComApp)
        return made

    async def deliver(self, raw: Raw) -> bool:
        query, body = self.fake.callback(raw)
        request = RawRequest(method="POST", path="/", query=query, headers={}, body=body, ip="1.2.3.4")
        try:
            return bool((await self.channel.receive(request)).status == 200)
        except AppError:
            return False

    def text(self, words: str = "你好", *, group: bool = False, mention: bool = True) -> Raw:
        self._count = getattr(self, "_count", 0) + 1
        return {"Content": words, "MsgId": str(9_000_000 + self._count)}

    def forged(self) -> list[RawRequest]:
        query, body = self.fake.callback(Content="坏")
        old = self.fake.callback(timestamp=self.clock.ms() // 1000 - 86_400)
        made = []
        for given, content in (
            ({}, body),
            (query | {"msg_signature": "0" * 40}, body),
            (query, b""),
            (query, b"<xml>"),
            (query, body.replace(b"<Encrypt>", b"<Encrypt>A")),
            old,
            self.fake.callback(AgentID="7"),
        ):
            made.append(RawRequest(method="POST", path="/", query=given, headers={}, body=content, ip="6.6.6.6"))
        return made

    def fault(self, kind: str) -> None:
        kinds: dict[str, dict[str, Any]] = {
            "rate": {"errcode": 45009},
            "error": {"status": 503},
            "refuse": {"errcode": 81013},
        }
        self.fake.fault("app", **kinds[kind])

    def said(self) -> list[str]:
        return [message.text for message in self.fake.messages]

    def wrong_secret(self) -> None:
        self.fake.corp_secret = "changed"


class WeComBotRig(_WeComRig):
    """An AI bot, by long connection. The vendor is not told whether a message was taken over."""

    mode, by_line = "bot", True
    lacks = frozenset({"media", "quote", "button", "files", "ack", "token"})

    def made(self, **settings: str) -> WeComBot:
        own = {"bot_id": self.fake.bot.bot_id, "socket": self.fake.url.replace("http", "ws", 1)}
        config = self.config(own | settings, {"bot_secret": "bot-secret"})
        timing, pace = Timing(first=0.01, most=0.05, refused=0.01), ReplyPace(between=0.002, throttled=0.002)
        return WeComBot(config, self.egress, self.clock, self.accept, self.hooks(), timing, pace)

    async def deliver(self, raw: Raw) -> bool:
        count = self.decided
        await self.fake.bot.say(raw["text"]["content"], **raw)
        await self.until(lambda: self.decided > count)
        return True

    def text(self, words: str = "你好", *, group: bool = False, mention: bool = True) -> Raw | None:
        if group and not mention:
            return None  # WeCom delivers only what mentions the bot
        raw = self.fake.bot.message(words)
        return raw | {"chattype": "group", "chatid": "wrgroup1"} if group else raw

    def forged(self) -> list[RawRequest]:
        return [RawRequest(method="POST", path="/", query={}, headers={}, body=b"{}", ip="6.6.6.6")]

    def fault(self, kind: str) -> None:
        self.fake.bot.faults.append({"rate": 45009, "error": -1, "refuse": 40008}[kind])

    def said(self) -> list[str]:
        streams = [str(stream["content"]) for stream in self.fake.bot.streams.values()]
        return streams + [message.text for message in self.fake.messages]

    def wrong_secret(self) -> None:
        self.fake.bot.secret = "changed"


WECOM_RIGS: dict[str, type[Rig]] = {"wecom app": WeComAppRig, "wecom bot": WeComBotRig}
