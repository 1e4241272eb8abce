"""The Bots page: a bot connected through the form to a vendor that checks everything, its proof of life, its people."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

import httpx
import pytest
from playwright.async_api import Page, expect

from tests.fakes.feishu_events import FeishuEvents
from tests.fakes.feishu_server import FeishuServer
from tests.pages.conftest import OpenPage, Site, StartSite, connected, sign_in

pytestmark = [pytest.mark.browser, pytest.mark.timeout(120)]


@pytest.fixture(scope="module")
def local_site(start_site: StartSite) -> Site:
    """A process that may talk with vendors on loopback."""
    return start_site(admin=True, ZHIXING_ALLOW_LOCAL_VENDORS="1")


@pytest.fixture
async def vendor() -> AsyncIterator[FeishuServer]:
    made = await FeishuServer().start()
    yield made
    await made.stop()


@pytest.fixture
async def page(local_site: Site, open_page: OpenPage) -> Page:
    made = await open_page(local_site, "/login")
    await sign_in(made, local_site)
    return made


async def fill_feishu(page: Page, site: Site, vendor: FeishuServer, name: str, secret: str = "app-secret") -> None:
    events = FeishuEvents()
    await page.goto(f"{site.base}/bots?add=1&type=feishu&mode=webhook")
    await connected(page)
    await page.fill("[name=name]", name)
    await page.fill("[name=app_id]", events.app_id)
    await page.fill("[name=app_secret]", secret)
    await page.fill("[name=encrypt_key]", events.encrypt_key)
    await page.fill("[name=verification_token]", events.verification_token)
    await page.locator("details.more > summary").click()
    await page.fill("[name=api_base]", vendor.base)


async def test_callback_address_follows_the_name(page: Page, local_site: Site) -> None:
    await page.goto(f"{local_site.base}/bots?add=1&type=feishu&mode=webhook")
    await connected(page)
    await page.fill("[name=name]", "hr-bot")
    line = page.locator("[data-follow=name]")
    await expect(line.locator(".mono")).to_have_text(f"{local_site.base}/webhooks/feishu/hr-bot")
    await expect(line.locator("button")).to_have_attribute("data-copy", f"{local_site.base}/webhooks/feishu/hr-bot")


async def test_a_wrong_secret_is_explained_and_saved_only_on_purpose(
    page: Page, local_site: Site, vendor: FeishuServer
) -> None:
    await fill_feishu(page, local_site, vendor, "wrong-bot", secret="not-the-secret-at-all")
    await page.get_by_role("button", name="测试并保存").click()
    failed = page.locator(".probes .line", has=page.locator(".st.bad"))
    await expect(failed).not_to_have_count(0)
    await expect(failed.first).to_contain_text("Secret")
    assert "/bots?add" in page.url
    await page.get_by_role("button", name="没通过也先保存").click()
    await page.wait_for_url("**/bots")
    await connected(page)
    await expect(page.locator("[data-bot=wrong-bot]")).to_be_visible()


async def test_connect_prove_pause_and_remove(page: Page, local_site: Site, vendor: FeishuServer) -> None:
    await fill_feishu(page, local_site, vendor, "good-bot")
    await page.get_by_role("button", name="测试并保存").click()
    await page.wait_for_url("**/bots")
    await connected(page)
    card = page.locator("[data-bot=good-bot]")
    await expect(card.locator(".st")).to_have_text("等平台的第一条消息")
    # a signed event of the vendor makes the card green by itself
    posted = FeishuEvents().message("你好")
    async with httpx.AsyncClient(trust_env=False) as client:
        answer = await client.post(
            f"{local_site.base}/webhooks/feishu/good-bot", content=posted.body, headers=posted.headers
        )
    assert answer.status_code == 200
    await expect(card.locator(".st.ok")).to_be_visible(timeout=15_000)
    # the stranger waits for approval, and is let in
    await card.get_by_role("link", name=re.compile("等你批准")).click()
    await page.wait_for_url("**/bots/access*")
    await connected(page)
    await page.locator(".accessform input[type=checkbox]").first.check()
    await page.get_by_role("button", name="允许选中的").click()
    await expect(page.locator(".state-title")).to_have_text("没有人在等")
    await page.goto(f"{local_site.base}/bots")
    await connected(page)
    card = page.locator("[data-bot=good-bot]")
    await card.get_by_role("button", name="暂停").click()
    await expect(card.locator(".st")).to_have_text("已暂停")
    await card.get_by_role("button", name="恢复").click()
    await expect(card.locator(".st.off")).to_have_count(0)
    await card.get_by_role("link", name="设置").click()
    await connected(page)
    await expect(page.locator(".secretline input").first).to_have_value(re.compile("已设置"))
    assert "app-secret" not in await page.content()
    await page.get_by_role("button", name="删除机器人").click()
    await page.locator(".dialog [name=name]").fill("good-bot")
    await page.locator(".dialog [type=submit]").click()
    await page.wait_for_url("**/bots")
    await expect(page.locator("[data-bot=good-bot]")).to_have_count(0)
