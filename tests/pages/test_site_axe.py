"""Every page that the rail knows: axe-core without violations, nothing sideways, in both themes and on a phone."""

from __future__ import annotations

from pathlib import Path

import axe_playwright_python
import pytest
from playwright.async_api import Page

from tests.pages.conftest import OpenPage, Site, connected, sign_in

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]
PAGES = (
    "/",
    "/chat",
    "/activity",
    "/bots",
    "/bots?add=1",
    "/bots?add=1&type=feishu",
    "/bots?add=1&type=dingtalk&mode=http",
    "/bots?add=1&type=webhook",
    "/bots/access",
    "/bots/hooks",
    "/bots/hooks?add=1",
    "/models",
    "/models?add=deepseek",
    "/models?view=usage",
    "/memory",
    "/memory?q=a",
    "/memory/knowledge",
    "/memory/forget",
    "/memory/files",
    "/memory/index",
    "/security",
    "/people",
    "/account",
    "/setup?step=model",
    "/setup?step=bot",
    "/setup?step=done",
)
AXE = (Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text(encoding="utf-8")


async def violations(page: Page) -> list[str]:
    """What axe-core finds, one line each. It is put in through the debugger: the page's policy stays as it is."""
    await page.evaluate(AXE)
    found = await page.evaluate("async () => (await axe.run()).violations")
    return [f"{item['id']}: {node['html'][:200]}" for item in found for node in item["nodes"]]


@pytest.mark.parametrize(("dark", "phone"), [(False, False), (True, True)])
@pytest.mark.parametrize("lang", ["zh-CN", "en-US"])
async def test_pages_are_accessible_and_fit(
    ready_site: Site, open_page: OpenPage, dark: bool, phone: bool, lang: str
) -> None:
    page = await open_page(ready_site, "/login", dark=dark, phone=phone, lang=lang)
    found = [f"/login {item}" for item in await violations(page)]
    await sign_in(page, ready_site)
    for path in PAGES:
        answer = await page.goto(ready_site.base + path)
        assert answer is not None
        assert answer.status == 200, path
        await connected(page)
        await page.wait_for_selector("h1", state="attached")
        found += [f"{path} {item}" for item in await violations(page)]
        wide = await page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        if wide > 0:
            found.append(f"{path} is {wide} px too wide")
    assert found == []
