"""An act that waits for a word, in the browser: asked in the chat, decided there or in the panel, seen in the trace.

And the pages of what bots sent, push and did, with what was not delivered sent again.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import httpx
import pytest
from playwright.async_api import Page, expect

from tests.fakes.feishu_events import FeishuEvents
from tests.fakes.feishu_server import FeishuServer
from tests.fakes.model_server import Call, Reply
from tests.pages.chat_site import PROVIDERS, ChatSite, answered, clean, say
from tests.pages.conftest import OpenPage, StartSite, connected, free_port

pytestmark = [pytest.mark.browser, pytest.mark.timeout(150)]

CHANNELS = """channels:
  - name: hr-bot
    type: feishu
    mode: webhook
    app_id: cli_test
    app_secret: app-secret
    encrypt_key: encrypt-key-of-the-test
    verification_token: verification-token
    api_base: {feishu}
    access: open
    stream: "off"
    push_to: oc_ops
    events: [task.completed]
"""


@pytest.fixture
async def vendor() -> AsyncIterator[FeishuServer]:
    made = await FeishuServer().start()
    yield made
    await made.stop()


@pytest.fixture
def chat(start_site: StartSite, vendor: FeishuServer) -> ChatSite:
    port = free_port()
    site = start_site(admin=True, ZHIXING_ALLOW_LOCAL_VENDORS="1")
    site.stop()
    folder = site.folder / "data" / "config"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "llm.yaml").write_text(PROVIDERS.format(port=port))
    (folder / "channels.yaml").write_text(CHANNELS.format(feishu=vendor.base))
    site.start()
    return ChatSite(site, port)


def call(to: str, text: str) -> Reply:
    return Reply(
        text="", calls=(Call(name="send_message", arguments=json.dumps({"bot": "hr-bot", "to": to, "text": text})),)
    )


async def goto(page: Page, chat: ChatSite, path: str) -> None:
    await page.goto(chat.site.base + path)
    await connected(page)


async def test_asked_decided_seen_and_sent_again(chat: ChatSite, open_page: OpenPage, vendor: FeishuServer) -> None:
    replies = (
        call("oc_team", "下午三点开会"),
        Reply(text="发出去了。"),
        call("oc_team", "改到四点"),
        Reply(text="那就不发。"),
        Reply(text="飞书里的回答"),
    )
    async with chat.model(*replies):
        page = await chat.page(open_page)
        await say(page, "告诉大家下午三点开会")
        ask = page.locator(".ask")
        await expect(ask).to_contain_text("下午三点开会")
        await page.reload()  # the question is there for whoever comes back
        await connected(page)
        await expect(ask).to_contain_text("oc_team")
        await clean(page)
        await ask.get_by_role("button", name="同意").click()
        await expect(await answered(page)).to_contain_text("发出去了")
        await expect(ask).to_have_count(0)
        await say(page, "改到四点")
        await expect(ask).to_be_visible()

        await goto(page, chat, "/")
        await page.get_by_role("link", name="去决定").click()
        await page.wait_for_url("**/approvals")
        await connected(page)
        card = page.locator("[data-approval]")
        await expect(card).to_contain_text("改到四点")
        await clean(page)
        await card.get_by_role("button", name="拒绝").click()
        await expect(page.locator("[data-approval]")).to_have_count(0)
        await expect(page.get_by_text("已拒绝").first).to_be_visible()
        await goto(page, chat, "/trace/1")
        await expect(page.get_by_text("admin 同意了")).to_be_visible()

        # what the vendor refuses stands in the log with its reason, and can be sent again
        vendor.fail("code", code=230002)
        posted = FeishuEvents().message("你好")
        async with httpx.AsyncClient(trust_env=False) as client:
            path = f"{chat.site.base}/webhooks/feishu/hr-bot"
            assert (await client.post(path, content=posted.body, headers=posted.headers)).status_code == 200
        await goto(page, chat, "/bots/log?state=failed")
        line = page.locator("[data-way=out]", has=page.get_by_test_id("resend"))
        for _ in range(40):
            if await line.count():
                break
            await page.wait_for_timeout(250)
            await goto(page, chat, "/bots/log?state=failed")
        await expect(line).to_contain_text("hr-bot")
        await clean(page)
        before = len(vendor.messages)
        await line.get_by_test_id("resend").click()
        await expect(line).to_have_count(0)
        for _ in range(40):
            if len(vendor.messages) > before:
                break
            await page.wait_for_timeout(100)
        assert len(vendor.messages) > before
        assert any(m.to == "oc_ops" for m in vendor.messages)


async def test_a_tools_policy_and_the_words_of_a_push_are_changed(chat: ChatSite, open_page: OpenPage) -> None:
    page = await chat.page(open_page, "/skills")
    row = page.locator("[data-tool=send_message]")
    await expect(row).to_contain_text("提出的人")
    await clean(page)
    await row.get_by_role("button").click()
    await page.locator(".dialog [name=approval]").select_option("never")
    await page.locator(".dialog [type=submit]").click()
    await expect(row).to_contain_text("由管理员设定")

    await goto(page, chat, "/bots/events")
    await expect(page.locator("[data-event='task.completed']")).to_contain_text("hr-bot")
    await clean(page)
    await page.locator("[data-event='task.completed'] a").click()
    await connected(page)
    form = page.locator("form.botform").first
    await form.locator("[name=text]").fill("好了：{{task.id}} {{nothing}}")
    await form.get_by_role("button", name="试一试").click()
    await expect(form.locator("pre")).to_have_text("好了：42")
    await expect(form.get_by_text("nothing")).to_be_visible()
    await form.locator("[name=text]").fill("好了：{{task.id}}")
    await form.get_by_role("button", name="保存").click()
    await expect(page.get_by_text("已保存")).to_be_visible()
    await goto(page, chat, "/bots/events")
    await expect(page.locator("[data-event='task.completed']")).to_contain_text("改过措辞")
