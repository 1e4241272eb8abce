"""The account page: password with errors at their fields, one-time codes with recovery, sessions, language, theme."""

from __future__ import annotations

import pyotp
import pytest
from playwright.async_api import Browser, Locator, Page, expect

from tests.pages.conftest import PASSWORD, OpenPage, Site, StartSite, connected, sign_in

pytestmark = [pytest.mark.browser, pytest.mark.timeout(120)]
NEW = "another horse battery 7 staple"


def error(page: Page, field: str) -> Locator:
    return page.locator(f".field:has([name={field}]) .error")


@pytest.fixture
async def account(signed_in_page: Page, ready_site: Site) -> Page:
    await signed_in_page.goto(ready_site.base + "/account")
    await connected(signed_in_page)
    return signed_in_page


@pytest.mark.parametrize(
    ("current", "password", "again", "field"),
    [
        ("", NEW, NEW, "current"),
        ("wrong-password-entirely", NEW, NEW, "current"),
        (PASSWORD, "short", "short", "password"),
        (PASSWORD, NEW, NEW + "x", "again"),
    ],
)
async def test_password_errors_stand_at_their_field(
    account: Page, current: str, password: str, again: str, field: str
) -> None:
    page = account
    for name, text in (("current", current), ("password", password), ("again", again)):
        await page.fill(f"[name={name}]", text)
    await page.get_by_role("button", name="更换密码").click()
    await expect(error(page, field)).not_to_be_empty()
    await expect(page.locator(f"[name={field}]")).to_be_focused()
    for other in {"current", "password", "again"} - {field}:
        await expect(error(page, other)).to_be_empty()


async def test_codes_are_set_up_and_asked_for(start_site: StartSite, open_page: OpenPage) -> None:
    site = start_site(admin=True)
    page = await open_page(site, "/login")
    await sign_in(page, site)
    await page.goto(site.base + "/account")
    await connected(page)
    await page.get_by_role("button", name="开启双因素认证").click()
    await expect(page.locator(".qr svg")).to_be_visible()
    secret = (await page.locator(".copyline .mono").inner_text()).replace(" ", "")
    await page.fill("[name=code]", "000000")
    await page.get_by_role("button", name="确认并开启").click()
    await expect(error(page, "code")).not_to_be_empty()
    await page.fill("[name=code]", pyotp.TOTP(secret).now())
    await page.get_by_role("button", name="确认并开启").click()
    await expect(page.locator(".recovery li")).to_have_count(10)
    codes = await page.locator(".recovery li").all_inner_texts()
    await page.get_by_role("button", name="我已存好").click()
    await expect(page.locator(".st.ok", has_text="已开启")).to_be_visible()
    assert codes[0] not in await page.content()
    # a recovery code lets in where the password alone does not
    other = await open_page(site, "/login")
    await other.fill("input[name=name]", "admin")
    await other.fill("input[name=password]", PASSWORD)
    await other.click("button[type=submit]")
    await other.fill("input[name=code]", codes[0])
    await other.click("button[type=submit]")
    await other.wait_for_url(lambda url: "/login" not in url)


async def test_a_revoked_session_stops_its_open_page(account: Page, ready_site: Site, open_page: OpenPage) -> None:
    other = await open_page(ready_site, "/login")
    await sign_in(other, ready_site)
    await connected(other)
    await account.reload()
    await connected(account)
    await account.get_by_role("button", name="退出其他全部登录").click()
    await expect(account.locator(".q-notification")).to_be_visible()
    await other.wait_for_url("**/login*", timeout=5000)


async def test_a_page_whose_session_ended_while_it_was_cut_off_leads_to_the_sign_in(
    ready_site: Site, browser: Browser
) -> None:
    page = await (await browser.new_context()).new_page()  # unwatched: the refused socket is an error on its console
    await sign_in(page, ready_site)
    await page.goto(f"{ready_site.base}/account")
    await connected(page)
    await page.context.clear_cookies()
    await page.evaluate("window.socket.io.engine.close()")
    await page.wait_for_url("**/login?next=%2Faccount", timeout=15_000)


async def test_theme_takes_effect_at_once_and_stays(account: Page) -> None:
    page = account
    background = "getComputedStyle(document.documentElement).backgroundColor"
    await page.get_by_role("button", name="深色").click()
    await page.wait_for_function(f"{background} === 'rgb(16, 20, 22)'")
    await page.reload()
    await connected(page)
    assert await page.evaluate(background) == "rgb(16, 20, 22)"
    await page.get_by_role("button", name="跟随系统").click()
    await page.wait_for_function(f"{background} === 'rgb(246, 247, 248)'")
