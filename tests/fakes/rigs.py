"""A vendor and one of its bots behind one face, so that the same suite can be held against every channel and mode."""

from __future__ import annotations

import asyncio
import json
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

from channels.base import BotConfig, Channel, RawRequest
from channels.dingtalk.card import CardPace
from channels.dingtalk.runtime import DingTalkChannel
from channels.feishu.runtime import FeishuChannel
from channels.feishu.settings import settings_of
from channels.feishu.stream import StreamPace
from channels.hooks import Click, Hooks, Pulse
from channels.line import Timing
from security.egress_client import EgressClient
from storage.background import Background
from storage.clock import ManualClock
from storage.envelope import Inbound, Outgoing, Part
from storage.errors import AppError, Unavailable
from storage.ledger import JobView, Ledger
from tests.fakes.dingtalk_gateway import BOT, CARD
from tests.fakes.dingtalk_server import FakeDingTalk
from tests.fakes.feishu_events import FeishuEvents
from tests.fakes.feishu_server import FeishuServer

Raw = dict[str, Any]
QUICK = Timing(first=0.01, most=0.05, refused=0.01)


class Rig(ABC):
    """One bot in one mode, its vendor, and a real ledger.

    What a vendor cannot do stands in `lacks`: the suite leaves it out and says so.
    """

    channel: Any
    by_line = False
    lacks: frozenset[str] = frozenset()
    """What the vendor does not have in this mode, or the suite does not try there.

    Of: group, media, quote, button, files, stream, line, token, ack.
    """

    def __init__(self, ledger: Ledger, clock: ManualClock) -> None:
        self.ledger, self.clock, self.pulse = ledger, clock, Pulse(clock=clock)
        self.background, self.egress = Background(), EgressClient(allow_local_vendors=True)
        self.got: list[Inbound] = []
        self.jobs: list[JobView] = []
        self.clicks: list[Click] = []
        self.full, self.decided = False, 0
        self.files = {"报告.txt": b"report", "图.png": b"\x89PNG"}
        ledger.on_job = self.jobs.append

    def hooks(self) -> Hooks:
        return Hooks(
            background=self.background, pulse=self.pulse, local=True, clicked=self._clicked, read=self._read_file
        )

    async def accept(self, inbound: Inbound) -> bool:
        if self.full:
            raise Unavailable("db.full")
        self.got.append(inbound)
        fresh = (await self.ledger.accept(inbound)).fresh
        self.decided += 1
        return fresh

    async def _clicked(self, click: Click) -> str:
        self.clicks.append(click)
        return ""

    async def _read_file(self, path: str) -> bytes:
        return self.files[path]

    async def until(self, true: Callable[[], object], seconds: float = 5.0) -> None:
        async with asyncio.timeout(seconds):
            while not true():
                await asyncio.sleep(0.001)

    async def send(self, text: str = "好", *, key: str = "k", address: str = "", **more: Any) -> str:
        out = Outgoing(kind="answer", text=text, **more)
        receipt = await self.channel.send(out, address or self.channel.address(self.person), key, lambda: None)
        return str(receipt.vendor_id)

    async def close(self) -> None:
        await self.channel.stop()
        await self.background.stop()
        await self.egress.close()
        await self.stop_vendor()

    # ---- what each vendor does in its own way

    person: str
    group: str

    @abstractmethod
    async def start(self) -> None:
        """Start the vendor and the bot."""

    @abstractmethod
    async def stop_vendor(self) -> None: ...

    @abstractmethod
    def made(self, **settings: str) -> Channel:
        """The bot, not started; `settings` replace its own."""

    @abstractmethod
    async def deliver(self, raw: Raw) -> bool:
        """The vendor delivers, signed anew each time. True if it was acknowledged as done."""

    @abstractmethod
    def text(self, words: str = "你好", *, group: bool = False, mention: bool = True) -> Raw | None: ...

    @abstractmethod
    def media(self, kind: str, data: bytes) -> Raw:
        """A picture, file or voice message; `data` can be fetched then."""

    @abstractmethod
    def quote(self, words: str, said: str) -> Raw: ...

    @abstractmethod
    def other_event(self, raw: Raw) -> Raw:
        """The same message, delivered under another id of the event."""

    @abstractmethod
    def press(self, value: str) -> Raw | None: ...

    @abstractmethod
    def forged(self) -> list[RawRequest]:
        """Callbacks that are not the vendor's."""

    @abstractmethod
    def fault(self, kind: str) -> None:
        """`rate`, `error` (5xx) or `refuse` for the next message."""

    @abstractmethod
    def expire(self) -> None:
        """All access tokens run out."""

    @abstractmethod
    def tokens(self) -> int: ...

    @abstractmethod
    def said(self) -> list[str]:
        """What people see, in order."""

    @abstractmethod
    async def cut(self) -> None:
        """The network cuts the long connection."""

    @abstractmethod
    def opened(self) -> int: ...

    @abstractmethod
    def wrong_secret(self) -> None: ...


class FeishuRig(Rig):
    """Feishu, by event callback."""

    lacks = frozenset({"line"})
    mode = "webhook"
    person, group = "ou_alice", "oc_group"

    async def start(self) -> None:
        self.server = await FeishuServer().start()
        self.events = FeishuEvents(now=self.clock.ms)
        self.raw: dict[int, Any] = {}
        self.channel = self.made()
        await self.channel.start()
        await self.until(lambda: self.channel.self_id)
        if self.by_line:
            await self.until(lambda: self.pulse.connection == "online")

    async def stop_vendor(self) -> None:
        await self.server.stop()

    def made(self, **settings: str) -> FeishuChannel:
        secrets = {
            "app_secret": "app-secret",
            "encrypt_key": self.events.encrypt_key,
            "verification_token": self.events.verification_token,
        }
        given = {"app_id": "cli_test", "api_base": self.server.base} | settings
        config = BotConfig(
            id=1,
            tenant="main",
            name="bot",
            type="feishu",
            mode=self.mode,
            settings={k: v for k, v in given.items() if k not in secrets},
            secrets={k: given.get(k, v) for k, v in secrets.items()},
        )
        pace = StreamPace(first=0.01, every=0.002)
        made = settings_of(config, local=True)
        return FeishuChannel(config, made, self.egress, self.clock, self.accept, self.hooks(), QUICK, pace)

    async def deliver(self, raw: Raw) -> bool:
        posted = self.events.posted(raw)
        headers = {k.lower(): v for k, v in posted.headers.items()}
        request = RawRequest(method="POST", path="/", query={}, headers=headers, body=posted.body, ip="1.2.3.4")
        try:
            return bool((await self.channel.receive(request)).status == 200)
        except AppError:
            return False

    def text(self, words: str = "你好", *, group: bool = False, mention: bool = True) -> Raw:
        if not group:
            return self.events.raw_message(words)
        mentions = [{"key": "@_user_1", "id": {"open_id": self.events.bot_open_id}, "name": "Bot"}]
        said = f"@_user_1 {words}" if mention else words
        return self.events.raw_message(said, chat=self.group, chat_type="group", mentions=mentions if mention else None)

    def media(self, kind: str, data: bytes) -> Raw:
        content = {"image": {"image_key": "key_1"}, "file": {"file_key": "key_1", "file_name": "a.txt"}}
        raw = self.events.raw_message(kind=kind, content=content.get(kind, {"file_key": "key_1", "duration": 900}))
        self.server.resources[(raw["event"]["message"]["message_id"], "key_1")] = ("a.txt", data)
        return raw

    def quote(self, words: str, said: str) -> Raw:
        self.server.quoted["om_quoted"] = [{"msg_type": "text", "body": {"content": json.dumps({"text": said})}}]
        return self.events.raw_message(words, message={"parent_id": "om_quoted"})

    def other_event(self, raw: Raw) -> Raw:
        return raw | {"header": raw["header"] | {"event_id": "ev-other"}}

    def press(self, value: str) -> Raw:
        body = {"operator": {"open_id": self.person}, "action": {"tag": "button", "value": {"v": value}}}
        return self.events.envelope("card.action.trigger", body)

    def forged(self) -> list[RawRequest]:
        made = []
        good = self.events.message("坏")
        other = FeishuEvents(now=self.clock.ms, encrypt_key="another-key")
        wrong_token = FeishuEvents(now=self.clock.ms, verification_token="another")
        wrong_app = FeishuEvents(now=self.clock.ms, app_id="cli_other")
        for body, headers in (
            (good.body, {}),
            (b"", good.headers),
            (good.body + b" ", good.headers),
            (good.body, self.events.sign(good.body, at_ms=self.clock.ms() - 9 * 3_600_000)),
            *(
                (posted.body, posted.headers)
                for posted in (other.message(), wrong_token.message(), wrong_app.message())
            ),
            (json.dumps(self.events.raw_message("坏")).encode(), {}),
        ):
            lower = {k.lower(): v for k, v in headers.items()}
            made.append(RawRequest(method="POST", path="/", query={}, headers=lower, body=body, ip="6.6.6.6"))
        return made

    def fault(self, kind: str) -> None:
        if kind == "refuse":
            self.server.fail("code", code=230002)
        else:
            self.server.fail(kind)

    def expire(self) -> None:
        self.server.forget_tokens()

    def tokens(self) -> int:
        return self.server.token_calls

    def said(self) -> list[str]:
        return [m.text or f"[{m.kind}]" for m in self.server.messages]

    async def cut(self) -> None:
        self.server.gateway.sockets[-1].transport.abort()

    def opened(self) -> int:
        return self.server.gateway.opened

    def wrong_secret(self) -> None:
        self.server.apps["cli_test"] = "changed"


class FeishuLineRig(FeishuRig):
    """Feishu, by long connection."""

    mode, by_line = "websocket", True
    lacks = frozenset()

    async def deliver(self, raw: Raw) -> bool:
        gateway = self.server.gateway
        return bool((await gateway.acked(await gateway.push(raw)))["code"] == 200)


class DingTalkRig(Rig):
    """DingTalk, by HTTP callback, which has no card callbacks."""

    lacks = frozenset({"line", "button"})
    mode = "http"
    person, group = "user:staff1", "group:cidG=="

    async def start(self) -> None:
        self.fake = FakeDingTalk(now=self.clock.ms)
        await self.fake.start()
        self.channel = self.made()
        await self.channel.start()
        if self.by_line:
            await self.until(lambda: self.pulse.connection == "online")

    async def stop_vendor(self) -> None:
        await self.fake.stop()

    def made(self, **settings: str) -> DingTalkChannel:
        secret = settings.pop("client_secret", "ding-secret")
        own = {"client_id": self.fake.client_id, "api_base": self.fake.url, "oapi_base": self.fake.url}
        config = BotConfig(
            id=1,
            tenant="main",
            name="bot",
            type="dingtalk",
            mode=self.mode,
            settings=own | {"card_template_id": "tpl.schema"} | settings,
            secrets={"client_secret": secret},
        )
        pace = CardPace(first=0.002, later=0.002, throttled=0.002, apart=0.0)
        return DingTalkChannel(config, self.egress, self.clock, self.accept, self.hooks(), QUICK, pace)

    async def deliver(self, raw: Raw) -> bool:
        headers, _ = self.fake.callback()
        body = json.dumps(raw, ensure_ascii=False).encode()
        request = RawRequest(method="POST", path="/", query={}, headers=headers, body=body, ip="1.2.3.4")
        try:
            return bool((await self.channel.receive(request)).status == 200)
        except AppError:
            return False

    def text(self, words: str = "你好", *, group: bool = False, mention: bool = True) -> Raw | None:
        if not group:
            return self.fake.message(words)
        if not mention:
            return None  # DingTalk delivers only what mentions the bot
        return self.fake.message(f" {words}", conversationType="2", conversationId="cidG==", isInAtList=True)

    def media(self, kind: str, data: bytes) -> Raw:
        self.fake.downloads["code1"] = data
        content = {
            "image": {"downloadCode": "code1"},
            "file": {"downloadCode": "code1", "fileName": "a.txt"},
            "audio": {"downloadCode": "code1", "recognition": "说的话", "duration": 900},
        }
        kinds = {"image": "picture"}
        return self.fake.message(msgtype=kinds.get(kind, kind), text=..., content=content[kind])

    def quote(self, words: str, said: str) -> Raw:
        replied = {"msgId": "m0", "msgType": "text", "content": {"text": said}}
        return self.fake.message(text={"content": words, "isReplyMsg": True, "repliedMsg": replied})

    def other_event(self, raw: Raw) -> Raw:
        return raw  # the frame's id is new each time anyway

    def press(self, value: str) -> Raw | None:
        return None

    def forged(self) -> list[RawRequest]:
        made = []
        for headers, body in (
            ({}, self.fake.callback()[1]),
            self.fake.callback(secret="wrong"),
            self.fake.callback(timestamp=self.clock.ms() - 2 * 3_600_000),
            (self.fake.callback()[0], b""),
            (self.fake.callback()[0], b"{"),
            self.fake.callback(robotCode="other"),
        ):
            made.append(RawRequest(method="POST", path="/", query={}, headers=headers, body=body, ip="6.6.6.6"))
        return made

    def fault(self, kind: str) -> None:
        kinds: dict[str, dict[str, Any]] = {
            "rate": {"kind": "qps"},
            "error": {"kind": "status", "status": 503},
            "refuse": {"kind": "scope"},
        }
        self.fake.fault("send", **kinds[kind])

    def expire(self) -> None:
        self.fake.expire_tokens()

    def tokens(self) -> int:
        return self.fake.token_calls

    def said(self) -> list[str]:
        cards = [card.content for card in self.fake.cards.all.values()]
        return cards + [m.text or f"[{m.key}]" for m in self.fake.messages]

    async def cut(self) -> None:
        await self.fake.gateway.drop()

    def opened(self) -> int:
        return self.fake.gateway.opened

    def wrong_secret(self) -> None:
        self.fake.client_secret = "changed"


class DingTalkLineRig(DingTalkRig):
    """DingTalk, by Stream."""

    mode, by_line = "stream", True
    lacks = frozenset()

    async def deliver(self, raw: Raw) -> bool:
        topic = CARD if "outTrackId" in raw else BOT
        return bool((await self.fake.gateway.acked(await self.fake.gateway.push(topic, raw)))["code"] == 200)

    def press(self, value: str) -> Raw:
        content = {"cardPrivateData": {"actionIds": ["a"], "params": {"value": value}}}
        return {
            "outTrackId": "zhixing-1-1",
            "userId": "staff1",
            "type": "actionCallback",
            "content": json.dumps(content),
        }


RIGS: dict[str, type[Rig]] = {
    "feishu webhook": FeishuRig,
    "feishu websocket": FeishuLineRig,
    "dingtalk http": DingTalkRig,
    "dingtalk stream": DingTalkLineRig,
}


def media_of(inbound: Inbound) -> Part:
    """The picture, file or voice of a message."""
    return next(part for part in inbound.parts if part.kind != "text")
