"""WeCom callbacks: what is refused before it is read, what each message says, and encryption by two hands."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from channels.base import BotConfig, RawRequest
from channels.wecom import frames, wire
from channels.wecom.address import Address, target
from channels.wecom.render import markdown
from channels.wecom.seal import decrypt, encrypt, sign
from channels.wecom.settings import settings_of
from storage.envelope import Button, Inbound, Origin, Outgoing, Part
from storage.errors import AppError, Denied, Invalid, TooLarge, Unauthenticated
from tests.fakes.wecom_server import FakeWeCom

NOW = 1_767_225_600_000
FAKE = FakeWeCom(now=lambda: NOW)


def config(mode: str = "app", **settings: str) -> BotConfig:
    return BotConfig(
        id=1,
        tenant="main",
        name="wx",
        type="wecom",
        mode=mode,
        settings={"corp_id": "wwcorp", "agent_id": "1000002", "bot_id": "aib1"} | settings,
        secrets={"corp_secret": "s", "token": "cb-token", "aes_key": FAKE.aes_key, "bot_secret": "b"},
    )


SETTINGS = settings_of(config(), local=False)


def request(query: dict[str, str], body: bytes, method: str = "POST") -> RawRequest:
    return RawRequest(method=method, path="/", query=query, headers={}, body=body, ip="")


def read(fields: dict[str, Any] | None = None, **more: Any) -> Inbound | None:
    return wire.inbound(wire.open_request(request(*FAKE.callback(fields, **more)), SETTINGS, NOW), config())


def test_two_hands_agree_on_the_encryption() -> None:
    key = SETTINGS.aes_key
    assert decrypt(key, FAKE.sealed("你好".encode()), "wwcorp") == "你好".encode()
    assert decrypt(key, encrypt(key, b"x" * 100, "wwcorp"), "wwcorp") == b"x" * 100
    assert sign("a", "b", "c", "d") == "81fe8bfe87576c3ecb22426f8e57847382917acf"  # sha1("abcd")


def test_the_challenge_is_answered() -> None:
    echo = FAKE.sealed(b"1234567890")
    query = FAKE.query(echo) | {"echostr": echo}
    assert wire.challenge(request(query, b"", "GET"), SETTINGS, NOW) == b"1234567890"
    for wrong in ({**query, "echostr": ""}, {**query, "msg_signature": "0"}, {}):
        with pytest.raises(Unauthenticated):
            wire.challenge(request(wrong, b"", "GET"), SETTINGS, NOW)
    with pytest.raises(TooLarge):
        wire.challenge(request({**query, "echostr": "A" * 20_000}, b"", "GET"), SETTINGS, NOW)


def test_mutated_callbacks_are_refused() -> None:
    query, body = FAKE.callback()
    other = FakeWeCom(corp_id="wwother", now=lambda: NOW)
    sealed = FAKE.sealed(b"<xml></xml>")
    foreign = other.callback()
    at = NOW // 1000

    def raw(encrypted: str, **changes: str) -> tuple[dict[str, str], bytes]:
        return FAKE.query(encrypted) | changes, f"<xml><Encrypt>{encrypted}</Encrypt></xml>".encode()

    cases: list[tuple[dict[str, str], bytes, type[AppError]]] = [
        ({}, body, Unauthenticated),
        ({**query, "msg_signature": ""}, body, Unauthenticated),
        ({**query, "msg_signature": query["msg_signature"].upper()}, body, Unauthenticated),
        ({**query, "msg_signature": query["msg_signature"] + "0"}, body, Unauthenticated),
        ({**query, "msg_signature": "签"}, body, Unauthenticated),
        ({**query, "timestamp": str(at + 1)}, body, Unauthenticated),
        ({**query, "timestamp": ""}, body, Unauthenticated),
        ({**query, "nonce": ""}, body, Unauthenticated),
        ({**query, "nonce": "other"}, body, Unauthenticated),
        (*FAKE.callback(timestamp=at - 301), Unauthenticated),
        (*FAKE.callback(timestamp=at + 301), Unauthenticated),
        (*FAKE.callback(timestamp=NOW), Unauthenticated),
        (*FAKE.callback(timestamp=0), Unauthenticated),
        (query, b"", Unauthenticated),
        (query, b"<xml/>", Unauthenticated),
        (query, b"{}", Unauthenticated),
        (query, body + body, Unauthenticated),
        (query, body.replace(b"<Encrypt>", b"<Encrypted>"), Unauthenticated),
        (query, body[:-60], Unauthenticated),
        (query, b"<!DOCTYPE x [<!ENTITY a 'b'>]>" + body[:50], Unauthenticated),
        (query, b" " * 1_000_001, TooLarge),
        (*foreign, Denied),
        (*raw(FAKE.sealed(b"<xml></xml>", "wwother")), Denied),
        (*raw(FAKE.sealed(b"<xml><ToUserName>wwother</ToUserName></xml>")), Denied),
        (*FAKE.callback(AgentID="9"), Denied),
        (*FAKE.callback(ToUserName="wwother"), Denied),
        (*raw(sealed[:-4] + "AAA="), Invalid),
        (*raw(base64.b64encode(b"x" * 48).decode()), Invalid),
        (*raw(base64.b64encode(b"x" * 33).decode()), Invalid),
        (*raw(FAKE.sealed(b"not xml")), Invalid),
        (*raw(FAKE.sealed(b"<!DOCTYPE x [<!ENTITY a 'b'>]><xml><Content>&a;</Content></xml>")), Invalid),
        (*raw(FAKE.sealed(b"<xml>")), Invalid),
    ]
    assert len(cases) >= 30
    for n, (given, content, kind) in enumerate(cases):
        try:
            wire.open_request(request(given, content), SETTINGS, NOW)
        except kind:
            continue
        pytest.fail(f"case {n} was let through")


def test_a_text() -> None:
    found = read(Content="你好 <b>&amp;", MsgId="77")
    assert found is not None
    assert (found.text, found.sender, found.keys, found.kind) == ("你好 <b>&amp;", "zhangsan", ("msg:77",), "direct")
    assert (found.sent_at, found.origin) == (NOW, Origin.USER)
    assert Address.from_json(found.address) == Address(kind="direct", to="zhangsan")


@pytest.mark.parametrize(
    ("fields", "part"),
    [
        ({"MsgType": "image", "MediaId": "m1", "PicUrl": "http://x"}, Part(kind="image", key="m1")),
        ({"MsgType": "voice", "MediaId": "m1", "Recognition": "开会"}, Part(kind="audio", key="m1", text="开会")),
        ({"MsgType": "video", "MediaId": "m1"}, Part(kind="video", key="m1")),
        (
            {"MsgType": "link", "Title": "t", "Description": "d", "Url": "https://x/"},
            Part(kind="quote", text="t\nd\nhttps://x/", origin=Origin.OUTSIDE),
        ),
    ],
)
def test_other_kinds(fields: dict[str, Any], part: Part) -> None:
    found = read(fields)
    assert found is not None
    assert found.parts == (part,)


@pytest.mark.parametrize(
    "fields",
    [{"MsgType": "event", "Event": "enter_agent"}, {"MsgType": "location"}, {"Content": " "}, {"MsgType": ...}],
)
def test_what_nobody_is_to_answer_is_dropped(fields: dict[str, Any]) -> None:
    assert read(fields) is None


@pytest.mark.parametrize("fields", [{"FromUserName": ""}, {"MsgId": ""}, {"FromUserName": "a b"}, {"MsgId": "x" * 200}])
def test_a_message_from_nobody_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(Invalid):
        read(fields)


# ---- the AI bot's frames

BOT = settings_of(config("bot"), local=False)


def heard(words: str = "hello", /, **fields: Any) -> Inbound | None:
    body = FAKE.bot.message(words, **fields)
    frame = frames.Frame(cmd="aibot_msg_callback", headers={"req_id": "r1"}, body=body)  # type: ignore[arg-type]
    return frames.inbound(frame, config("bot"), BOT)


def test_a_group_message_without_the_bots_name() -> None:
    found = heard("@小助手 几点了 @李四", chattype="group", chatid="wrGROUP")
    assert found is not None
    assert (found.text, found.kind, found.conversation) == ("几点了 @李四", "group", "wrGROUP")
    assert Address.from_json(found.address) == Address(kind="group", to="wrGROUP", request="r1")
    direct = heard("@小助手 几点了")
    assert direct is not None
    assert direct.text == "@小助手 几点了"


def test_mixed_messages_quotes_and_files() -> None:
    items = [
        {"msgtype": "text", "text": {"content": "看"}},
        {"msgtype": "image", "image": {"url": "https://x/1", "aeskey": "k"}},
    ]
    found = heard(
        msgtype="mixed", text=..., mixed={"msg_item": items}, quote={"msgtype": "text", "text": {"content": "q"}}
    )
    assert found is not None
    assert found.parts == (
        Part(kind="quote", text="q", origin=Origin.OUTSIDE),
        Part(kind="text", text="看"),
        Part(kind="image", key="k https://x/1"),
    )
    assert heard(msgtype="file", file={"url": ""}) is None


@pytest.mark.parametrize(
    "fields",
    [
        {"msgid": ""},
        {"msgid": {"a": 1}},
        {"from": {}},
        {"from": ...},
        {"chattype": "group"},
        {"msgid": "x" * 500},
        {"text": 3},
    ],
)
def test_a_malformed_frame_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(Invalid):
        heard(**fields)


@pytest.mark.parametrize("raw", ["", "{", "[]", "null", b"\xff", '{"headers": 3}', '{"errcode": "x"}'])
def test_an_unreadable_frame_is_none(raw: str | bytes) -> None:
    assert frames.read_frame(raw) is None


# ---- the rest


def test_markdown_has_links_for_buttons_and_no_foreign_images() -> None:
    out = Outgoing(
        kind="push",
        text="![x](https://evil/?q=1)",
        title="T",
        mentions=("u1",),
        buttons=(Button(label="open", url="https://a/"), Button(label="v", value="v")),
    )
    assert markdown(out) == "**T**\n\n[x](https://evil/?q=1)\n\n[open](https://a/)\n\n<@u1>"


def test_targets() -> None:
    assert target("user:zhang") == Address(kind="direct", to="zhang")
    assert target("group:wr1") == Address(kind="group", to="wr1")
    for wrong in ("zhang", "user:", "user:a b", "team:x"):
        with pytest.raises(Invalid):
            target(wrong)
    for text in ("", "[]", '{"kind":"x","to":"a"}', '{"kind":"direct","to":""}', '{"kind":"direct","to":1}'):
        with pytest.raises(Invalid):
            Address.from_json(text)


@pytest.mark.parametrize(
    ("mode", "settings", "secrets", "code"),
    [
        ("other", {}, {}, "wecom.mode"),
        ("app", {}, {}, "wecom.incomplete"),
        ("bot", {"bot_id": "a"}, {}, "wecom.incomplete"),
        ("bot", {"bot_id": "a", "socket": "ws://x"}, {"bot_secret": "b"}, "wecom.base"),
        ("bot", {"bot_id": "a", "socket": "https://x/y"}, {"bot_secret": "b"}, "wecom.base"),
        (
            "app",
            {"corp_id": "a", "agent_id": "1"},
            {"corp_secret": "b", "token": "t", "aes_key": "short"},
            "wecom.aes_key",
        ),
    ],
)
def test_incomplete_settings_say_so(mode: str, settings: dict[str, str], secrets: dict[str, str], code: str) -> None:
    made = BotConfig(id=1, tenant="main", name="b", type="wecom", mode=mode, settings=settings, secrets=secrets)
    with pytest.raises(Invalid) as error:
        settings_of(made, local=False)
    assert error.value.code == code
