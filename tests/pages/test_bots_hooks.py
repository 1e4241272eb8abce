"""Hooks in a real browser: tried out, saved with a secret shown once, called with the page's own command."""

from __future__ import annotations

import hashlib
import hmac
import time

import httpx
import pytest
from playwright.async_api import Page, expect

from tests.pages.conftest import Site, connected

pytestmark = [pytest.mark.browser, pytest.mark.timeout(120)]


async def test_try_save_and_call(signed_in_page: Page, ready_site: Site) -> None:
    page = signed_in_page
    await page.goto(ready_site.base + "/bots/hooks?add=1")
    await connected(page)
    await page.get_by_role("button", name="看看会变成什么").click()
    await expect(page.locator(".pre")).to_contain_text("disk almost full")
    await page.fill("[name=template]", "{{title}} {{nothing.here}}")
    await page.get_by_role("button", name="看看会变成什么").click()
    await expect(page.locator(".note.warn")).to_contain_text("nothing.here")
    await page.fill("[name=template]", "Alert: {{title}}")
    await page.fill("[name=name]", "Not A Name")
    await page.get_by_role("button", name="保存").click()
    await expect(page.locator(".field:has([name=name]) .error")).not_to_be_empty()
    await page.fill("[name=name]", "alerts")
    await page.get_by_role("button", name="保存").click()
    secret = await page.locator(".note.ok .copyline .mono").inner_text()
    await page.get_by_role("link", name="我已存好").click()
    await page.wait_for_url("**edit=alerts")
    await connected(page)
    assert secret not in await page.content()

    body, now = b'{"title":"disk full"}', str(int(time.time()))
    sign = hmac.new(secret.encode(), now.encode() + b"." + body, hashlib.sha256).hexdigest()
    headers = {"x-zhixing-timestamp": now, "x-zhixing-signature": f"sha256={sign}", "content-type": "application/json"}
    async with httpx.AsyncClient(base_url=ready_site.base, trust_env=False) as client:
        good = await client.post("/hooks/alerts", content=body, headers=headers)
        forged = await client.post("/hooks/alerts", content=body + b" ", headers=headers)
    assert good.is_success
    assert forged.status_code == 401
    await page.reload()
    await connected(page)
    calls = page.locator(".card", has=page.get_by_role("heading", name="最近的调用")).locator(".line")
    await expect(calls).to_have_count(2)
    await expect(calls.first).to_contain_text("被拒绝")
    await expect(calls.last).to_contain_text("已接受")
