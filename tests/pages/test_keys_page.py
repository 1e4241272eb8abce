"""The API keys in the panel: made and shown once, used by a program, revoked; the console makes them as well."""

from __future__ import annotations

import json
import subprocess
import sys

import httpx
import pytest
from playwright.async_api import Page, expect

from tests.pages.conftest import PASSWORD, ROOT, OpenPage, Site, connected, sign_in

pytestmark = [pytest.mark.browser, pytest.mark.timeout(120)]


async def get(site: Site, secret: str, path: str = "/api/v1/tasks") -> int:
    async with httpx.AsyncClient(trust_env=False) as client:
        found = await client.get(site.base + path, headers={"authorization": f"Bearer {secret}"})
        return found.status_code


async def test_a_key_is_made_shown_once_used_and_revoked(signed_in_page: Page, ready_site: Site) -> None:
    page = signed_in_page
    await page.goto(ready_site.base + "/settings")
    await connected(page)
    await page.get_by_role("link", name="API 密钥").click()
    await connected(page)
    await expect(page.locator(".state-title")).to_contain_text("还没有密钥")
    await page.locator(".state").get_by_role("button", name="新建密钥").click()
    form = page.locator(".dialog")
    await form.locator("[type=submit]").click()
    await expect(form.locator(".error:not(:empty)")).to_have_count(1)
    await form.locator("[name=name]").fill("工单系统")
    await form.locator("[name=scopes]").fill("memory.own")
    await form.locator("[type=submit]").click()
    secret = await page.locator(".dialog .copyline .mono").first.inner_text()
    assert secret.startswith("zx_")
    await page.get_by_role("button", name="已复制，关闭").click()
    row = page.get_by_role("row", name="工单系统")
    await expect(row).to_contain_text("chat.use memory.own")
    await expect(page.locator(".dialog")).to_have_count(0)
    assert secret not in await page.content()
    assert await get(ready_site, secret) == 200
    assert await get(ready_site, secret, "/api/v1/memory") == 200
    assert await get(ready_site, secret, "/api/v1/channels") == 403
    await row.get_by_role("button", name="吊销: 工单系统").click()
    await page.locator(".dialog").get_by_role("button", name="吊销").click()
    await expect(row).to_contain_text("已吊销")
    assert await get(ready_site, secret) == 401


async def test_who_may_not_sees_no_keys(signed_in_page: Page, ready_site: Site, open_page: OpenPage) -> None:
    add = [sys.executable, "app.py", "create-key", "--name", "console", "--scopes", "people.manage", "people.view"]
    done = subprocess.run(add, cwd=ROOT, env=ready_site.env, capture_output=True, text=True, timeout=60, check=True)
    secret = done.stdout.strip()
    assert await get(ready_site, secret) == 403
    assert await get(ready_site, "zx_" + "a" * 43) == 401
    await signed_in_page.goto(ready_site.base + "/settings/keys")
    await connected(signed_in_page)
    await expect(signed_in_page.get_by_role("row", name="console")).to_contain_text("命令行")

    site = ready_site
    site.create_admin("second", PASSWORD)
    page = await open_page(site, "/login", lang="en-US", phone=True)
    await sign_in(page, site, "second", PASSWORD)
    await page.goto(site.base + "/settings/keys")
    await connected(page)
    await expect(page.get_by_role("row", name="console")).to_contain_text("people.manage")
    wide = await page.evaluate("document.documentElement.scrollWidth > innerWidth")
    assert not wide


async def test_the_contract_is_served_beside_the_panel(ready_site: Site, open_page: OpenPage) -> None:
    page = await open_page(ready_site, "/api/v1/docs", lang="en-US")
    await expect(page.get_by_role("heading", level=1)).to_have_text("Zhixing API v1")
    async with httpx.AsyncClient(trust_env=False) as client:
        found = (await client.get(f"{ready_site.base}/api/v1/openapi.json")).text
    assert "/api/v1/tasks" in json.loads(found)["paths"]
