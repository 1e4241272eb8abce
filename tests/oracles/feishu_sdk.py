"""Feishu's official SDK against our fake vendor and our own messages: what it accepts and produces is what we speak.

Not part of the suite: the SDK needs an environment of its own, beside the tests' packages.

    pip install lark-oapi==1.7.5
    python -m tests.oracles.feishu_sdk
"""

from __future__ import annotations

import asyncio
import json
import os
import threading
from typing import Any

import lark_oapi as lark
from lark_oapi.api.im.v1 import (
    CreateMessageReactionRequest,
    CreateMessageReactionRequestBody,
    CreateMessageRequest,
    CreateMessageRequestBody,
    Emoji,
    ReplyMessageRequest,
    ReplyMessageRequestBody,
)
from lark_oapi.core.model import RawRequest

from channels.feishu.render import render
from storage.envelope import Button, Outgoing
from tests.fakes.feishu_events import FeishuEvents
from tests.fakes.feishu_server import FeishuServer

APP, SECRET = "cli_test", "app-secret"
CARD = Outgoing(
    kind="notice",
    title="待审批",
    text="| a | b |\n|--|--|\n| 1 | 2 |",
    buttons=(Button(label="同意", value="approval:1:yes"), Button(label="看", url="https://example.com")),
)


def callbacks(events: FeishuEvents) -> None:
    """The SDK's dispatcher verifies, decrypts and parses the callbacks that our tests send, and answers a challenge."""
    got: list[Any] = []
    pressed: list[Any] = []

    def press(event: Any) -> Any:
        from lark_oapi.event.callback.model.p2_card_action_trigger import P2CardActionTriggerResponse

        pressed.append(event)
        return P2CardActionTriggerResponse({"toast": {"type": "info", "content": "ok"}})

    handler = (
        lark.EventDispatcherHandler.builder(events.encrypt_key, events.verification_token)
        .register_p2_im_message_receive_v1(got.append)
        .register_p2_card_action_trigger(press)
        .build()
    )

    def ask(posted: Any) -> Any:
        request = RawRequest()
        request.uri, request.body, request.headers = "/", posted.body, posted.headers
        return handler.do(request)

    assert ask(events.message("你好", person="ou_1")).status_code == 200
    (event,) = got
    assert json.loads(event.event.message.content) == {"text": "你好"}
    assert event.event.sender.sender_id.open_id == "ou_1"
    body = {
        "operator": {"open_id": "ou_1"},
        "action": {"tag": "button", "value": {"v": "approval:1:yes"}},
        "context": {"open_message_id": "om_1", "open_chat_id": "oc_1"},
    }
    assert ask(events.posted(events.envelope("card.action.trigger", body))).status_code == 200
    assert pressed[0].event.action.value == {"v": "approval:1:yes"}
    assert json.loads(ask(events.challenge("c-1")).content) == {"challenge": "c-1"}
    forged = events.message("x")
    forged.headers["X-Lark-Signature"] = "0" * 64
    assert ask(forged).status_code != 200


def typed(fake: FeishuServer) -> None:
    """The SDK's client sends and replies with the very contents that our renderer makes; the fake takes them."""
    client = lark.Client.builder().app_id(APP).app_secret(SECRET).domain(fake.base).build()
    sent = []
    for n, out in enumerate((Outgoing(kind="answer", text="你好"), Outgoing(kind="answer", text="**粗** `x`"), CARD)):
        body = render(out)
        made = (
            CreateMessageRequestBody.builder()
            .receive_id("oc_1")
            .msg_type(body.kind)
            .content(body.content)
            .uuid(f"k{n}")
            .build()
        )
        request = CreateMessageRequest.builder().receive_id_type("chat_id").request_body(made).build()
        answer = client.im.v1.message.create(request)
        assert answer.success(), (answer.code, answer.msg)
        sent.append(answer.data.message_id)
        assert client.im.v1.message.create(request).data.message_id == answer.data.message_id  # same uuid, same message
    reply = ReplyMessageRequestBody.builder().msg_type("text").content(json.dumps({"text": "re"})).uuid("r1").build()
    answer = client.im.v1.message.reply(ReplyMessageRequest.builder().message_id(sent[0]).request_body(reply).build())
    assert answer.success(), (answer.code, answer.msg)
    emoji = Emoji.builder().emoji_type("Typing").build()
    mark = CreateMessageReactionRequestBody.builder().reaction_type(emoji).build()
    request = CreateMessageReactionRequest.builder().message_id(sent[0]).request_body(mark).build()
    assert client.im.v1.message_reaction.create(request).success()
    assert len(fake.messages) == 4


async def line(fake: FeishuServer, events: FeishuEvents) -> None:
    """The SDK's long connection takes our fake's frames and acknowledges them."""
    got: list[Any] = []
    handler = lark.EventDispatcherHandler.builder("", "").register_p2_im_message_receive_v1(got.append).build()

    def run() -> None:
        import lark_oapi.ws.client as module

        module.loop = asyncio.new_event_loop()
        asyncio.set_event_loop(module.loop)
        lark.ws.Client(APP, SECRET, event_handler=handler, domain=fake.base).start()

    threading.Thread(target=run, daemon=True).start()
    await fake.until(lambda: fake.gateway.opened >= 1, 20)
    acked = await fake.gateway.acked(await fake.gateway.push(events.raw_message("经长连接", person="ou_2")))
    assert acked["code"] == 200, acked
    assert json.loads(got[0].event.message.content) == {"text": "经长连接"}


async def main() -> None:
    events, fake = FeishuEvents(), await FeishuServer().start()
    callbacks(events)
    await asyncio.to_thread(typed, fake)
    await line(fake, events)
    print("the official SDK, the fake and our messages agree", flush=True)
    os._exit(0)  # the SDK's own thread reconnects for ever


if __name__ == "__main__":
    asyncio.run(main())
