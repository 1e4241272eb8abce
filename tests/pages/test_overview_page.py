"""The overview: one sentence of state, what needs a person, figures, recent tasks."""

from __future__ import annotations

import pytest
from playwright.async_api import expect

from tests.pages.conftest import OpenPage, Site, StartSite, connected, sign_in

pytestmark = [pytest.mark.browser, pytest.mark.timeout(120)]


@pytest.fixture(scope="module")
def fresh(start_site: StartSite) -> Site:
    return start_site(admin=True)


async def test_it_says_what_is_missing_and_leads_there(fresh: Site, open_page: OpenPage) -> None:
    page = await open_page(fresh, "/login")
    await sign_in(page, fresh)
    await page.goto(fresh.base + "/")
    await connected(page)
    await expect(page.locator(".verdict.bad b")).to_contain_text("1 件事需要你处理")
    need = page.locator(".line", has_text="还没有模型")
    await need.get_by_role("link", name="选一个模型").click()
    await page.wait_for_url("**/setup?step=model")
    await connected(page)
    await page.get_by_role("button", name="用演示模型").click()
    await page.wait_for_url("**/setup?step=bot")
    await page.goto(fresh.base + "/chat")
    await connected(page)
    await page.locator("textarea").first.fill("你好")
    await page.locator("textarea").first.press("Enter")
    await expect(page.locator(".msg.answer[aria-busy=false]")).to_have_count(1, timeout=20_000)
    await page.goto(fresh.base + "/")
    await connected(page)
    await expect(page.locator(".verdict.warn")).to_be_visible()
    row = page.locator("table.t tbody tr").first
    await expect(row).to_contain_text("你好")
    await row.get_by_role("link").click()
    await page.wait_for_url("**/trace/*")


async def test_a_member_is_led_to_the_chat(fresh: Site, open_page: OpenPage) -> None:
    page = await open_page(fresh, "/login")
    await sign_in(page, fresh)
    await page.goto(fresh.base + "/people")
    await connected(page)
    await page.get_by_role("button", name="添加成员").click()
    form = page.locator(".dialog")
    await form.locator("[name=name]").fill("reader")
    await form.locator("[name=password]").fill("some quiet river 41 stones")
    await form.locator("[type=submit]").click()
    await expect(page.get_by_role("cell", name="reader", exact=True)).to_be_visible()
    other = await open_page(fresh, "/login")
    await sign_in(other, fresh, "reader", "some quiet river 41 stones")
    await other.goto(fresh.base + "/")
    await other.wait_for_url("**/chat*")
