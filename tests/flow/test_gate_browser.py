"""NiceGUI behind the gate in a real browser: it works, without a breach of the content policy or a foreign request."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Page, async_playwright

from tests.flow.test_gate_socket import Panel, serving

pytestmark = pytest.mark.browser


@pytest.fixture
async def panel(tmp_path: Path) -> AsyncIterator[Panel]:
    with serving(tmp_path) as port:
        panel = Panel(port)
        yield panel
        await panel.http.aclose()


async def test_pages_work_and_end_with_the_session(panel: Panel) -> None:
    said: list[str] = []
    asked: list[str] = []
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path="/usr/bin/chromium", args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        context = await browser.new_context()
        page: Page = await context.new_page()
        page.on("console", lambda message: said.append(message.text))
        page.on("request", lambda request: asked.append(request.url))
        cookie, session = await panel.login("anna")
        base = f"http://127.0.0.1:{panel.port}"
        own: Any = {"name": "zhixing", "value": cookie, "url": base, "httpOnly": True, "sameSite": "Strict"}
        await context.add_cookies([own])
        await page.goto(base)
        await page.wait_for_function("window.did_handshake === true")
        await page.get_by_test_id("press").click()
        assert await panel.clicks(1) == ["anna"]
        await page.get_by_test_id("name").fill("知行")
        chooser = page.locator("input[type=file]")
        await chooser.set_input_files({"name": "a.txt", "mimeType": "text/plain", "buffer": b"hello"})
        await page.wait_for_function("document.body.innerText.includes('100')")
        state = await panel.state()
        assert state["uploads"] == ["anna"]
        assert state["values"][-1] == "知行"
        blocked = await page.evaluate(
            """() => new Promise(done => {
              document.addEventListener('securitypolicyviolation', e => done(e.effectiveDirective));
              const img = document.createElement('img');
              img.setAttribute('onerror', 'window.hit = 1'); img.src = '/nothing.png';
              document.body.append(img);
            })"""
        )
        assert blocked == "script-src-attr"
        assert await page.evaluate("window.hit") is None
        await panel.http.post("/api/test/revoke", params={"session": session})
        await page.wait_for_url("**/login")
        await browser.close()
    assert all(url.startswith((base, "data:", "blob:")) for url in asked)
    violations = [text for text in said if "Content Security Policy" in text]
    assert len(violations) == 1  # the one that was provoked
    assert "onerror" in violations[0] or "event handler" in violations[0]
