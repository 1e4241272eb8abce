"""Bad input on each field of the first run and the login: an error beside the field that says how to mend it."""

from __future__ import annotations

import pytest
from playwright.async_api import Page, expect

from tests.pages.conftest import ADMIN, PASSWORD, SETUP_CODE, OpenPage, Site, StartSite, connected, make_admin

pytestmark = [pytest.mark.browser, pytest.mark.timeout(120)]
LANGS = ("zh-CN", "en-US")


@pytest.fixture(scope="module")
def fresh_site(start_site: StartSite) -> Site:
    """Nobody has set it up, and no test of this module does."""
    return start_site()


async def said(page: Page, field: str) -> str:
    """The text beside a field, which must be marked as wrong and hold two sentences: what, and what to do."""
    box = page.locator(f"input[name={field}]")
    await expect(box).to_have_attribute("aria-invalid", "true")
    note = page.locator(f"[id='{await box.get_attribute('aria-describedby')}']")
    await expect(note).to_be_visible()
    text = await note.inner_text()
    assert len(text) > 10
    assert "error." not in text
    return text


async def send(page: Page, **values: str) -> None:
    for name, value in values.items():
        await page.fill(f"input[name={name}]", value)
    await page.click("button[type=submit]:not([name=skip])")


@pytest.mark.parametrize("lang", LANGS)
@pytest.mark.parametrize("code", ["", "WRONG-CODE", "x" * 90])
async def test_setup_code(fresh_site: Site, open_page: OpenPage, lang: str, code: str) -> None:
    page = await open_page(fresh_site, "/setup/code", lang=lang)
    await send(page, code=code)
    assert await said(page, "code")


@pytest.mark.parametrize("lang", LANGS)
async def test_first_admin(fresh_site: Site, open_page: OpenPage, lang: str) -> None:
    page = await open_page(fresh_site, "/setup/code", lang=lang)
    await send(page, code=SETUP_CODE)
    for values, field in (
        ({"name": "", "password": PASSWORD, "again": PASSWORD}, "name"),
        ({"name": "a b\tc<>", "password": PASSWORD, "again": PASSWORD}, "name"),
        ({"name": ADMIN, "password": "", "again": ""}, "password"),
        ({"name": ADMIN, "password": "short", "again": "short"}, "password"),
        ({"name": ADMIN, "password": "123456789012", "again": "123456789012"}, "password"),
        ({"name": ADMIN, "password": PASSWORD, "again": PASSWORD + "x"}, "again"),
    ):
        await send(page, **values)
        assert await said(page, field), values
        assert await page.input_value("input[name=password]") == ""


@pytest.mark.parametrize("lang", LANGS)
async def test_login(ready_site: Site, open_page: OpenPage, lang: str) -> None:
    page = await open_page(ready_site, "/login", lang=lang)
    await send(page, name="", password=PASSWORD)
    assert await said(page, "name")
    await send(page, name="somebody", password="")
    assert await said(page, "password")
    await send(page, name="nobody-here", password="not the password at all")
    assert await said(page, "password")


@pytest.mark.parametrize(
    ("type", "values", "field"),
    [
        ("feishu", {"app_id": "", "app_secret": ""}, "app_id"),
        ("feishu", {"name": "Not A Name", "app_id": "cli_1", "app_secret": "s" * 20}, "name"),
        ("dingtalk", {"client_id": "", "client_secret": "x" * 20}, "client_id"),
    ],
)
async def test_bot_step(site: Site, open_page: OpenPage, type: str, values: dict[str, str], field: str) -> None:
    page = await open_page(site, "/")
    await make_admin(page)
    await page.goto(f"{site.base}/setup?step=bot&type={type}")
    await connected(page)
    for name, value in values.items():
        await page.fill(f"[name={name}]", value)
    await page.get_by_role("button", name="测试并保存").click()
    await expect(page.locator(f".field:has([name={field}]) .error")).not_to_be_empty()
    await expect(page.locator(f"[name={field}]")).to_have_attribute("aria-invalid", "true")
