"""The Models page: add with a real test, errors at their fields, order, default, remove."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from playwright.async_api import Locator, Page, expect

from tests.fakes.model_server import ModelServer, Reply
from tests.pages.conftest import Site, connected

pytestmark = [pytest.mark.browser, pytest.mark.timeout(120)]


@pytest.fixture
async def server() -> AsyncIterator[ModelServer]:
    async with ModelServer() as made:
        yield made


def error(page: Page, field: str) -> Locator:
    return page.locator(f".field:has([name={field}]) .error")


async def open_form(page: Page, site: Site) -> None:
    await page.goto(site.base + "/models?add=custom")
    await connected(page)


async def save(page: Page) -> None:
    await page.get_by_role("button", name="测试并保存").click()


async def add(page: Page, site: Site, server: ModelServer, name: str) -> None:
    await open_form(page, site)
    await page.locator("details.more > summary").click()
    await page.fill("[name=name]", name)
    await page.fill("[name=endpoint]", server.url)
    await page.fill("[name=models]", "m1")
    server.enqueue(Reply(text="ok"))
    await save(page)
    await page.wait_for_url("**/models")
    await connected(page)


@pytest.mark.parametrize(
    ("status", "field", "words"),
    [(401, "keys", "密钥"), (404, "models", "模型")],
)
async def test_a_refusal_stands_at_the_field_that_mends_it(
    signed_in_page: Page, ready_site: Site, server: ModelServer, status: int, field: str, words: str
) -> None:
    page = signed_in_page
    await open_form(page, ready_site)
    await page.fill("[name=endpoint]", server.url)
    await page.fill("[name=keys]", "sk-wrong")
    await page.fill("[name=models]", "m1")
    body = '{"error":{"message":"The model `m1` does not exist","code":"model_not_found"}}' if status == 404 else "{}"
    server.enqueue(Reply(status=status, body=body))
    await save(page)
    await expect(error(page, field)).to_contain_text(words)
    await expect(page.locator(f"[name={field}]")).to_be_focused()
    await expect(page.get_by_role("button", name="没通过也先保存")).to_be_visible()


@pytest.mark.parametrize(
    "address", ["", "not an address", "ftp://h/v1", "https://user:pw@h/v1", "https://h/v1#x", "http://127.0.0.1:9/v1"]
)
async def test_a_bad_address_is_told_at_its_field(signed_in_page: Page, ready_site: Site, address: str) -> None:
    page = signed_in_page
    await open_form(page, ready_site)
    await page.fill("[name=endpoint]", address)
    await page.fill("[name=models]", "m1")
    await save(page)
    await expect(error(page, "endpoint")).not_to_be_empty(timeout=15_000)
    await expect(page.locator("[name=endpoint]")).to_have_attribute("aria-invalid", "true")
    assert await page.input_value("[name=endpoint]") == address


@pytest.mark.parametrize(
    ("field", "text"),
    [("temperature", "warm"), ("temperature", "3"), ("max_tokens", "-1"), ("timeout", "soon"), ("price", "m1 = free")],
)
async def test_numbers_are_checked_at_their_field(
    signed_in_page: Page, ready_site: Site, server: ModelServer, field: str, text: str
) -> None:
    page = signed_in_page
    await open_form(page, ready_site)
    await page.fill("[name=endpoint]", server.url)
    await page.fill("[name=models]", "m1")
    await page.locator("details.more > summary").click()
    await page.fill(f"[name={field}]", text)
    await save(page)
    await expect(error(page, field)).not_to_be_empty()


async def test_order_default_test_and_removal(signed_in_page: Page, ready_site: Site, server: ModelServer) -> None:
    page = signed_in_page
    await add(page, ready_site, server, "first")
    await add(page, ready_site, server, "second")
    rows = page.locator(".model-row .strong")
    await expect(rows).to_have_text(["first", "second"])
    await page.get_by_role("button", name="上移: second").click()
    await expect(rows).to_have_text(["second", "first"])
    await page.select_option("[name=ref]", "first/m1")
    await page.get_by_role("button", name="设为默认").click()
    await expect(page.locator(".q-notification")).to_contain_text("first/m1")
    server.enqueue(Reply(text="I am here"))
    await page.locator(".model-row").first.get_by_role("button", name="测试").click()
    await expect(page.locator(".model-row").first.locator(".answer-said")).to_contain_text("I am here")
    await page.get_by_role("button", name="删除: second").click()
    await page.locator(".dialog [name=name]").fill("wrong")
    await page.locator(".dialog [type=submit]").click()
    await expect(page.locator(".dialog .error")).to_contain_text("second")
    await page.locator(".dialog [name=name]").fill("second")
    await page.locator(".dialog [type=submit]").click()
    await expect(rows).to_have_text(["first"])


async def test_a_key_is_written_and_never_shown(signed_in_page: Page, ready_site: Site, server: ModelServer) -> None:
    page = signed_in_page
    await open_form(page, ready_site)
    await page.locator("details.more > summary").click()
    await page.fill("[name=name]", "keyed")
    await page.fill("[name=endpoint]", server.url)
    await page.fill("[name=models]", "m1")
    await page.fill("[name=keys]", "sk-canary-12345678-a1b2")
    server.enqueue(Reply(text="ok"))
    await save(page)
    await page.wait_for_url("**/models")
    await page.goto(ready_site.base + "/models?edit=keyed")
    await connected(page)
    assert "sk-canary" not in await page.content()
    await expect(page.locator(".secretline input")).to_have_value("已设置 · 尾号 a1b2")
    assert "sk-canary" not in str(await page.evaluate("JSON.stringify(sessionStorage)"))


async def test_typed_text_outlives_a_reload_and_is_named_but_no_secret(signed_in_page: Page, ready_site: Site) -> None:
    page = signed_in_page
    await open_form(page, ready_site)
    await page.fill("[name=endpoint]", "https://models.example.com/v1")
    await page.fill("[name=keys]", "sk-not-to-be-kept")
    await page.reload()
    await connected(page)
    await expect(page.locator("[name=endpoint]")).to_have_value("https://models.example.com/v1")
    await expect(page.locator("[name=keys]")).to_have_value("")
    await expect(page.locator(".kept")).to_be_visible()
    await page.locator(".kept button").click()
    await expect(page.locator("[name=endpoint]")).to_have_value("")
    await expect(page.locator(".kept")).to_be_hidden()
