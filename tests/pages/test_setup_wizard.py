"""The first run in a real browser: from the setup code to a streamed answer, in both languages."""

from __future__ import annotations

import pytest
from playwright.async_api import Page, expect

from tests.fakes.model_server import ModelServer, Reply
from tests.pages.conftest import OpenPage, Site, connected, make_admin, sign_in

pytestmark = [pytest.mark.browser, pytest.mark.timeout(120)]

WORDS = {
    "zh-CN": {
        "demo": "用演示模型",
        "skip": "以后再接机器人",
        "chat": "打开对话",
        "custom": "其他兼容 OpenAI 的服务",
        "save": "测试并保存",
        "ask": "你好",
        "marked": "演示",
    },
    "en-US": {
        "demo": "Use the demo model",
        "skip": "Connect a bot later",
        "chat": "Open the chat",
        "custom": "Any other OpenAI-compatible service",
        "save": "Test and save",
        "ask": "hello",
        "marked": "demo",
    },
}


async def to_wizard(page: Page, site: Site) -> None:
    if "/setup" not in page.url or "/setup/" in page.url:
        await page.goto(site.base + "/setup")
    await connected(page)


async def ask(page: Page, text: str) -> None:
    box = page.locator("textarea").first
    await box.fill(text)
    await box.press("Enter")


@pytest.mark.parametrize("lang", ["zh-CN", "en-US"])
async def test_from_code_to_answer_with_the_demo_model(site: Site, open_page: OpenPage, lang: str) -> None:
    said = WORDS[lang]
    page = await open_page(site, "/", lang=lang)
    assert "/setup" in page.url
    await make_admin(page)
    await to_wizard(page, site)
    assert await page.get_attribute("html", "lang") == lang
    await page.get_by_role("button", name=said["demo"]).click()
    await page.wait_for_url("**/setup?step=bot")
    await connected(page)
    await page.get_by_role("button", name=said["skip"]).click()
    await page.wait_for_url("**/setup?step=done")
    await connected(page)
    await expect(page.locator(".checks li")).not_to_have_count(0)
    await page.get_by_role("link", name=said["chat"]).click()
    await page.wait_for_url("**/chat*")
    await connected(page)
    await ask(page, said["ask"])
    await expect(page.locator("body")).to_contain_text(said["marked"], timeout=20_000, ignore_case=True)


@pytest.mark.parametrize("lang", ["zh-CN", "en-US"])
async def test_from_code_to_answer_with_a_compatible_server(site: Site, open_page: OpenPage, lang: str) -> None:
    said = WORDS[lang]
    async with ModelServer() as server:
        page = await open_page(site, "/setup/code", lang=lang)
        await make_admin(page)
        await to_wizard(page, site)
        await page.get_by_role("button", name=said["custom"]).click()
        await page.fill("[name=endpoint]", server.url)
        await page.fill("[name=keys]", "sk-right")
        await page.fill("[name=models]", "deepseek-chat")
        server.enqueue(Reply(text="ok"))
        await page.get_by_role("button", name=said["save"]).click()
        await page.wait_for_url("**/setup?step=bot")
        assert server.asked, "the test really asked"
        await page.goto(site.base + "/chat")
        await connected(page)
        server.enqueue(Reply(text="The answer of the fake: forty-two."))
        await ask(page, said["ask"])
        await expect(page.locator("body")).to_contain_text("forty-two", timeout=20_000)


async def test_wizard_can_be_left_and_resumed(site: Site, open_page: OpenPage) -> None:
    page = await open_page(site, "/")
    await make_admin(page)
    await to_wizard(page, site)
    await page.get_by_role("button", name="用演示模型").click()
    await page.wait_for_url("**/setup?step=bot")
    again = await open_page(site, "/login")
    await sign_in(again, site)
    await again.goto(site.base + "/setup")
    await connected(again)
    await expect(again.locator("li[aria-current=step]")).to_have_text("第一个机器人")
    await again.get_by_role("link", name="模型").click()
    await connected(again)
    await expect(again.locator(".offer").first).to_contain_text("demo")


async def test_language_switch_stays(site: Site, open_page: OpenPage) -> None:
    page = await open_page(site, "/", lang="zh-CN")
    await make_admin(page)
    await to_wizard(page, site)
    await page.get_by_role("button", name="English").click()
    await expect(page.get_by_role("heading", level=1)).to_have_text("Choose a model")
    await page.goto(site.base + "/models")
    await connected(page)
    assert await page.get_attribute("html", "lang") == "en-US"
