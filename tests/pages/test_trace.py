"""A task's page and the list of tasks, in a real browser."""

from __future__ import annotations

import sqlite3

import pytest
from playwright.async_api import expect

from tests.fakes.model_server import Call, Reply
from tests.pages.chat_site import ChatSite, answered, clean, say, start_chat_site
from tests.pages.conftest import OpenPage, StartSite, connected

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def chat_site(start_site: StartSite) -> ChatSite:
    return start_chat_site(start_site)


async def test_every_stage_has_its_time_and_opens_to_its_details(chat_site: ChatSite, open_page: OpenPage) -> None:
    call = Call(name="write_file", arguments='{"name": "a.md", "text": "好"}')
    async with chat_site.model(Reply(text="", calls=(call,)), Reply(text="写好了", first=0.2)):
        page = await chat_site.page(open_page)
        await say(page, "写个笔记")
        last = await answered(page)
        await last.locator(".under a").click()
        await connected(page)
        await expect(page.locator("h1")).to_contain_text("任务")
        await expect(page.locator(".verdict.ok")).to_contain_text("完成")
        kinds = [await row.get_attribute("data-kind") for row in await page.locator(".fall").all()]
        assert [k for k in kinds if k != "recall"] == ["received", "claimed", "model", "tool", "model", "reply"]
        model = page.locator(".fall[data-kind=model]").last
        await expect(model).to_contain_text("首字")
        await model.locator("summary").click()
        await expect(model.locator("pre").last).to_have_text("写好了")
        await expect(page.get_by_test_id("delivery")).to_contain_text("已送达")
        await clean(page)
        await page.get_by_role("link", name="对话", exact=True).last.click()
        await page.wait_for_url("**/chat/*")


async def test_it_is_live_while_the_task_runs_and_can_be_stopped(chat_site: ChatSite, open_page: OpenPage) -> None:
    async with chat_site.model(Reply(endless="说。", pause=0.05)):
        page = await chat_site.page(open_page)
        await say(page, "一直说")
        await expect(page.locator(".msg.running .text")).to_contain_text("说。")
        await page.goto(chat_site.site.base + "/activity")
        await connected(page)
        row = page.locator("table.activity tr", has_text="一直说")
        await expect(row).to_contain_text("进行中")
        await row.get_by_role("link").click()
        await connected(page)
        await expect(page.locator(".verdict")).to_contain_text("正在处理")
        await page.get_by_role("button", name="停止这个任务").click()
        await expect(page.locator(".verdict")).to_contain_text("被停止")


async def test_a_failed_task_says_why_and_how_to_mend_it(chat_site: ChatSite, open_page: OpenPage) -> None:
    refused = Reply(status=401, body={"error": {"message": "bad key", "code": "invalid_api_key"}})
    async with chat_site.model(refused):
        page = await chat_site.page(open_page)
        await say(page, "你好")
        await page.locator(".failure").get_by_role("link", name="看经过").click()
        await connected(page)
        await expect(page.locator(".verdict.bad")).to_contain_text("没有完成")
        await expect(page.locator(".verdict .muted")).not_to_be_empty()


def lose_receipt(chat_site: ChatSite, job: str) -> None:
    """Make the answer one that went to a vendor whose receipt never came."""
    with sqlite3.connect(chat_site.site.folder / "data" / "db" / "zhixing.db", timeout=10) as db:
        db.execute(
            "UPDATE conversation SET channel = 'feishu' WHERE id = (SELECT conversation_id FROM job WHERE id = ?)",
            (job,),
        )
        db.execute(
            "UPDATE delivery SET channel = 'feishu', bot = 'gone', status = 'unknown', vendor_id = '',"
            " error = 'model.timeout', detail = 'model.timeout' WHERE job_id = ?",
            (job,),
        )


async def test_an_unknown_delivery_is_explained_and_sent_again_only_on_purpose(
    chat_site: ChatSite, open_page: OpenPage
) -> None:
    async with chat_site.model():
        page = await chat_site.page(open_page)
        await say(page, "发给飞书的")
        trace = await (await answered(page)).locator(".under a").get_attribute("href")
        assert trace is not None
        lose_receipt(chat_site, trace.rsplit("/", 1)[1])
        await page.goto(chat_site.site.base + trace)
        await connected(page)
        delivery = page.get_by_test_id("delivery")
        await expect(page.locator(".verdict.warn")).to_contain_text("不知道是否送达")
        await expect(delivery.locator(".st")).to_have_text("结果未知")
        await clean(page)
        await page.get_by_test_id("resend").click()
        dialog = page.get_by_role("dialog")
        await expect(dialog).to_contain_text("两条一样的消息")
        await dialog.get_by_role("button", name="重新发送").click()
        await expect(delivery.locator(".st")).not_to_have_text("结果未知")


@pytest.mark.parametrize(("kind", "none"), [({}, "没有这个任务"), ({"lang": "en-US"}, "no such task")])
async def test_a_task_that_does_not_exist(
    chat_site: ChatSite, open_page: OpenPage, kind: dict[str, object], none: str
) -> None:
    page = await chat_site.page(open_page, "/trace/999999", **kind)
    await expect(page.get_by_role("alert")).to_contain_text(none)
