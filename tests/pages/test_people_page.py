"""The People page: add, change, shut out; who may not, does not see it."""

from __future__ import annotations

import pytest
from playwright.async_api import Page, expect

from tests.pages.conftest import OpenPage, Site, connected, sign_in

pytestmark = [pytest.mark.browser, pytest.mark.timeout(120)]
SECRET = "some quiet river 41 stones"


async def add(page: Page, site: Site, name: str, role: str) -> None:
    await page.goto(site.base + "/people")
    await connected(page)
    await page.get_by_role("button", name="添加成员").click()
    form = page.locator(".dialog")
    await form.locator("[name=name]").fill(name)
    await form.locator("[name=role]").select_option(role)
    await form.locator("[name=password]").fill(SECRET)
    await form.locator("[type=submit]").click()
    await expect(page.get_by_role("cell", name=name, exact=True)).to_be_visible()


async def test_fields_say_what_is_wrong(signed_in_page: Page, ready_site: Site) -> None:
    page = signed_in_page
    await page.goto(ready_site.base + "/people")
    await connected(page)
    await page.get_by_role("button", name="添加成员").click()
    form = page.locator(".dialog")
    await form.locator("[name=password]").fill("short")
    await form.locator("[type=submit]").click()
    await expect(form.locator(".error:not(:empty)")).to_have_count(1)
    await form.locator("[name=name]").fill("somebody")
    await form.locator("[type=submit]").click()
    await expect(form.locator(".field:has([name=password]) .error")).to_contain_text("12")


async def test_a_member_sees_only_what_is_theirs(signed_in_page: Page, ready_site: Site, open_page: OpenPage) -> None:
    await add(signed_in_page, ready_site, "member1", "member")
    page = await open_page(ready_site, "/login")
    await sign_in(page, ready_site, "member1", SECRET)
    await page.goto(ready_site.base + "/people")
    await connected(page)
    await expect(page.locator(".state.failed")).to_contain_text("people.view")
    assert await page.locator("nav.rail a.nav[href='/people']").count() == 0
    assert await page.get_by_role("button", name="添加成员").count() == 0


async def test_shutting_out_ends_the_persons_pages(signed_in_page: Page, ready_site: Site, open_page: OpenPage) -> None:
    await add(signed_in_page, ready_site, "leaver", "operator")
    other = await open_page(ready_site, "/login")
    await sign_in(other, ready_site, "leaver", SECRET)
    await connected(other)
    page = signed_in_page
    await page.get_by_role("button", name="更改: leaver").click()
    await page.locator(".dialog").get_by_role("button", name="停用账号").click()
    await page.locator(".dialog").get_by_role("button", name="停用账号").last.click()
    await expect(page.get_by_role("row", name="leaver")).to_contain_text("已停用")
    await other.wait_for_url("**/login*", timeout=5000)
