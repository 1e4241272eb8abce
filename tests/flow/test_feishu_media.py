"""Pictures and files both ways, and what a quoted message said."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from channels.base import BotConfig, RawRequest
from channels.feishu.runtime import FeishuChannel
from channels.feishu.settings import settings_of
from channels.hooks import Hooks, Pulse
from security.egress_client import EgressClient
from storage.background import Background
from storage.clock import Clock
from storage.envelope import Inbound, Outgoing, Part
from storage.errors import Rejected
from tests.fakes.feishu_events import FeishuEvents
from tests.fakes.feishu_server import FeishuServer

ADDRESS = '{"message": "om_in_1", "to": "oc_1"}'
FILES = {
    "out/图.PNG": b"\x89PNG",
    "out/报告.docx": b"doc",
    "a.mp4": b"film",
    "none.txt": b"",
    "big.bin": b"x" * 30_000_001,
}


async def read(path: str) -> bytes:
    if path not in FILES:
        raise FileNotFoundError(path)
    return FILES[path]


class Bench:
    def __init__(self, server: FeishuServer) -> None:
        self.server, self.accepted = server, list[Inbound]()
        self.events = FeishuEvents()
        self.background, self.egress, clock = Background(), EgressClient(allow_local_vendors=True), Clock()
        config = BotConfig(
            id=1,
            tenant="main",
            name="hr-bot",
            type="feishu",
            mode="webhook",
            settings={"app_id": "cli_test", "api_base": server.base, "group_mention": "off"},
            secrets={
                "app_secret": "app-secret",
                "encrypt_key": self.events.encrypt_key,
                "verification_token": self.events.verification_token,
            },
        )
        hooks = Hooks(background=self.background, pulse=Pulse(clock=clock), local=True, read=read)
        made = settings_of(config, local=True)
        self.channel = FeishuChannel(config, made, self.egress, clock, self.accept, hooks)

    async def accept(self, inbound: Inbound) -> bool:
        self.accepted.append(inbound)
        return True

    async def hear(self, **message: Any) -> Inbound:
        posted = self.events.message(**message)
        headers = {key.lower(): value for key, value in posted.headers.items()}
        await self.channel.receive(
            RawRequest(method="POST", path="/", query={}, headers=headers, body=posted.body, ip="127.0.0.1")
        )
        return self.accepted[-1]

    async def send(self, *files: str) -> None:
        for piece in self.channel.split(Outgoing(kind="answer", text="", files=files)):
            await self.channel.send(piece, ADDRESS, f"k-{piece.files}", lambda: None)


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    server = await FeishuServer().start()
    made = Bench(server)
    yield made
    await made.channel.stop()
    await made.background.stop()
    await made.egress.close()
    await server.stop()


async def test_pictures_and_files_go_out_as_what_they_are(bench: Bench) -> None:
    await bench.send("out/图.PNG", "out/报告.docx", "a.mp4")
    assert [m.kind for m in bench.server.messages] == ["image", "file", "media"]
    keys = [m.content.get("image_key") or m.content.get("file_key") for m in bench.server.messages]
    assert [bench.server.uploads[key] for key in keys] == [b"\x89PNG", b"doc", b"film"]
    assert bench.server.refused == []


@pytest.mark.parametrize(
    ("path", "code"), [("none.txt", "file_empty"), ("big.bin", "file_size"), ("gone.txt", "file_gone")]
)
async def test_files_that_cannot_go_are_named(bench: Bench, path: str, code: str) -> None:
    with pytest.raises(Rejected, match=rf"feishu\.{code}"):
        await bench.send(path)
    assert bench.server.messages == []


@pytest.mark.parametrize(
    ("kind", "content", "found"),
    [
        ("image", {"image_key": "img_1"}, ("image", "")),
        ("file", {"file_key": "img_1", "file_name": "报告.pdf"}, ("file", "报告.pdf")),
        ("audio", {"file_key": "img_1", "duration": 1000}, ("audio", "audio.opus")),
    ],
)
async def test_what_was_sent_to_us_can_be_fetched(
    bench: Bench, kind: str, content: dict[str, Any], found: tuple[str, str]
) -> None:
    (part,) = (await bench.hear(kind=kind, content=content)).parts
    assert (part.kind, part.name) == found
    message = part.key.partition("/")[0]
    bench.server.resources[(message, "img_1")] = ("x", b"bytes")
    assert await bench.channel.fetch(part) == b"bytes"
    bench.server.forget_tokens()
    assert await bench.channel.fetch(part) == b"bytes"
    bench.server.resources.clear()
    with pytest.raises(Rejected):
        await bench.channel.fetch(part)


async def test_a_key_cannot_lead_elsewhere(bench: Bench) -> None:
    calls = bench.server.requests
    for key in ("om_1/../../../x", "om_1/x?type=y", "", "om_1"):
        with pytest.raises(Rejected):
            await bench.channel.fetch(Part(kind="file", key=key))
    assert bench.server.requests == calls


def item(text: str, **more: Any) -> dict[str, Any]:
    return {"msg_type": "text", "body": {"content": json.dumps({"text": text})}, **more}


async def test_a_quote_brings_what_was_said(bench: Bench) -> None:
    bench.server.quoted["om_parent"] = [item("@_user_1 看这个", mentions=[{"key": "@_user_1", "name": "小王"}])]
    got = await bench.hear(text="这是什么?", message={"parent_id": "om_parent"})
    assert [(p.kind, p.text) for p in got.parts] == [("text", "这是什么?"), ("quote", "@小王 看这个")]
    assert got.text == "这是什么?"


async def test_a_merged_forward_brings_all_messages(bench: Bench) -> None:
    posted: dict[str, Any] = {"message_id": "om_forward"}
    bench.server.quoted["om_forward"] = [
        {"msg_type": "merge_forward", "body": {"content": "Merged and Forwarded Message"}},
        item("一"),
        {"msg_type": "image", "body": {"content": '{"image_key": "img_1"}'}},
        item("二"),
        {"msg_type": "text", "body": {"content": "["}},
    ]
    got = await bench.hear(kind="merge_forward", content="Merged and Forwarded Message", message=posted)
    assert [(p.kind, p.text) for p in got.parts] == [("quote", "一\n[image]\n二")]


async def test_a_quote_that_cannot_be_read_does_not_hold_up_the_message(bench: Bench) -> None:
    got = await bench.hear(text="好", message={"parent_id": "om_gone"})
    assert [(p.kind, p.text) for p in got.parts] == [("text", "好"), ("quote", "")]
