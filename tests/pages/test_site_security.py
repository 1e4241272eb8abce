"""The security page: looks by itself at first, unknown is never green, a check is set aside only with a reason."""

from __future__ import annotations

import pytest
from playwright.async_api import Page, expect

from tests.pages.conftest import Site, connected

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]


async def test_looks_and_sets_aside(signed_in_page: Page, ready_site: Site) -> None:
    page = signed_in_page
    await page.goto(ready_site.base + "/security")
    await connected(page)
    await expect(page.locator(".line.passed").first).to_be_visible(timeout=100_000)
    disk = page.locator("[data-check='data.disk_encryption'], [data-check*=disk]").first
    await expect(disk.locator(".st")).to_have_count(1)
    assert await page.locator(".line:not(.passed) .st.ok").count() == 0
    line = page.locator(".line", has=page.get_by_role("button", name="暂时接受")).first
    name = await line.get_attribute("data-check")
    await line.get_by_role("button", name="暂时接受").click()
    form = page.locator(".dialog")
    await form.locator("[name=days]").fill("soon")
    await form.locator("[type=submit]").click()
    await expect(form.locator(".field:has([name=days]) .error")).not_to_be_empty()
    await form.locator("[name=days]").fill("10")
    await form.locator("[type=submit]").click()
    await expect(form.locator(".field:has([name=reason]) .error")).not_to_be_empty()
    await form.locator("[name=reason]").fill("behind the company's firewall")
    await form.locator("[type=submit]").click()
    line = page.locator(f"[data-check='{name}']")
    await expect(line.locator(".st")).to_have_text("已接受")
    await line.get_by_role("button", name="不再接受").click()
    await expect(line.locator(".st.off")).to_have_count(0)
