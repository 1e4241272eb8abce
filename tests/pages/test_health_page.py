"""Health tests, symptoms, charts and the log in a real browser: the whole way of an admin at night."""

from __future__ import annotations

import asyncio
import zipfile
from pathlib import Path

import httpx
import pytest
from playwright.async_api import Page, expect

from tests.fakes.feishu_events import FeishuEvents
from tests.fakes.feishu_server import FeishuServer
from tests.fakes.model_server import ModelServer, Reply
from tests.pages.conftest import OpenPage, Site, StartSite, connected, free_port, sign_in

pytestmark = [pytest.mark.browser, pytest.mark.timeout(150)]

CHANNELS = """channels:
  - name: hr-bot
    type: feishu
    mode: webhook
    app_id: cli_test
    app_secret: app-secret
    encrypt_key: encrypt-key-of-the-test
    verification_token: verification-token
    api_base: {base}
    access: open
"""


@pytest.fixture(scope="module")
def site(start_site: StartSite) -> Site:
    return start_site(
        admin=True,
        ZHIXING_ALLOW_LOCAL_VENDORS="1",
        ZHIXING_EMBEDDER="none",
        ZHIXING_METRICS_PORT=str(free_port()),
    )


async def opened(site: Site, open_page: OpenPage, path: str, **how: bool | str) -> Page:
    page = await open_page(site, "/login", **how)
    await sign_in(page, site)
    await page.goto(site.base + path)
    await connected(page)
    return page


async def test_from_a_failed_push_to_its_remedy(site: Site, open_page: OpenPage, tmp_path: Path) -> None:
    feishu = await FeishuServer().start()
    async with ModelServer(Reply(text="好的")) as model:
        config = site.folder / "data" / "config"
        config.mkdir(exist_ok=True)
        (config / "channels.yaml").write_text(CHANNELS.format(base=feishu.base))
        (config / "llm.yaml").write_text(
            f"providers:\n  - name: fake\n    type: openai\n    endpoint: {model.url}/v1\n"
            "    api_key: sk-test-key-1\n    models: [fake]\n"
        )
        page = await opened(site, open_page, "/bots")
        await expect(page.get_by_text("hr-bot").first).to_be_visible(timeout=15_000)
        feishu.fail("code", code=99991672, count=1)
        async with httpx.AsyncClient(trust_env=False) as client:
            for words in ("发不出去的一条", "发得出去的一条"):
                posted = FeishuEvents().message(words)
                answer = await client.post(
                    site.base + "/webhooks/feishu/hr-bot", content=posted.body, headers=posted.headers
                )
                assert answer.status_code == 200
        await feishu.count(1)

        await page.goto(site.base + "/health")
        await connected(page)
        await expect(page.locator(".verdict")).to_contain_text("还没有做过体检")
        await page.get_by_test_id("health-run").click()
        failed = page.locator("[data-test='queue.failed']")
        await expect(failed).to_contain_text("1 条发送失败", timeout=60_000)
        await expect(page.locator(".verdict.bad")).to_be_visible(timeout=60_000)
        await page.get_by_role("button", name="消息推送失败").click()
        cause = page.locator("[data-cause='rights']")
        await expect(cause).to_contain_text("缺少权限")
        await expect(cause.get_by_role("link")).to_have_count(1)
        assert page.url.endswith("/health?symptom=push")
        await failed.get_by_role("button", name="修复").click()
        await feishu.count(2)
        await expect(page.locator("[data-test='queue.failed']").first).not_to_contain_text(
            "1 条发送失败", timeout=20_000
        )

        async with page.expect_download() as download:
            await page.get_by_test_id("bundle").click()
        path = tmp_path / "bundle.zip"
        await (await download.value).save_as(path)
        with zipfile.ZipFile(path) as bundle:
            names = set(bundle.namelist())
            whole = b"".join(bundle.read(name) for name in names)
        assert {"about.json", "health.txt", "metrics.txt"} <= names
        for secret in (b"app-secret", b"sk-test-key-1", b"encrypt-key-of-the-test", "发不出去的一条".encode()):
            assert secret not in whole
        await feishu.stop()


async def test_token_opens_metrics_on_the_main_port(site: Site, open_page: OpenPage) -> None:
    page = await opened(site, open_page, "/health", lang="en-US")
    async with httpx.AsyncClient(trust_env=False) as client:
        assert (await client.get(site.base + "/metrics")).status_code == 404
        await page.get_by_role("button", name="Make a token").click()
        token = await page.locator(".dialog .copyline .mono").inner_text()
        headers = {"authorization": f"Bearer {token}"}
        assert "zhixing_tasks_total" in (await client.get(site.base + "/metrics", headers=headers)).text
        assert (await client.get(site.base + "/metrics")).status_code == 401


async def test_charts_and_log_on_a_phone_in_the_dark(site: Site, open_page: OpenPage) -> None:
    page = await opened(site, open_page, "/activity/figures?hours=1", phone=True, dark=True)
    await expect(page.locator(".fig")).to_have_count(4)
    await expect(page.locator(".chart canvas")).to_have_count(3)
    await page.locator("summary").nth(2).click()
    await expect(page.get_by_role("cell", name="hr-bot")).to_be_visible()
    await page.get_by_role("button", name="模型", exact=True).click()
    await expect(page.get_by_role("cell", name="fake/fake")).to_be_visible()
    for path in ("/activity/figures", "/activity", "/health", "/logs", "/"):
        await page.goto(site.base + path)
        await connected(page)
        assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth"), path
    await page.goto(site.base + "/logs?level=error&q=nothing-like-this")
    await connected(page)
    await expect(page.locator(".state")).to_contain_text("没有符合条件的记录")
    await page.get_by_role("button", name="清除筛选").click()
    await expect(page).to_have_url(site.base + "/logs")
    log = site.folder / "data" / "logs" / "zhixing.log"
    line = (
        '{"at": "2026-11-24T09:00:00.000+00:00", "level": "error", "logger": "agent.loop", "message": "<b>odd</b>"}\n'
    )
    await asyncio.to_thread(lambda: log.open("a").write(line))
    await expect(page.locator(".logline").first).to_contain_text("<b>odd</b>", timeout=15_000)
