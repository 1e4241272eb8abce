"""A real process whose model is a scripted server on loopback, for the browser tests of chat, trace and activity."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, Locator, Page, expect

from tests.fakes.model_server import ModelServer, Reply
from tests.pages.conftest import OpenPage, Site, StartSite, connected, free_port, sign_in

PROVIDERS = """providers:
  - name: fake
    type: openai
    endpoint: http://127.0.0.1:{port}/v1
    api_key: sk-test-1234
    models: [fake, fake-large]
"""
TEXT = """# 标题

三家里最低的是**恒通**：

| 供应商 | 单价 |
|:--|--:|
| 恒通 | 128 |

```python
print(1)
```

完。"""


class ChatSite:
    """A signed-in administrator's site. `model` answers with what is queued, slowly where a reply says so."""

    def __init__(self, site: Site, port: int) -> None:
        self.site, self.port = site, port

    @asynccontextmanager
    async def model(self, *replies: Reply, default: Reply | None = None) -> AsyncIterator[ModelServer]:
        """The model server for one test."""
        server = await ModelServer(default or Reply(text="好的。")).start(port=self.port)
        server.enqueue(*replies)
        try:
            yield server
        finally:
            await server.stop()

    async def page(self, open_page: OpenPage, path: str = "/chat", **kind: object) -> Page:
        """A page of the administrator in a fresh browser context."""
        page = await open_page(self.site, "/login", **kind)
        await sign_in(page, self.site)
        await page.goto(self.site.base + path)
        await connected(page)
        return page

    async def unwatched(self, browser: Browser) -> Page:
        """The same without a look at errors, for tests that make some."""
        page = await (await browser.new_context(locale="zh-CN")).new_page()
        await sign_in(page, self.site)
        await page.goto(self.site.base + "/chat")
        await connected(page)
        return page


def start_chat_site(start_site: StartSite) -> ChatSite:
    """A process with an administrator and the model of a test."""
    port = free_port()
    site = start_site(admin=True)
    site.stop()
    folder = site.folder / "data" / "config"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "llm.yaml").write_text(PROVIDERS.format(port=port))
    site.start()
    return ChatSite(site, port)


def box(page: Page) -> Locator:
    """Where one types."""
    return page.get_by_test_id("chat-text")


async def say(page: Page, text: str) -> None:
    """Type and press Enter."""
    await box(page).fill(text)
    await box(page).press("Enter")


def answers(page: Page) -> Locator:
    """Answers that have ended."""
    return page.locator(".msg.answer[aria-busy=false]")


async def answered(page: Page, count: int = 1) -> Locator:
    """Wait for so many answers; the last one."""
    await expect(answers(page)).to_have_count(count, timeout=20_000)
    return answers(page).last


async def clean(page: Page) -> None:
    """Fail on anything that axe finds."""
    found = (await Axe().run(page)).response["violations"]
    assert [(rule["id"], [node["target"] for node in rule["nodes"]]) for rule in found] == []


Slow = Callable[[str], Reply]


def slow(text: str, pause: float = 0.06) -> Reply:
    """A reply that streams long enough to be looked at."""
    return Reply(text=text, pause=pause)
