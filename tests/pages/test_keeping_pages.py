"""Backup and audit in a real browser: the key once, a backup, its trial, its download; filters, verify, an export."""

from __future__ import annotations

import re
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from playwright.async_api import Page, expect

from tests.pages.conftest import PASSWORD, ROOT, Site, connected

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]


async def test_backup_from_the_first_key_to_a_restore_elsewhere(
    signed_in_page: Page, ready_site: Site, tmp_path: Path
) -> None:
    page = signed_in_page
    await page.goto(ready_site.base + "/backup")
    await connected(page)
    await page.get_by_role("button", name="生成恢复密钥").click()
    shown = page.locator(".dialog .copyline .mono")
    await expect(shown).to_have_text(re.compile("^AGE-SECRET-KEY-1[0-9A-Z]{58}$"))
    key = await shown.inner_text()
    await page.keyboard.press("Escape")
    await expect(shown).to_be_visible()
    await page.get_by_role("button", name="我已经保存好了").click()
    await page.get_by_role("button", name="立即备份").click()
    row = page.locator("tr[data-backup]").first
    await expect(row).to_contain_text("完成", timeout=30_000)
    await row.get_by_role("button", name=re.compile("^试恢复")).click()
    await expect(row).to_contain_text("能恢复", timeout=30_000)
    async with page.expect_download() as coming:
        await row.get_by_role("button", name=re.compile("^下载")).click()
    taken = tmp_path / (await coming.value).suggested_filename
    await (await coming.value).save_as(taken)
    assert re.fullmatch(r"zhixing-\d{8}-\d{6}\.age", taken.name)
    restored = {"ZHIXING_DATA": str(tmp_path / "new"), "ZHIXING_KEY_FILE": str(tmp_path / "k" / "master.key")}
    done = subprocess.run(
        [sys.executable, "app.py", "restore", str(taken)],
        cwd=ROOT,
        env={**ready_site.env, **restored},
        input=key + "\n",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "new" / "db" / "zhixing.db").is_file()
    assert key not in ready_site.log
    await page.reload()
    assert key not in await page.content()


async def test_audit_is_filtered_verified_and_exported(signed_in_page: Page, ready_site: Site, tmp_path: Path) -> None:
    page = signed_in_page
    await page.goto(ready_site.base + "/audit")
    await connected(page)
    await expect(page.locator(".verdict.ok")).to_be_visible()
    await page.locator("select[name=action]").select_option("login.")
    await page.get_by_role("button", name="筛选").click()
    await page.wait_for_url("**/audit?action=login.*")
    await connected(page)
    entries = page.locator("[data-audit]")
    await expect(entries.first).to_contain_text("登录")
    await entries.first.locator("summary").click()
    await expect(entries.first.locator("pre").last).to_contain_text("factor")
    await page.get_by_role("button", name="校验", exact=True).click()
    await expect(page.locator(".verdict.ok")).to_be_visible()
    public = await page.locator(".copyline .mono").first.inner_text()
    async with page.expect_download() as coming:
        await page.get_by_role("button", name="导出（可校验）").click()
    taken = tmp_path / "export.jsonl"
    await (await coming.value).save_as(taken)
    found = subprocess.run(
        [sys.executable, "-I", str(ROOT / "docs" / "verify_audit.py"), str(taken), public],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert found.returncode == 0, found.stderr


async def test_an_old_session_is_asked_again_and_the_act_goes_on(signed_in_page: Page, ready_site: Site) -> None:
    page = signed_in_page
    await page.goto("about:blank")
    ready_site.stop()
    with sqlite3.connect(ready_site.folder / "data" / "db" / "zhixing.db") as c:
        c.execute("UPDATE session SET created_at = created_at - 3600000")
    c.close()
    ready_site.start()
    await page.goto(ready_site.base + "/people")
    await connected(page)
    await page.get_by_role("button", name="添加成员").click()
    form = page.locator(".dialog")
    await form.locator("[name=name]").fill("late")
    await form.locator("[name=password]").fill("some quiet river 41 stones")
    await form.locator("[type=submit]").click()
    again = page.locator(".dialog", has_text="请再次确认身份")
    await again.locator("[name=password]").fill("not the password at all")
    await again.locator("[type=submit]").click()
    await expect(again.locator(".error:not(:empty)")).to_be_visible()
    await again.locator("[name=password]").fill(PASSWORD)
    await again.locator("[type=submit]").click()
    await expect(page.get_by_role("cell", name="late", exact=True)).to_be_visible()
