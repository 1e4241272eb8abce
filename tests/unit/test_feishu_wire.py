"""Feishu callbacks: what is let in, and what is refused before it is parsed."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from channels.base import BotConfig, RawRequest
from channels.feishu.inbound import inbound
from channels.feishu.seal import Seal
from channels.feishu.settings import settings_of
from channels.feishu.wire import Challenge, Event, open_request
from storage.clock import ManualClock
from storage.envelope import Inbound
from storage.errors import AppError, Denied, Invalid, TooLarge, Unauthenticated
from tests.fakes.feishu_events import FeishuEvents, Posted

HOUR = 3_600_000


def config(**more: str) -> BotConfig:
    settings = {"app_id": "cli_test", "api_base": "https://open.feishu.cn", **more}
    secrets = {
        "app_secret": "app-secret",
        "encrypt_key": "encrypt-key-of-the-test",
        "verification_token": "verification-token",
    }
    return BotConfig(
        id=1, tenant="main", name="hr-bot", type="feishu", mode="webhook", settings=settings, secrets=secrets
    )


@pytest.fixture
def events(clock: ManualClock) -> FeishuEvents:
    return FeishuEvents(now=clock.ms)


def opened(posted: Posted, clock: ManualClock) -> Event | Challenge:
    settings = settings_of(config(), local=False)
    headers = {name.lower(): value for name, value in posted.headers.items()}
    request = RawRequest(method="POST", path="/", query={}, headers=headers, body=posted.body, ip="1.2.3.4")
    return open_request(request, settings, Seal(settings.encrypt_key), clock.ms())


def parsed(posted: Posted, clock: ManualClock, self_id: str = "ou_bot", **more: str) -> Inbound | None:
    event = opened(posted, clock)
    assert isinstance(event, Event)
    settings = settings_of(config(**more), local=False)
    return inbound(event, settings, tenant="main", bot="hr-bot", self_id=self_id)


def test_a_signed_and_encrypted_message_is_read(events: FeishuEvents, clock: ManualClock) -> None:
    posted = events.message("你好", person="ou_alice", chat="oc_1")
    message = parsed(posted, clock)
    assert message is not None
    assert message.text == "你好"
    assert message.keys == (posted.event_id, posted.message_id)
    assert (message.sender, message.conversation, message.kind) == ("ou_alice", "ou_alice", "direct")
    assert json.loads(message.address) == {"message": posted.message_id, "to": "oc_1"}


def test_the_challenge_is_echoed_signed_or_not(events: FeishuEvents, clock: ManualClock) -> None:
    for signed in (False, True):
        answer = opened(events.challenge('a "quoted" value', signed=signed), clock)
        assert isinstance(answer, Challenge)
        assert json.loads(answer.answer()) == {"challenge": 'a "quoted" value'}
    with pytest.raises(Unauthenticated, match=r"feishu\.token"):
        opened(events.challenge(token="other"), clock)


Change = Callable[[Posted, FeishuEvents, ManualClock], None]


def resigned(posted: Posted, events: FeishuEvents, body: bytes) -> None:
    posted.body, posted.headers = body, events.sign(body)


def header(name: str, value: str | None) -> Change:
    def change(posted: Posted, events: FeishuEvents, clock: ManualClock) -> None:
        if value is None:
            del posted.headers[name]
        else:
            posted.headers[name] = value

    return change


def signed_at(offset_ms: int) -> Change:
    def change(posted: Posted, events: FeishuEvents, clock: ManualClock) -> None:
        posted.headers = events.sign(posted.body, at_ms=clock.ms() + offset_ms)

    return change


def raw(**changes: Any) -> Change:
    def change(posted: Posted, events: FeishuEvents, clock: ManualClock) -> None:
        envelope = events.raw_message("x")
        for key, value in changes.items():
            place: Any = envelope
            *path, last = key.split("__")
            for step in path:
                place = place[step]
            if value is None:
                place.pop(last)
            else:
                place[last] = value
        resigned(posted, events, events.encrypt(envelope))

    return change


def body(make: Callable[[FeishuEvents, bytes], bytes]) -> Change:
    def change(posted: Posted, events: FeishuEvents, clock: ManualClock) -> None:
        resigned(posted, events, make(events, posted.body))

    return change


def unsigned(posted: Posted, events: FeishuEvents, clock: ManualClock) -> None:
    posted.headers = {"Content-Type": "application/json"}


def spaced(posted: Posted, events: FeishuEvents, clock: ManualClock) -> None:
    posted.body = posted.body.replace(b'": "', b'":"')


def other_key(posted: Posted, events: FeishuEvents, clock: ManualClock) -> None:
    other = FeishuEvents(now=clock.ms, encrypt_key="another key")
    posted.body = other.encrypt(other.raw_message("x"))
    posted.headers = events.sign(posted.body)


def seed_document(posted: Posted, events: FeishuEvents, clock: ManualClock) -> None:
    """The source document's own formula, which Feishu does not use."""
    import base64
    import hashlib
    import hmac

    secret, timestamp = "app-secret", posted.headers["X-Lark-Request-Timestamp"]
    text = f"{timestamp}\n{secret}\n{posted.body.decode()}\n{secret}".encode()
    digest = hmac.new(secret.encode(), text, hashlib.sha256).digest()
    posted.headers["X-Lark-Signature"] = base64.b64encode(digest).decode()


SIGNATURE, TIMESTAMP, NONCE = "X-Lark-Signature", "X-Lark-Request-Timestamp", "X-Lark-Request-Nonce"
REFUSED: list[tuple[str, Change, type[AppError], str]] = [
    ("wrong signature", header(SIGNATURE, "0" * 64), Unauthenticated, "feishu.signature"),
    ("signature of no letters", header(SIGNATURE, "é"), Unauthenticated, "feishu.signature"),
    ("no signature", header(SIGNATURE, None), Unauthenticated, "feishu.unsigned"),
    ("empty signature", header(SIGNATURE, ""), Unauthenticated, "feishu.unsigned"),
    ("no timestamp", header(TIMESTAMP, None), Unauthenticated, "feishu.unsigned"),
    ("no nonce", header(NONCE, None), Unauthenticated, "feishu.unsigned"),
    ("other nonce", header(NONCE, "x"), Unauthenticated, "feishu.signature"),
    ("none of the three", unsigned, Unauthenticated, "feishu.unsigned"),
    ("other spacing", spaced, Unauthenticated, "feishu.signature"),
    ("the source document's formula", seed_document, Unauthenticated, "feishu.signature"),
    ("stale signature", signed_at(-9 * HOUR), Unauthenticated, "feishu.stale"),
    ("future signature", signed_at(10 * 60_000), Unauthenticated, "feishu.future"),
    ("stale event", raw(header__create_time="1600000000000"), Unauthenticated, "feishu.stale"),
    ("future event", raw(header__create_time="1900000000000"), Unauthenticated, "feishu.future"),
    ("no event time", raw(header__create_time=""), Unauthenticated, "feishu.stale"),
    ("time in words", raw(header__create_time="yesterday"), Unauthenticated, "feishu.stale"),
    ("wrong token", raw(header__token="other"), Unauthenticated, "feishu.token"),
    ("no token", raw(header__token=None), Unauthenticated, "feishu.token"),
    ("another app", raw(header__app_id="cli_other"), Denied, "feishu.other_app"),
    ("no app", raw(header__app_id=None), Denied, "feishu.other_app"),
    ("other key", other_key, Unauthenticated, "feishu.encryption"),
    ("cut cipher text", body(lambda e, b: b'{"encrypt": "' + b"A" * 64 + b'"}'), Unauthenticated, "feishu.encryption"),
    ("short cipher text", body(lambda e, b: b'{"encrypt": "QUJD"}'), Unauthenticated, "feishu.encryption"),
    ("no base64", body(lambda e, b: b'{"encrypt": "%%%%"}'), Unauthenticated, "feishu.encryption"),
    ("encrypt is a number", body(lambda e, b: b'{"encrypt": 1}'), Unauthenticated, "feishu.unencrypted"),
    (
        "plain text",
        body(lambda e, b: json.dumps(e.raw_message("x")).encode()),
        Unauthenticated,
        "feishu.unencrypted",
    ),
    ("empty", body(lambda e, b: b""), Invalid, "feishu.empty"),
    ("no JSON", body(lambda e, b: b"hello"), Invalid, "feishu.malformed"),
    ("a list", body(lambda e, b: b"[]"), Unauthenticated, "feishu.unencrypted"),
    ("no JSON inside", body(lambda e, b: e.encrypt(b"hello")), Invalid, "feishu.malformed"),
    ("a list inside", body(lambda e, b: e.encrypt([])), Invalid, "feishu.malformed"),
    ("deep nesting", body(lambda e, b: e.encrypt(b"[" * 100_000)), Invalid, "feishu.malformed"),
    ("oversized", body(lambda e, b: b'{"encrypt": "' + b"A" * 1_000_000 + b'"}'), TooLarge, "feishu.size"),
    ("no event id", raw(header__event_id=None), Invalid, "feishu.malformed"),
    ("event id is a number", raw(header__event_id=7), Invalid, "feishu.malformed"),
    ("event is a list", raw(event=[]), Invalid, "feishu.malformed"),
]


@pytest.mark.parametrize(("name", "change", "kind", "code"), REFUSED, ids=[row[0] for row in REFUSED])
def test_refused(
    name: str, change: Change, kind: type[AppError], code: str, events: FeishuEvents, clock: ManualClock
) -> None:
    posted = events.message("x")
    change(posted, events, clock)
    with pytest.raises(kind) as refused:
        opened(posted, clock)
    assert refused.value.code == code
    assert 400 <= refused.value.status < 500


def test_a_big_unsigned_body_is_not_even_decrypted(events: FeishuEvents, clock: ManualClock) -> None:
    posted = events.challenge("x" * 900)
    posted.body = events.encrypt({"type": "url_verification", "token": "verification-token", "challenge": "x" * 20_000})
    with pytest.raises(Unauthenticated, match=r"feishu\.unsigned"):
        opened(posted, clock)


def test_the_platforms_retry_after_seven_hours_is_still_let_in(events: FeishuEvents, clock: ManualClock) -> None:
    posted = events.message("x")
    clock.advance(7.1 * 3600)
    assert isinstance(opened(posted, clock), Event)
    clock.advance(3600)
    with pytest.raises(Unauthenticated, match=r"feishu\.stale"):
        opened(posted, clock)


def test_an_event_of_version_one(events: FeishuEvents, clock: ManualClock) -> None:
    envelope = {
        "uuid": "uuid-1",
        "token": "verification-token",
        "ts": f"{clock.ms() / 1000:.6f}",
        "type": "event_callback",
        "event": {
            "type": "message",
            "app_id": "cli_test",
            "open_message_id": "om_1",
            "open_id": "ou_alice",
            "open_chat_id": "oc_1",
            "chat_type": "group",
            "msg_type": "text",
            "text": "<at open_id='ou_bot'>Bot</at> hello",
            "text_without_at_bot": " hello",
            "is_mention": True,
        },
    }
    message = parsed(events.posted(envelope), clock)
    assert message is not None
    assert (message.text, message.keys, message.conversation) == ("hello", ("uuid-1", "om_1"), "oc_1")


def test_groups_need_a_mention_of_the_bot(events: FeishuEvents, clock: ManualClock) -> None:
    asked = parsed(events.group("几点了"), clock)
    assert asked is not None
    assert (asked.text, asked.kind, asked.conversation, str(asked.origin)) == ("几点了", "group", "oc_group", "t3")
    assert parsed(events.group("几点了", mention_bot=False), clock) is None
    assert parsed(events.group("几点了", mention_bot=False), clock, group_mention="off") is not None
    assert parsed(events.group("几点了"), clock, self_id="ou_somebody") is None
    everyone = [{"key": "@_all", "id": {}, "name": "所有人"}]
    posted = events.message("@_all 开会", chat="oc_group", chat_type="group", mentions=everyone)
    assert parsed(posted, clock) is None
    assert parsed(posted, clock, self_id="") is None


def test_who_shares_a_conversation_in_a_group(events: FeishuEvents, clock: ManualClock) -> None:
    posted = events.group("x", person="ou_a", message={"thread_id": "omt_1"})
    lanes = {setting: parsed(posted, clock, group_lane=setting) for setting in ("thread", "group", "person")}
    assert {k: m.conversation for k, m in lanes.items() if m} == {
        "thread": "oc_group/omt_1",
        "group": "oc_group",
        "person": "oc_group/ou_a",
    }
    assert all(json.loads(m.address)["thread"] for m in lanes.values() if m)


def test_bots_do_not_talk_with_bots(events: FeishuEvents, clock: ManualClock) -> None:
    assert parsed(events.message("x", sender_type="app"), clock) is None
    assert parsed(events.message("x", person="ou_bot"), clock) is None


CONTENT: list[tuple[str, object, list[dict[str, str]]]] = [
    ("image", {"image_key": "img_1"}, [{"kind": "image", "key": "img_1"}]),
    ("file", {"file_key": "f_1", "file_name": "a.pdf"}, [{"kind": "file", "key": "f_1", "name": "a.pdf"}]),
    ("audio", {"file_key": "f_2", "duration": 900}, [{"kind": "audio", "key": "f_2", "name": "audio.opus"}]),
    ("media", {"file_key": "f_3", "file_name": "a.mp4"}, [{"kind": "video", "key": "f_3", "name": "a.mp4"}]),
    (
        "post",
        {
            "title": "周报",
            "content": [
                [{"tag": "text", "text": "见 "}, {"tag": "a", "text": "链接", "href": "https://a.cn"}],
                [{"tag": "at", "user_id": "@_user_1", "user_name": "Bot"}, {"tag": "text", "text": "好"}],
                [{"tag": "img", "image_key": "img_2"}, {"tag": "emotion", "emoji_type": "OK"}],
                [{"tag": "code_block", "language": "PYTHON", "text": "print(1)\n"}, {"tag": "hr"}],
                ["wrong", {"tag": 7, "text": 8}],
            ],
        },
        [
            {
                "kind": "text",
                "text": "**周报**\n见 [链接](https://a.cn)\n@Bot好\n:OK:\n\n```python\nprint(1)\n```\n---",
            },
            {"kind": "image", "key": "img_2"},
        ],
    ),
]


@pytest.mark.parametrize(("kind", "content", "parts"), CONTENT, ids=[row[0] for row in CONTENT])
def test_kinds_of_messages(
    kind: str, content: object, parts: list[dict[str, str]], events: FeishuEvents, clock: ManualClock
) -> None:
    message = parsed(events.message(kind=kind, content=content), clock)
    assert message is not None
    # a key leads nowhere without the message that it came with
    assert json.loads(message.parts_json().replace(f"{message.vendor_id}/", "")) == parts


def test_forwards_and_answers_are_quotes(events: FeishuEvents, clock: ManualClock) -> None:
    forwarded = parsed(events.message(kind="merge_forward", content="Merged and Forwarded Message"), clock)
    assert forwarded is not None
    assert [(p.kind, p.key, p.origin) for p in forwarded.parts] == [("quote", forwarded.vendor_id, "t5")]
    answered = parsed(events.message("看这个", message={"parent_id": "om_earlier"}), clock)
    assert answered is not None
    assert answered.text == "看这个"
    assert [(p.kind, p.key) for p in answered.parts] == [("text", ""), ("quote", "om_earlier")]


@pytest.mark.parametrize("kind", ["location", "share_chat", "sticker", "interactive", "hologram"])
def test_kinds_that_say_nothing_are_ignored(kind: str, events: FeishuEvents, clock: ManualClock) -> None:
    assert parsed(events.message(kind=kind, content={"file_key": 1, "text": ["x"]}), clock) is None


@pytest.mark.parametrize("content", ["", "null", "[]", "{", '{"text": 5}', '{"text": {"a": 1}}'])
def test_content_of_another_form_says_nothing(content: str, events: FeishuEvents, clock: ManualClock) -> None:
    assert parsed(events.message(content=content), clock) is None


@pytest.mark.parametrize(
    "message",
    [{"message_id": ""}, {"message_id": 5}, {"mentions": "x"}, {"content": {}}, {"chat_id": ["x"]}],
    ids=str,
)
def test_messages_of_another_form_are_refused(
    message: dict[str, Any], events: FeishuEvents, clock: ManualClock
) -> None:
    with pytest.raises(Invalid, match=r"feishu\.malformed"):
        parsed(events.message("x", message=message), clock)


@pytest.mark.parametrize(
    ("mode", "left_out", "missing"),
    [
        ("webhook", ("encrypt_key",), "encrypt_key"),
        ("webhook", ("verification_token", "encrypt_key"), "encrypt_key, verification_token"),
        ("websocket", ("app_secret",), "app_secret"),
    ],
)
def test_without_keys_there_is_no_channel(mode: str, left_out: tuple[str, ...], missing: str) -> None:
    whole = config()
    secrets = {k: v for k, v in whole.secrets.items() if k not in left_out}
    cut = BotConfig(id=1, tenant="main", name="b", type="feishu", mode=mode, settings=whole.settings, secrets=secrets)
    with pytest.raises(Invalid) as refused:
        settings_of(cut, local=False)
    assert refused.value.code == "feishu.incomplete"
    assert refused.value.params["missing"] == missing


@pytest.mark.parametrize(
    "base", ["http://open.feishu.cn", "https://a@b.cn", "https://x.cn/path", "ftp://x", "https://"]
)
def test_a_base_is_an_origin_with_tls(base: str) -> None:
    with pytest.raises(Invalid, match=r"feishu\.base"):
        settings_of(config(api_base=base), local=False)
