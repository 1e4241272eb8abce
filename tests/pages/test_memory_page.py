"""The Memory and Knowledge pages, whole ways: add, search, change, forget; upload, cited answer, delete; take along."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from playwright.async_api import Page, expect

from tests.fakes import documents
from tests.fakes.model_server import Reply
from tests.pages.chat_site import ChatSite, answered, say, start_chat_site
from tests.pages.conftest import OpenPage, Site, StartSite, connected, sign_in

pytestmark = [pytest.mark.browser, pytest.mark.timeout(120)]


@pytest.fixture(scope="module")
def chat_site(start_site: StartSite) -> ChatSite:
    """A process with the model of a test."""
    return start_chat_site(start_site)


@pytest.fixture(scope="module")
def ready_site(chat_site: ChatSite) -> Site:
    return chat_site.site


async def go(page: Page, site: Site, path: str) -> None:
    await page.goto(site.base + path)
    await connected(page)


async def added(page: Page, site: Site, text: str) -> None:
    await go(page, site, "/memory")
    await page.get_by_role("button", name="添加一条").click()
    await page.locator(".dialog [name=text]").fill(text)
    await page.locator(".dialog [type=submit]").click()
    await page.wait_for_url("**/memory/row/*")
    await expect(page.locator(".said")).to_have_text(text)


async def test_add_search_supersede_forget(signed_in_page: Page, ready_site: Site) -> None:
    page, site = signed_in_page, ready_site
    await go(page, site, "/memory")
    await expect(page.locator(".state-title")).to_have_text("这里会显示记住的内容。")
    await added(page, site, "我住在北京")
    await connected(page)
    await page.get_by_role("button", name="用新的替换").click()
    await page.locator(".dialog [name=text]").fill("我搬到上海了")
    await page.locator(".dialog [type=submit]").click()
    await expect(page.locator(".said")).to_have_text("我搬到上海了")
    await expect(page.locator(".past-line li")).to_have_count(2)
    await connected(page)
    await page.get_by_role("button", name="置顶").click()
    await expect(page.locator(".tag.pin").first).to_be_visible()

    await go(page, site, "/memory?q=我现在住在哪里")
    first = page.locator(".memory-row").first
    await expect(first).to_contain_text("我搬到上海了")
    await first.locator("summary").click()
    await expect(first.locator("dt")).to_contain_text(["字词", "覆盖"])
    await expect(page.locator(".memory-row", has_text="我住在北京")).to_have_count(0)  # it no longer holds

    await go(page, site, "/memory/forget")
    await page.locator("[name=what]").fill("上海")
    await page.get_by_role("button", name="看看会忘记什么").click()
    await connected(page)
    await expect(page.locator(".card h2")).to_contain_text("会忘记 1 条")
    await page.get_by_role("button", name="忘记这 1 条").click()
    await page.locator(".dialog [name=name]").fill("1")
    await page.locator(".dialog [type=submit]").click()
    await expect(page.locator(".note.ok")).to_contain_text("已忘记 1 条")
    await go(page, site, "/memory?history=1")
    await expect(page.locator(".memory-row")).to_have_count(1)


async def test_taken_along_and_back(signed_in_page: Page, ready_site: Site, tmp_path: Path) -> None:
    page, site = signed_in_page, ready_site
    await added(page, site, "我的生日是5月3日")
    await go(page, site, "/memory/files")
    async with page.expect_download() as started:
        await page.get_by_role("button", name="下载").click()
    path = tmp_path / "m.jsonl"
    await (await started.value).save_as(path)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert lines[0]["format"] == "zhixing-memory-1"
    assert "我的生日是5月3日" in [line.get("text") for line in lines]
    path.write_text(path.read_text().replace("5月3日", "6月4日"))
    async with page.expect_file_chooser() as chooser:
        await page.get_by_role("button", name="选择文件").click()
    await (await chooser.value).set_files(path)
    await expect(page.locator(".note.ok")).to_contain_text("已读取")
    path.write_text("no json\n")
    async with page.expect_file_chooser() as chooser:
        await page.get_by_role("button", name="选择文件").click()
    await (await chooser.value).set_files(path)
    await expect(page.locator(".notice-negative")).to_contain_text("第 1 行")


async def test_documents_and_an_answer_that_cites_them(
    signed_in_page: Page, ready_site: Site, tmp_path: Path, open_page: OpenPage, chat_site: ChatSite
) -> None:
    page, site = signed_in_page, ready_site
    good = tmp_path / "handbook.pdf"
    good.write_bytes(
        documents.pdf(["Welcome to the company", "Parental leave is sixteen weeks", "Travel costs up to five hundred"])
    )
    bad = tmp_path / "macro.docx"
    bad.write_bytes(documents.archive({"word/document.xml": "<w/>", "word/vbaProject.bin": b"x"}))
    await go(page, site, "/memory/knowledge")
    async with page.expect_file_chooser() as chooser:
        await page.get_by_role("button", name="上传文档").click()
    await (await chooser.value).set_files([good, bad])
    await expect(page.locator(".line", has_text="handbook.pdf").locator(".st.ok")).to_be_visible(timeout=30_000)
    await expect(page.locator(".line", has_text="macro.docx")).to_contain_text("文件里有宏", timeout=30_000)

    async with chat_site.model(Reply(text="Parental leave is sixteen weeks.")) as model:
        other = await chat_site.page(open_page, lang="en-US")
        await say(other, "How many weeks is parental leave?")
        await expect(await answered(other)).to_contain_text("Source: handbook.pdf, p. 2")
        told = model.asked[-1].body["messages"][0]["content"]
        assert "- handbook.pdf, p. 2: Parental leave is sixteen weeks" in told

    await page.get_by_role("button", name="重新索引: handbook.pdf").click()
    await expect(page.locator(".line", has_text="handbook.pdf").locator(".st.ok")).to_be_visible(timeout=30_000)
    await page.get_by_role("button", name="删除: handbook.pdf").click()
    await page.locator(".dialog [type=submit]").click()
    await expect(page.locator(".line", has_text="handbook.pdf")).to_have_count(0)


async def test_a_member_sees_their_own_only(signed_in_page: Page, ready_site: Site, open_page: OpenPage) -> None:
    page, site = signed_in_page, ready_site
    await added(page, site, "我的门禁卡号是 ZX-4471")
    number = page.url.rpartition("/")[2]
    await go(page, site, "/people")
    await page.get_by_role("button", name="添加成员").click()
    form = page.locator(".dialog")
    await form.locator("[name=name]").fill("reader")
    await form.locator("[name=role]").select_option("member")
    await form.locator("[name=password]").fill("some quiet river 41 stones")
    await form.locator("[type=submit]").click()
    await expect(page.get_by_role("cell", name="reader", exact=True)).to_be_visible()
    other = await open_page(site, "/login")
    await sign_in(other, site, "reader", "some quiet river 41 stones")
    for path in (
        "/memory",
        "/memory?of=1",
        "/memory?q=门禁卡号",
        f"/memory/row/{number}",
        "/memory/index",
        "/memory/forget",
    ):
        await go(other, site, path)
        await expect(other.locator("h1")).to_be_visible()
        assert "ZX-4471" not in await other.content()
    await go(other, site, "/memory/knowledge")
    await expect(other.locator(".state.failed")).to_contain_text("knowledge.manage")
    await expect(other.get_by_role("link", name="知识库")).to_have_count(0)
