"""A conversation of two thousand messages: quick to open, bounded in the page, whole on the way up."""

from __future__ import annotations

import sqlite3
import time

import pytest
from playwright.async_api import Page, expect

from tests.pages.chat_site import ChatSite, answered, say, start_chat_site
from tests.pages.conftest import OpenPage, StartSite, connected

pytestmark = pytest.mark.browser

COUNT = 1000
MOST_MESSAGES = 200
MOST_NODES = 6000


@pytest.fixture(scope="module")
def chat_site(start_site: StartSite) -> ChatSite:
    return start_chat_site(start_site)


def fill(site: ChatSite, conversation: int) -> None:
    """Write what a year of talking would have left, while nobody looks."""
    now = int(time.time() * 1000)
    with sqlite3.connect(site.site.folder / "data" / "db" / "zhixing.db", timeout=10) as db:
        like = "SELECT tenant, lane, owner FROM job WHERE conversation_id = ? LIMIT 1"
        tenant, lane, owner = db.execute(like, (conversation,)).fetchone()
        for n in range(COUNT):
            job = db.execute(
                "INSERT INTO job (tenant, key, lane, kind, payload, status, attempts, owner, conversation_id, bot,"
                " title, model, reason, detail, tokens_in, tokens_out, cost, created_at, ended_at)"
                " VALUES (?, ?, ?, 'message', '{}', 'done', 1, ?, ?, 'web', '', 'fake/fake', '', '', 1, 1, 0, ?, ?)",
                (tenant, f"old-{n}", lane, owner, conversation, now, now),
            ).lastrowid
            for direction, text in (("in", f"问题 {n}"), ("out", f"回答 **{n}**\n\n- 一\n- 二 `code`")):
                db.execute(
                    "INSERT INTO message (tenant, conversation_id, job_id, direction, channel, vendor_id, sender,"
                    " sender_name, text, parts, origin, created_at)"
                    " VALUES (?, ?, ?, ?, 'web', '', '', '', ?, '[]', 't4', ?)",
                    (tenant, conversation, job, direction, text, now),
                )


async def shown(page: Page) -> tuple[int, int]:
    messages = await page.locator(".msg").count()
    return messages, await page.evaluate("document.querySelectorAll('*').length")


async def test_two_thousand_messages(chat_site: ChatSite, open_page: OpenPage) -> None:
    async with chat_site.model():
        page = await chat_site.page(open_page)
        await say(page, "开头")
        await answered(page)
        address = page.url
        await page.close()
        chat_site.site.stop()  # one writer at a time
        fill(chat_site, int(address.rsplit("/", 1)[1]))
        chat_site.site.start()
        page = await chat_site.page(open_page, address.removeprefix(chat_site.site.base))
        await expect(page.locator(".msg").last).to_contain_text(f"回答 {COUNT - 1}")
        messages, nodes = await shown(page)
        assert messages <= 50
        assert nodes < 2500
        await page.locator(".chat .scroll").hover()
        for wanted in range(COUNT - 50, COUNT - 400, -50):
            while not await page.get_by_text(f"问题 {wanted}", exact=True).count():
                await page.mouse.wheel(0, -3000)
                await page.evaluate("() => new Promise(requestAnimationFrame)")
        messages, nodes = await shown(page)
        assert messages <= MOST_MESSAGES
        assert nodes < MOST_NODES
        await page.get_by_role("button", name="回到最新").click()
        await expect(page.locator(".msg").last).to_contain_text(f"回答 {COUNT - 1}")
        await expect(page.locator(".msg").last).to_be_in_viewport()
        assert (await shown(page))[0] <= 50


async def test_the_address_of_a_message_leads_to_it(chat_site: ChatSite, open_page: OpenPage) -> None:
    async with chat_site.model():
        page = await chat_site.page(open_page)
        await page.locator(".conv", has_text="开头").click()
        await expect(page.locator(".msg").last).to_contain_text(f"回答 {COUNT - 1}")
        with sqlite3.connect(chat_site.site.folder / "data" / "db" / "zhixing.db", timeout=10) as db:
            (message,) = db.execute("SELECT id FROM message WHERE text = ?", (f"问题 {COUNT - 300}",)).fetchone()
        await page.goto(f"{page.url}#m{message}")
        await page.reload()
        await connected(page)
        await expect(page.locator(".msg.found")).to_contain_text(f"问题 {COUNT - 300}")
        await expect(page.locator(".msg.found")).to_be_in_viewport()
