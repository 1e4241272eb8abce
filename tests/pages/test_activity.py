"""The list of tasks in a real browser: live, filtered, stopped from the list."""

from __future__ import annotations

import pytest
from playwright.async_api import expect

from tests.fakes.model_server import Reply
from tests.pages.chat_site import ChatSite, answered, clean, say, start_chat_site
from tests.pages.conftest import OpenPage, StartSite, connected

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def chat_site(start_site: StartSite) -> ChatSite:
    return start_chat_site(start_site)


async def test_an_empty_list_says_what_will_be_here(chat_site: ChatSite, open_page: OpenPage) -> None:
    page = await chat_site.page(open_page, "/activity?status=refused")
    await expect(page.locator(".state")).to_contain_text("没有符合条件的任务")
    await clean(page)
    await page.get_by_role("button", name="清除筛选").click()
    await expect(page).to_have_url(chat_site.site.base + "/activity")


async def test_tasks_appear_by_themselves_and_can_be_stopped(chat_site: ChatSite, open_page: OpenPage) -> None:
    async with chat_site.model(Reply(endless="说。", pause=0.05)):
        page = await chat_site.page(open_page)
        watching = await open_page(chat_site.site, "/activity", context=page.context)
        await connected(watching)
        await say(page, "一直说下去")
        row = watching.locator("table.activity tr", has_text="一直说下去")
        await expect(row).to_contain_text("进行中")
        await row.get_by_role("button", name="停止任务：一直说下去").click()
        await expect(row).to_contain_text("已停止")
        await expect(await answered(page)).to_contain_text("已停止")


async def test_filters_stand_in_the_address(chat_site: ChatSite, open_page: OpenPage) -> None:
    async with chat_site.model():
        page = await chat_site.page(open_page)
        await say(page, "找得到的一条")
        await answered(page)
        await page.goto(chat_site.site.base + "/activity")
        await connected(page)
        await page.get_by_test_id("activity-status").select_option("done")
        await page.locator("input[type=search]").fill("找得到")
        await expect(page.locator("table.activity tbody tr")).to_have_count(1)
        await expect(page).to_have_url(f"{chat_site.site.base}/activity?status=done&q=%E6%89%BE%E5%BE%97%E5%88%B0")
        await page.reload()
        await connected(page)
        await expect(page.locator("table.activity tbody tr")).to_have_count(1)
        await expect(page.get_by_test_id("activity-status")).to_have_value("done")
        await clean(page)


async def test_a_phone_shows_it_without_sideways_scrolling(chat_site: ChatSite, open_page: OpenPage) -> None:
    page = await chat_site.page(open_page, "/activity", phone=True)
    await expect(page.locator("h1")).to_have_text("运行记录")
    assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
