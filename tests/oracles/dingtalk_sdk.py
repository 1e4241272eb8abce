"""DingTalk's official SDKs against our fake vendor: what they accept and produce is what the fake must speak.

Not part of the suite: the SDKs need an environment of their own.

    pip install dingtalk-stream==0.24.3 alibabacloud-dingtalk==2.2.65 aiohttp
    python -m tests.oracles.dingtalk_sdk
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import threading
from typing import Any

from tests.fakes.dingtalk_gateway import BOT, CARD
from tests.fakes.dingtalk_server import FakeDingTalk

CLICK = {
    "outTrackId": "t",
    "userId": "u",
    "userIdType": 1,
    "corpId": "c",
    "spaceType": "IM_GROUP",
    "spaceId": "cid",
    "type": "actionCallback",
    "extension": "{}",
    "content": json.dumps({"cardPrivateData": {"actionIds": ["a"], "params": {"value": "v"}}}),
}


async def stream(fake: FakeDingTalk) -> None:
    """The official Stream client connects, parses our frames, acknowledges them, and answers by session webhook."""
    import dingtalk_stream as sdk

    got: list[Any] = []

    class Bot(sdk.ChatbotHandler):  # type: ignore[misc]
        async def process(self, callback: Any) -> tuple[int, str]:
            got.append(sdk.ChatbotMessage.from_dict(callback.data))
            return sdk.AckMessage.STATUS_OK, "OK"

    class Card(sdk.CallbackHandler):  # type: ignore[misc]
        async def process(self, callback: Any) -> tuple[int, dict[str, Any]]:
            got.append(sdk.CardCallbackMessage.from_dict(callback.data))
            return sdk.AckMessage.STATUS_OK, {}

    client = sdk.DingTalkStreamClient(sdk.Credential(fake.client_id, fake.client_secret))
    bot = Bot()
    client.register_callback_handler(BOT, bot)
    client.register_callback_handler(CARD, Card())
    threading.Thread(target=lambda: asyncio.run(client.start()), daemon=True).start()
    await fake.gateway.until(lambda: fake.gateway.opened >= 1, 15)
    await fake.gateway.acked(await fake.gateway.push(BOT, fake.message("你好")), 10)
    rich = [{"text": "看"}, {"type": "picture", "downloadCode": "c1"}]
    message = fake.message(msgtype="richText", text=..., content={"richText": rich})
    await fake.gateway.acked(await fake.gateway.push(BOT, message), 10)
    ping = await fake.gateway.acked(await fake.gateway.push("ping", {"opaque": "x"}, "SYSTEM"), 10)
    await fake.gateway.acked(await fake.gateway.push(CARD, CLICK), 10)
    assert (got[0].text.content, got[0].sender_staff_id, got[0].robot_code) == ("你好", "staff1", fake.robot_code)
    assert (got[1].get_text_list(), got[1].get_image_list()) == (["看"], ["c1"])
    assert json.loads(ping["data"]) == {"opaque": "x"}
    assert got[2].card_instance_id == "t"
    bot.dingtalk_client, bot.logger = client, logging.getLogger("oracle")
    assert (await asyncio.to_thread(bot.reply_text, "hello", got[0]))["errcode"] == 0
    assert [m.way for m in fake.messages] == ["session"]


def typed(fake: FakeDingTalk) -> None:
    """The official typed client sends direct and group messages and streams a card."""
    from alibabacloud_dingtalk.card_1_0 import models as card
    from alibabacloud_dingtalk.card_1_0.client import Client as Cards
    from alibabacloud_dingtalk.oauth2_1_0 import models as oauth
    from alibabacloud_dingtalk.oauth2_1_0.client import Client as OAuth
    from alibabacloud_dingtalk.robot_1_0 import models as robot
    from alibabacloud_dingtalk.robot_1_0.client import Client as Robots
    from alibabacloud_tea_openapi.models import Config
    from alibabacloud_tea_util.models import RuntimeOptions

    def config() -> Any:
        return Config(protocol="http", endpoint=fake.url.removeprefix("http://"))

    app = oauth.GetAccessTokenRequest(app_key=fake.client_id, app_secret=fake.client_secret)
    token = OAuth(config()).get_access_token(app).body.access_token
    markdown, text = json.dumps({"title": "t", "text": "x"}), json.dumps({"content": "x"})
    direct = Robots(config()).batch_send_otowith_options(
        robot.BatchSendOTORequest(
            robot_code=fake.robot_code, user_ids=["staff1"], msg_key="sampleMarkdown", msg_param=markdown
        ),
        robot.BatchSendOTOHeaders(x_acs_dingtalk_access_token=token),
        RuntimeOptions(),
    )
    group = Robots(config()).org_group_send_with_options(
        robot.OrgGroupSendRequest(
            robot_code=fake.robot_code, open_conversation_id="cidG==", msg_key="sampleText", msg_param=text
        ),
        robot.OrgGroupSendHeaders(x_acs_dingtalk_access_token=token),
        RuntimeOptions(),
    )
    model = card.CreateAndDeliverRequestImGroupOpenDeliverModel(robot_code=fake.robot_code)
    params = card.CreateAndDeliverRequestCardData(card_param_map={"content": "", "flowStatus": "1"})
    Cards(config()).create_and_deliver_with_options(
        card.CreateAndDeliverRequest(
            card_template_id="tpl.schema",
            out_track_id="o1",
            callback_type="STREAM",
            card_data=params,
            open_space_id="dtv1.card//IM_GROUP.cidG==",
            im_group_open_deliver_model=model,
            user_id_type=1,
        ),
        card.CreateAndDeliverHeaders(x_acs_dingtalk_access_token=token),
        RuntimeOptions(),
    )
    Cards(config()).streaming_update_with_options(
        card.StreamingUpdateRequest(
            out_track_id="o1", guid="g", key="content", content="hi", is_full=True, is_finalize=True, is_error=False
        ),
        card.StreamingUpdateHeaders(x_acs_dingtalk_access_token=token),
        RuntimeOptions(),
    )
    assert direct.body.process_query_key
    assert group.body.process_query_key
    assert [(m.way, m.to) for m in fake.messages[-2:]] == [("direct", "staff1"), ("group", "cidG==")]
    assert (fake.cards.all["o1"].content, fake.cards.all["o1"].finalized) == ("hi", True)


async def main() -> None:
    fake = FakeDingTalk()
    await fake.start()
    os.environ["DINGTALK_OPENAPI_ENDPOINT"] = fake.url
    await stream(fake)
    await asyncio.to_thread(typed, fake)
    print("the official SDKs and the fake agree")
    os._exit(0)  # the SDK's own thread reconnects for ever


if __name__ == "__main__":
    asyncio.run(main())
