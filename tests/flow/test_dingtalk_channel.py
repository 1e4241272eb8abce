"""A DingTalk bot on the wire: callbacks in, replies out, against a loopback vendor that checks everything."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from channels.base import BotConfig, RawRequest
from channels.dingtalk.address import target
from channels.dingtalk.runtime import DingTalkChannel
from channels.hooks import Hooks, Pulse
from security.egress_client import EgressClient
from storage.background import Background
from storage.clock import ManualClock
from storage.envelope import Button, Inbound, Outgoing, Part
from storage.errors import (
    AppError,
    Conflict,
    Denied,
    Invalid,
    OutcomeUnknown,
    Rejected,
    Throttled,
    TooLarge,
    Unauthenticated,
    Unavailable,
)
from tests.fakes.dingtalk_server import FakeDingTalk
from tests.unit.test_dingtalk_wire import HOSTILE


class Resolver:
    """Counts every name that is looked up and resolves none."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def __call__(self, host: str, port: int) -> list[str]:
        self.asked.append(host)
        return []


class Bench:
    """A bot, its vendor, and what was accepted."""

    def __init__(self, fake: FakeDingTalk, clock: ManualClock, **settings: str) -> None:
        self.fake, self.clock = fake, clock
        self.accepted: list[Inbound] = []
        self.resolver = Resolver()
        self.egress = EgressClient(resolver=self.resolver, allow_local_vendors=True)
        self.pulse = Pulse(clock=clock)
        self.error: AppError | None = None
        self.written = 0
        self.config = BotConfig(
            id=1,
            tenant="main",
            name="it-bot",
            type="dingtalk",
            mode=settings.pop("mode", "http"),
            settings={"client_id": fake.client_id, "api_base": fake.url, "oapi_base": fake.url, **settings},
            secrets={"client_secret": fake.client_secret},
        )
        self.files: dict[str, bytes] = {}
        hooks = Hooks(background=Background(), pulse=self.pulse, local=True, read=self.read)
        self.channel = DingTalkChannel(self.config, self.egress, clock, self.accept, hooks)

    async def accept(self, inbound: Inbound) -> bool:
        if self.error:
            raise self.error
        self.accepted.append(inbound)
        return True

    async def read(self, path: str) -> bytes:
        if path not in self.files:
            raise FileNotFoundError(path)
        return self.files[path]

    async def post(self, headers: dict[str, str], body: bytes, method: str = "POST") -> int:
        request = RawRequest(
            method=method, path="/webhooks/dingtalk/it-bot", query={}, headers=headers, body=body, ip="1.2.3.4"
        )
        return (await self.channel.receive(request)).status

    async def say(self, words: str = "hello", **fields: Any) -> Inbound:
        await self.post(*self.fake.callback(words, **fields))
        return self.accepted[-1]

    async def send(self, text: str = "hi", address: str = "", **more: Any) -> str:
        out = Outgoing(kind=more.pop("kind", "answer"), text=text, **more)
        to = address or target("user:staff1").to_json()
        receipt = await self.channel.send(out, to, "key", self.count)
        return receipt.vendor_id

    def count(self) -> None:
        self.written += 1


@pytest.fixture
async def fake(clock: ManualClock) -> AsyncIterator[FakeDingTalk]:
    async with FakeDingTalk(now=clock.ms) as server:
        yield server


@pytest.fixture
async def bench(fake: FakeDingTalk, clock: ManualClock) -> AsyncIterator[Bench]:
    made = Bench(fake, clock)
    await made.channel.start()
    yield made
    await made.channel.stop()
    await made.egress.close()


# ---- in


async def test_a_signed_message_is_accepted_and_only_then_acknowledged(bench: Bench) -> None:
    assert await bench.post(*bench.fake.callback("你好")) == 200
    assert [m.text for m in bench.accepted] == ["你好"]
    assert bench.pulse.last_in == bench.clock.ms()
    bench.error = Unavailable("db.busy")
    with pytest.raises(Unavailable):
        await bench.post(*bench.fake.callback("again"))


async def test_an_unknown_message_is_acknowledged_and_ignored(bench: Bench) -> None:
    assert await bench.post(*bench.fake.callback(msgtype="newThing", text=...)) == 200
    assert bench.accepted == []


async def test_mutated_callbacks_are_refused(bench: Bench) -> None:
    now = bench.clock.ms()
    headers, body = bench.fake.callback()

    def mutate(**changes: Any) -> dict[str, str]:
        return {k: v for k, v in {**headers, **changes}.items() if v is not None}

    cases: list[tuple[dict[str, str], bytes, type[AppError]]] = [
        ({}, body, Unauthenticated),
        (mutate(sign=None), body, Unauthenticated),
        (mutate(timestamp=None), body, Unauthenticated),
        (mutate(sign=""), body, Unauthenticated),
        (mutate(timestamp=""), body, Unauthenticated),
        (mutate(sign=" " + headers["sign"]), body, Unauthenticated),
        (mutate(sign=headers["sign"].swapcase()), body, Unauthenticated),
        (mutate(sign=headers["sign"].rstrip("=")), body, Unauthenticated),
        (mutate(sign=headers["sign"] + ", " + headers["sign"]), body, Unauthenticated),
        (mutate(sign=headers["sign"].replace("=", "%3D")), body, Unauthenticated),
        (mutate(sign="A" * 100_000), body, Unauthenticated),
        (mutate(sign="签名"), body, Unauthenticated),
        (mutate(timestamp=str(now + 1)), body, Unauthenticated),
        (mutate(timestamp=headers["timestamp"] + " "), body, Unauthenticated),
        (mutate(timestamp="+" + headers["timestamp"]), body, Unauthenticated),
        (mutate(timestamp="0" + headers["timestamp"]), body, Unauthenticated),
        (bench.fake.callback(secret="wrong")[0], body, Unauthenticated),
        (bench.fake.callback(secret=bench.fake.client_id)[0], body, Unauthenticated),
        (bench.fake.callback(timestamp=now - 3_600_001)[0], body, Unauthenticated),
        (bench.fake.callback(timestamp=now + 3_600_001)[0], body, Unauthenticated),
        (bench.fake.callback(timestamp=0)[0], body, Unauthenticated),
        (bench.fake.callback(timestamp=now // 1000)[0], body, Unauthenticated),
        (bench.fake.callback(timestamp=10**15)[0], body, Unauthenticated),
        (headers, b"", Invalid),
        (headers, b"null", Invalid),
        (headers, b"{}", Invalid),
        (headers, body[:-1], Invalid),
        (headers, b"\xff" + body, Invalid),
        (headers, body.replace(b"msgId", b"msgid"), Invalid),
        (headers, body.replace(b'"robotCode": "dingtest"', b'"robotCode": "other"'), Denied),
        (headers, b" " * 1_000_001, TooLarge),
        (mutate(sign="x"), b"[" * 2_000_000, TooLarge),
    ]
    assert len(cases) >= 30
    for given, content, kind in cases:
        with pytest.raises(kind):
            await bench.post(given, content)
    with pytest.raises(Conflict):
        await bench.post(headers, body, method="GET")
    assert bench.accepted == []
    assert bench.pulse.last_in is None
    assert bench.fake.calls == []


async def test_one_captured_signature_forges_little(bench: Bench) -> None:
    headers, _ = bench.fake.callback()
    refused = 0
    for n in range(100):
        _, body = bench.fake.callback(f"forged {n}")
        try:
            await bench.post(headers, body)
        except Throttled:
            refused += 1
    assert len(bench.accepted) == 100 - refused <= 8


async def test_a_stream_bot_takes_no_callbacks(fake: FakeDingTalk, clock: ManualClock) -> None:
    bench = Bench(fake, clock, mode="stream")
    with pytest.raises(Conflict):
        await bench.post(*fake.callback())
    assert bench.accepted == []


async def test_a_bot_without_its_secret_does_not_start_and_says_why(fake: FakeDingTalk, clock: ManualClock) -> None:
    bench = Bench(fake, clock, client_id="")
    with pytest.raises(Invalid) as error:
        await bench.channel.start()
    assert error.value.code == "dingtalk.incomplete"
    with pytest.raises(Invalid):
        await bench.post(*fake.callback())
    assert bench.accepted == []


# ---- out


async def test_a_direct_reply_has_the_vendors_id(bench: Bench) -> None:
    message = await bench.say("几点了")
    vendor_id = await bench.send("三点\n整", message.address)
    sent = bench.fake.messages[0]
    assert (sent.id, sent.way, sent.to, sent.key) == (vendor_id, "direct", "staff1", "sampleMarkdown")
    assert sent.text == "三点  \n整"
    assert bench.written == 1
    assert bench.pulse.last_out == bench.clock.ms()


async def test_a_group_reply_goes_to_the_group(bench: Bench) -> None:
    message = await bench.say("hi", conversationType="2", conversationId="cidG==", isInAtList=True)
    assert await bench.send("ok", message.address)
    assert (bench.fake.messages[0].way, bench.fake.messages[0].to) == ("group", "cidG==")


async def test_buttons_are_accepted_by_the_vendor(bench: Bench) -> None:
    for count in range(1, 6):
        await bench.send("?", buttons=tuple(Button(label=f"b{n}", value=str(n)) for n in range(count)))
    assert [m.key for m in bench.fake.messages] == ["sampleActionCard", *(f"sampleActionCard{n}" for n in range(2, 6))]


async def test_many_senders_share_one_token(bench: Bench) -> None:
    bench.fake.fault("token", "slow")
    bench.fake.hold.clear()
    sends = [asyncio.ensure_future(bench.send(str(n))) for n in range(30)]
    await asyncio.wait_for(bench.fake.held.wait(), 5)
    bench.fake.hold.set()
    await asyncio.wait_for(asyncio.gather(*sends), 10)
    assert bench.fake.token_calls == 1
    assert len(bench.fake.messages) == 30


async def test_a_token_is_renewed_five_minutes_early(bench: Bench) -> None:
    await bench.send()
    bench.clock.advance(7200 - 301)
    await bench.send()
    assert bench.fake.token_calls == 1
    bench.clock.advance(2)
    await bench.send()
    assert bench.fake.token_calls == 2


async def test_a_refused_token_is_renewed_once_for_all(bench: Bench) -> None:
    await bench.send()
    bench.fake.expire_tokens()
    await asyncio.wait_for(asyncio.gather(*(bench.send(str(n)) for n in range(20))), 10)
    assert bench.fake.token_calls == 2
    assert len(bench.fake.messages) == 21
    assert bench.written == 21


async def test_a_token_that_is_always_refused_ends_as_refused(bench: Bench) -> None:
    bench.fake.fault("send", "expired", times=3)
    with pytest.raises(Rejected) as error:
        await bench.send()
    assert error.value.code == "dingtalk.token"
    assert bench.fake.messages == []


async def test_a_failed_token_is_one_failure_for_all_who_wait(bench: Bench) -> None:
    bench.fake.fault("token", "slow")
    bench.fake.fault("token", "status", status=503)
    bench.fake.hold.clear()
    bench.fake.client_secret = "reset"
    sends = [asyncio.ensure_future(bench.send(str(n))) for n in range(20)]
    await asyncio.wait_for(bench.fake.held.wait(), 5)
    bench.fake.hold.set()
    done = await asyncio.wait_for(asyncio.gather(*sends, return_exceptions=True), 10)
    assert {getattr(e, "code", "") for e in done} == {"dingtalk.credentials"}
    assert bench.fake.token_calls == 1


@pytest.mark.parametrize(
    ("fault", "kind", "code"),
    [
        ({"kind": "qps"}, Throttled, "dingtalk.too_fast"),
        ({"kind": "flow"}, Throttled, "dingtalk.too_fast"),
        ({"kind": "invalid"}, Rejected, "dingtalk.person"),
        ({"kind": "filtered"}, Rejected, "dingtalk.filtered"),
        ({"kind": "scope"}, Rejected, "dingtalk.scope"),
        ({"kind": "ip"}, Rejected, "dingtalk.ip"),
        ({"kind": "status", "status": 503}, Unavailable, "dingtalk.busy"),
        ({"kind": "status", "status": 504}, OutcomeUnknown, "dingtalk.no_answer"),
        ({"kind": "html"}, Unavailable, "dingtalk.busy"),
        ({"kind": "drop"}, OutcomeUnknown, "egress.cut"),
        ({"kind": "body", "body": {}}, OutcomeUnknown, "dingtalk.no_receipt"),
        ({"kind": "body", "body": {"processQueryKey": ["x"]}}, OutcomeUnknown, "dingtalk.no_receipt"),
        ({"kind": "refuse", "code": "brandNew"}, Rejected, "dingtalk.refused"),
        ({"kind": "refuse", "code": "x", "status": 302}, Rejected, "dingtalk.refused"),
    ],
)
async def test_every_refusal_is_typed(bench: Bench, fault: dict[str, Any], kind: type[AppError], code: str) -> None:
    bench.fake.fault("send", **fault)
    with pytest.raises(kind) as error:
        await bench.send()
    assert error.value.code == code
    assert bench.fake.client_secret not in str(error.value)
    assert len(bench.fake.messages) == (1 if fault["kind"] == "drop" else 0)
    bench.written = 0
    assert await bench.send("and then it works")


async def test_a_missing_permission_names_its_scope(bench: Bench) -> None:
    bench.fake.fault("send", "scope")
    with pytest.raises(Rejected) as error:
        await bench.send()
    assert error.value.params["scopes"] == "qyapi_robot_sendmsg"


async def test_a_vendor_that_cannot_be_reached_is_unavailable(fake: FakeDingTalk, clock: ManualClock) -> None:
    bench = Bench(fake, clock, api_base="http://127.0.0.1:9")
    with pytest.raises(Unavailable):
        await bench.send()
    assert bench.written == 0


async def test_a_lost_token_answer_may_be_repeated(bench: Bench) -> None:
    async def cut(*_: Any, **__: Any) -> Any:
        raise OutcomeUnknown("egress.cut")

    request, bench.egress.request = bench.egress.request, cut  # type: ignore[method-assign]
    with pytest.raises(Unavailable):
        await bench.send()
    bench.egress.request = request  # type: ignore[method-assign]
    assert await bench.send()


# ---- session webhook


async def test_a_person_outside_the_company_is_answered_by_session_webhook(bench: Bench) -> None:
    message = await bench.say(senderStaffId=...)
    assert await bench.send("hi", message.address) == "errcode=0"
    assert bench.fake.messages[0].way == "session"
    assert bench.fake.problems == []
    assert bench.fake.token_calls == 0


async def test_without_the_permission_a_reply_takes_the_session_webhook(bench: Bench) -> None:
    message = await bench.say()
    assert "session" not in json.loads(message.address)
    bench.fake.fault("send", "scope")
    assert await bench.send("hi", message.address) == "errcode=0"
    assert bench.fake.messages[0].way == "session"


async def test_an_expired_session_webhook_is_not_used(bench: Bench) -> None:
    message = await bench.say(senderStaffId=...)
    bench.clock.advance(91 * 60)
    with pytest.raises(Rejected) as error:
        await bench.send("hi", message.address)
    assert error.value.code == "dingtalk.person"
    assert bench.fake.calls == []


async def test_no_request_leaves_for_a_hostile_session_webhook(bench: Bench) -> None:
    assert len(HOSTILE) >= 20
    elsewhere = [url for url in HOSTILE if len(url) < 4000]
    elsewhere += [
        bench.fake.url.replace("127.0.0.1", "127.0.0.2") + "/robot/sendBySession",
        bench.fake.url.replace("127.0.0.1", "localhost") + "/robot/sendBySession",
        bench.fake.url + "@evil.com/",
        bench.fake.url + ".evil.com/",
        bench.fake.url + "0/robot/sendBySession",
    ]
    for n, url in enumerate(elsewhere):
        headers, body = bench.fake.callback(
            senderStaffId=..., sessionWebhook=url, sessionWebhookExpiredTime=bench.clock.ms() + 3_600_000
        )
        bench.clock.advance(1)
        await bench.post(headers, body)
        with pytest.raises(Rejected):
            await bench.send("secret", bench.accepted[n].address)
        with pytest.raises(Rejected):
            await bench.channel.client.session(url, {"msgtype": "text"})
    assert bench.fake.calls == []
    assert bench.resolver.asked == []


async def test_a_forged_address_in_the_ledger_reaches_nobody_either(bench: Bench) -> None:
    address = json.dumps({"kind": "direct", "session": "https://evil.example/", "until": bench.clock.ms() + 1000})
    with pytest.raises(Rejected):
        await bench.send("secret", address)
    assert bench.resolver.asked == []


async def test_a_redirect_is_not_followed(bench: Bench) -> None:
    bench.fake.fault("session", "status", status=302)
    message = await bench.say(senderStaffId=...)
    with pytest.raises(AppError):
        await bench.send("hi", message.address)
    assert bench.resolver.asked == []


# ---- test of credentials


async def test_the_probe_passes_step_by_step(bench: Bench) -> None:
    found = [(r.name, r.status) for r in await bench.channel.probe()]
    assert found[:4] == [("config", "pass"), ("token", "pass"), ("scopes", "pass"), ("inbound", "unknown")]
    await bench.say()
    assert ("inbound", "pass") in [(r.name, r.status) for r in await bench.channel.probe()]
    assert bench.fake.messages == []


async def test_the_probe_finds_missing_permissions_and_wrong_robot_codes(bench: Bench) -> None:
    bench.fake.fault("download", "scope")
    failed = next(r for r in await bench.channel.probe() if r.status == "fail")
    assert (failed.name, failed.code, failed.params["scopes"]) == ("scopes", "dingtalk.scope", "qyapi_robot_sendmsg")
    bench.fake.fault("download", "refuse", code="invalidParameter.robotCode.notExsit")
    failed = next(r for r in await bench.channel.probe() if r.status == "fail")
    assert (failed.name, failed.code) == ("scopes", "dingtalk.robot_code")


async def test_the_probe_explains_a_wrong_secret(bench: Bench) -> None:
    bench.fake.client_secret = "another"
    found = await bench.channel.probe()
    assert (found[1].name, found[1].status, found[1].code) == ("token", "fail", "dingtalk.credentials")


async def test_the_probe_tells_a_wrong_clock(bench: Bench) -> None:
    found = await bench.channel.probe()  # the fake's Date header is real, our clock is not
    assert found[-1].name == "clock"
    assert found[-1].status == "fail"


# ---- files


async def test_files_are_uploaded_and_sent(bench: Bench) -> None:
    bench.files |= {"c1/图表.png": b"\x89PNG", "c1/报告.pdf": b"%PDF"}
    for path in bench.files:
        assert await bench.send("", files=(path,))
    assert [m.key for m in bench.fake.messages] == ["sampleImageMsg", "sampleFile"]
    assert bench.fake.messages[1].param["fileName"] == "报告.pdf"
    assert sorted(bench.fake.media.values()) == [b"%PDF", b"\x89PNG"]
    bench.fake.expire_tokens()
    assert await bench.send("", files=("c1/报告.pdf",))
    bench.fake.fault("upload", "status", status=502)
    with pytest.raises(Unavailable):
        await bench.send("", files=("c1/报告.pdf",))


@pytest.mark.parametrize(("data", "code"), [(None, "file_gone"), (b"", "file_empty"), (b"x" * 20_000_001, "file_size")])
async def test_a_file_that_cannot_be_sent_says_why(bench: Bench, data: bytes | None, code: str) -> None:
    if data is not None:
        bench.files["a"] = data
    with pytest.raises(Rejected) as error:
        await bench.send("", files=("a",))
    assert error.value.code == f"dingtalk.{code}"
    assert bench.fake.messages == []


async def test_what_a_person_sent_can_be_fetched(bench: Bench) -> None:
    bench.fake.downloads["code1"] = b"picture"
    message = await bench.say(msgtype="picture", text=..., content={"downloadCode": "code1"})
    assert await bench.channel.fetch(message.parts[0]) == b"picture"
    with pytest.raises(Rejected):
        await bench.channel.fetch(Part(kind="image", key="gone"))


@pytest.mark.parametrize(
    "url", ["http://10.0.0.2/x", "https://10.0.0.1/x", "https://169.254.169.254/", "file:///etc/passwd", "x", 7]
)
async def test_a_file_elsewhere_inside_is_not_fetched(bench: Bench, url: object) -> None:
    bench.fake.fault("download", "body", body={"downloadUrl": url})
    with pytest.raises(Rejected):
        await bench.channel.fetch(Part(kind="image", key="c"))
