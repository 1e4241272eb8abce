"""The frame of every page in a real browser: rail, keyboard, phone, themes, policy."""

from __future__ import annotations

import httpx
import pytest
from playwright.async_api import Browser, BrowserContext, Page, expect

from tests.pages.conftest import OpenPage, Site, connected, sign_in

pytestmark = pytest.mark.browser


async def test_keyboard_leads_to_pages(signed_in_page: Page) -> None:
    page = signed_in_page
    await page.keyboard.press("g")
    await page.keyboard.press("m")
    await page.wait_for_url("**/models")
    await connected(page)
    await page.keyboard.press("/")
    await expect(page.locator("dialog.palette")).to_be_visible()
    await page.keyboard.type("机器")
    await page.keyboard.press("Enter")
    await page.wait_for_url("**/bots")


async def test_keys_do_nothing_while_one_types(signed_in_page: Page, ready_site: Site) -> None:
    page = signed_in_page
    await page.goto(ready_site.base + "/account")
    await connected(page)
    field = page.locator("input[type=password]").first
    await field.press_sequentially("g/m")
    assert await field.input_value() == "g/m"
    assert page.url.endswith("/account")


async def test_skip_link_is_first_and_leads_to_the_content(signed_in_page: Page) -> None:
    page = signed_in_page
    await page.keyboard.press("Tab")
    skip = page.locator("a.skip")
    await expect(skip).to_be_focused()
    await expect(skip).to_be_in_viewport()
    target = await skip.get_attribute("href")
    assert target is not None
    await expect(page.locator(target).locator("h1")).to_be_visible()


async def test_phone_has_a_drawer(ready_site: Site, open_page: OpenPage) -> None:
    page = await open_page(ready_site, "/login", phone=True)
    await sign_in(page, ready_site)
    await connected(page)
    rail = page.locator("nav.rail")
    await expect(rail).not_to_be_in_viewport()
    button = page.locator("[data-drawer]")
    await button.click()
    await expect(rail).to_be_in_viewport()
    await expect(button).to_have_attribute("aria-expanded", "true")
    await page.keyboard.press("Escape")
    await expect(rail).not_to_be_in_viewport()
    await expect(button).to_be_focused()
    assert await page.evaluate("document.documentElement.scrollWidth") <= 390


@pytest.mark.parametrize("dark", [False, True])
async def test_first_paint_has_the_colour_of_the_system(ready_site: Site, open_page: OpenPage, dark: bool) -> None:
    page = await open_page(ready_site, "/login", dark=dark)
    await sign_in(page, ready_site)
    await connected(page)
    # the document without its scripts: what is painted before Vue has built the page
    await page.route("**/*.js*", lambda route: route.abort())
    await page.goto(ready_site.base + "/")
    colour = await page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
    assert colour == ("rgb(16, 20, 22)" if dark else "rgb(246, 247, 248)")


async def test_language_of_the_document(signed_in_page: Page) -> None:
    assert await signed_in_page.get_attribute("html", "lang") == "zh-CN"
    assert "知行" in await signed_in_page.title()


@pytest.mark.parametrize("lang", ["zh-CN", "en-US"])
async def test_no_fonts_are_loaded_and_little_else(ready_site: Site, open_page: OpenPage, lang: str) -> None:
    page = await open_page(ready_site, "/login", lang=lang)
    await sign_in(page, ready_site)
    asked: list[tuple[str, str]] = []
    page.on("request", lambda request: asked.append((request.resource_type, request.url)))
    for path in ("/", "/models", "/account"):
        await page.goto(ready_site.base + path)
        await connected(page)
    assert [url for kind, url in asked if kind == "font"] == []
    assert len(asked) < 60


async def _cookies(context: BrowserContext) -> dict[str, str]:
    return {str(c["name"]): str(c["value"]) for c in await context.cookies()}


async def test_pages_carry_policy_and_fresh_nonce(signed_in_page: Page, ready_site: Site) -> None:
    jar = await _cookies(signed_in_page.context)
    async with httpx.AsyncClient(base_url=ready_site.base, cookies=jar, trust_env=False) as client:
        first, second = await client.get("/"), await client.get("/")
    policies = [answer.headers["content-security-policy"] for answer in (first, second)]
    assert policies[0] != policies[1]
    for answer, policy in zip((first, second), policies, strict=True):
        nonce = policy.split("'nonce-")[1].split("'")[0]
        assert "default-src 'self'" in policy
        assert "frame-ancestors 'none'" in policy
        assert answer.text.count("<script") == answer.text.count(f'<script nonce="{nonce}"')
        assert answer.headers["x-content-type-options"] == "nosniff"


async def test_injected_script_does_not_run(ready_site: Site, browser: Browser) -> None:
    page = await (await browser.new_context()).new_page()  # not watched: the policy's complaints are what is wanted
    await sign_in(page, ready_site)
    await connected(page)
    ran = await page.evaluate(
        """async () => { window.hit = 0;
          document.body.insertAdjacentHTML('beforeend', '<img src="/none.png" onerror="window.hit=1">');
          const s = document.createElement('script'); s.textContent = 'window.hit=2'; document.body.append(s);
          await new Promise((done) => { const i = new Image(); i.onerror = done; i.src = '/none2.png'; });
          return window.hit; }"""
    )
    assert ran == 0


async def test_assets_are_cached_for_ever_and_small(ready_site: Site) -> None:
    async with httpx.AsyncClient(base_url=ready_site.base, trust_env=False) as client:
        page = await client.get("/login")
        answer = await client.get("/assets/panel.css", headers={"accept-encoding": "gzip"})
        again = await client.get("/assets/panel.css", headers={"if-none-match": answer.headers["etag"]})
        missing = await client.get("/assets/../app.py")
        write = await client.post("/assets/panel.css")
    assert page.status_code == 200
    assert answer.headers["content-encoding"] == "gzip"
    assert int(answer.headers["content-length"]) < 12_000
    assert again.status_code == 304
    assert missing.status_code == 404
    assert write.status_code in (404, 405)
