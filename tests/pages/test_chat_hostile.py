"""Hostile text on the chat page: in questions, answers, titles and tool calls. Nothing runs, nothing is loaded."""

from __future__ import annotations

import json

import pytest
from playwright.async_api import Page, expect

from tests.fakes.model_server import Call, Reply
from tests.pages.chat_site import ChatSite, answered, say, start_chat_site
from tests.pages.conftest import OpenPage, StartSite, connected

pytestmark = pytest.mark.browser

HOSTILE = [
    "<img src=x onerror=window.hit=1>",
    "<script>window.hit=1</script>",
    "<svg onload=window.hit=1>",
    "[x](javascript:window.hit=1)",
    "![x](https://evil.invalid/pixel.png)",
    "<iframe srcdoc='<script>parent.hit=1</script>'></iframe>",
    "```\n</code></pre><img src=x onerror=window.hit=1>\n```",
    "| <img src=x onerror=window.hit=1> |\n|---|\n| y |",
    "{{constructor.constructor('window.hit=1')()}}",
    "<style>*{display:none}</style><base href=//evil.invalid>",
    "<a href=https://evil.invalid style='position:fixed;inset:0'>x</a>",
]


@pytest.fixture(scope="module")
def chat_site(start_site: StartSite) -> ChatSite:
    return start_chat_site(start_site)


async def harmless(page: Page) -> None:
    """Nothing ran, and no element came from the text."""
    assert await page.evaluate("window.hit") is None
    assert await page.locator(".msg :is(img, svg, script, iframe, style, base, form, object)").count() == 0
    for link in await page.locator(".msg .text a").all():
        assert str(await link.get_attribute("href")).startswith(("https://", "http://", "mailto:"))
        assert "noopener" in str(await link.get_attribute("rel"))


@pytest.mark.parametrize("text", ["\n\n".join(HOSTILE)])
async def test_hostile_text_is_only_text(chat_site: ChatSite, open_page: OpenPage, text: str) -> None:
    call = Call(name="write_file", arguments=json.dumps({"name": HOSTILE[0], "text": text}))
    async with chat_site.model(Reply(text="", calls=(call,)), Reply(text=text, pause=0.01)):
        page = await chat_site.page(open_page)  # fails on outside requests, policy breaches and script errors
        await say(page, text)
        last = await answered(page)
        await last.locator(".tool summary").click()
        await expect(last.locator(".tool pre").first).to_be_visible()
        await harmless(page)
        await page.reload()
        await connected(page)
        await harmless(page)
        await expect(page.locator(".msg.mine .bubble")).to_contain_text("<script>window.hit=1</script>")
        trace = await last.locator(".under a").get_attribute("href")
        await page.goto(f"{chat_site.site.base}{trace}")
        await connected(page)
        await expect(page.locator(".said")).to_contain_text("<script>")
        await harmless(page)
        await page.goto(f"{chat_site.site.base}/activity")
        await connected(page)
        await expect(page.locator("table.activity")).to_contain_text("<img src=x")
        await harmless(page)
