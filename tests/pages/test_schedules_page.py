"""The Schedules page: words, fields and expression in step; run, dry run, history; the three scenarios."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import pytest
from playwright.async_api import Page, expect

from tests.fakes.model_server import ModelServer, Reply
from tests.fakes.office import Office
from tests.pages.conftest import Site, connected

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]


@pytest.fixture
async def office() -> AsyncIterator[Office]:
    made = Office()
    await made.start()
    yield made
    await made.stop()


@pytest.fixture
async def model() -> AsyncIterator[ModelServer]:
    async with ModelServer() as made:
        yield made


async def see(page: Page, site: Site, path: str) -> None:
    await page.goto(site.base + path)
    await connected(page)


async def save(page: Page) -> None:
    await page.get_by_role("button", name="保存", exact=True).click()
    await page.wait_for_url("**/schedules?name=*")
    await connected(page)


async def test_words_fields_and_expression_stay_in_step(signed_in_page: Page, ready_site: Site) -> None:
    page = signed_in_page
    await see(page, ready_site, "/schedules?new=message")
    expression, plain = page.locator("[name=expression]"), page.locator("[name=plain]")
    await expect(page.locator(".times li")).to_have_count(10)
    await plain.fill("每月最后一个工作日 18:00")
    await expect(expression).to_have_value("0 18 LW * *")
    await expect(page.locator("[name=b_every]")).to_have_value("month")
    await expect(page.locator("[name=b_day]")).to_have_value("LW")
    await expect(page.locator(".times li").first).to_contain_text("18:00")
    await page.locator("[name=b_every]").select_option("week")
    await page.locator(".b-weekdays").get_by_label("周一").check()
    await page.locator(".b-weekdays").get_by_label("周三").check()
    await expect(expression).to_have_value("0 18 * * 1,3")
    await expect(plain).to_have_value("每周一、周三 18:00")
    await expression.fill("*/30 9-17 W * *")
    await expect(plain).to_have_value("工作日 9 点到 18 点每 30 分钟")
    await expect(page.locator("[name=b_minutes]")).to_have_value("30")
    await plain.fill("每天差不多的时候")
    await expect(page.locator(".field:has([name=plain]) .error")).to_contain_text("没看懂")
    assert await expression.input_value() == "*/30 9-17 W * *"


async def test_a_message_is_made_run_paused_and_removed(signed_in_page: Page, ready_site: Site) -> None:
    page = signed_in_page
    await see(page, ready_site, "/schedules")
    await page.get_by_role("button", name="新建定时任务").first.click()
    await page.locator(".pick", has_text="到时间就发一句固定的话").click()
    await page.wait_for_url("**new=message")
    await connected(page)
    await page.fill("[name=name]", "")
    await page.get_by_role("button", name="保存", exact=True).click()
    await expect(page.locator(".field:has([name=name]) .error")).not_to_be_empty()
    await page.fill("[name=name]", "提醒写日报")
    await page.fill("[name=text]", "该写日报了")
    await page.fill("[name=plain]", "每个工作日 17:30")
    await save(page)
    await expect(page.locator(".schedule-facts")).to_contain_text("每个工作日 17:30")
    await page.get_by_role("button", name="试运行").click()
    await expect(page.locator(".results")).to_contain_text("该写日报了")
    await page.get_by_role("button", name="立即运行").click()
    await expect(page.locator(".runrow .st.ok").first).to_have_text("成功")
    await page.locator(".runrow summary").click()
    await expect(page.locator(".runrow .output")).to_have_text("该写日报了")
    await page.get_by_role("button", name="暂停").click()
    await expect(page.locator(".schedule-head .st")).to_have_text("已暂停")
    await see(page, ready_site, "/schedules/calendar")
    await expect(page.locator(".month-day")).not_to_have_count(0)
    await page.locator(".month-day.today").click()
    await page.locator(".dialog [name=kind]").select_option("off")
    await page.locator(".dialog [type=submit]").click()
    await expect(page.locator(".month-day.today .month-mark")).to_have_text("休")
    await see(page, ready_site, "/schedules?name=提醒写日报")
    await page.get_by_role("button", name="删除").click()
    await page.locator(".dialog [name=name]").fill("提醒写日报")
    await page.locator(".dialog [type=submit]").click()
    await page.wait_for_url("**/schedules")


async def add_model(page: Page, site: Site, model: ModelServer) -> None:
    await see(page, site, "/models?add=custom")
    await page.locator("details.more > summary").click()
    await page.fill("[name=name]", "fake")
    await page.fill("[name=endpoint]", model.url)
    await page.fill("[name=models]", "m1")
    model.enqueue(Reply(text="ok"))
    await page.get_by_role("button", name="测试并保存").click()
    await page.wait_for_url("**/models")
    await connected(page)


async def add_bot(page: Page, site: Site, office: Office) -> None:
    await see(page, site, "/bots?add=1&type=webhook&mode=push")
    await page.fill("[name=name]", "group")
    await page.fill("[name=endpoint]", f"{office.base}/group")
    await page.get_by_role("button", name="保存").last.click()
    await page.wait_for_function("!location.search.includes('add=1')")


async def test_the_three_scenarios_run_from_the_page_to_the_group(
    signed_in_page: Page, ready_site: Site, office: Office, model: ModelServer
) -> None:
    page = signed_in_page
    await add_model(page, ready_site, model)
    await add_bot(page, ready_site, office)

    # scheduled data collection
    model.enqueue(Reply(text="销量比昨天多一成，退货正常。"))
    await see(page, ready_site, "/schedules?new=workflow&scenario=collect")
    await page.fill("[name=value_source_url]", f"{office.base}/sales")
    await page.fill("[name=value_store_url]", f"{office.base}/reports")
    await page.fill("[name=secret_token]", "Bearer collect-secret")
    await page.select_option("[name=bot]", "group")
    await save(page)
    await page.get_by_role("button", name="立即运行").click()
    await expect(page.locator(".runrow").first).to_contain_text("成功", timeout=20_000)
    await expect(page.locator(".runrow").first).to_contain_text("已送达")
    assert office.reports == [{"date": office.reports[0]["date"], "summary": "销量比昨天多一成，退货正常。"}]
    assert office.authorised["/sales"] == "Bearer collect-secret"
    assert any("销量比昨天多一成" in text for text in office.group)

    # ticket handling
    for n in (1, 2):
        model.enqueue(Reply(text=json.dumps({"category": "网络", "priority": "high", "reply": f"收到 {n}"})))
    await see(page, ready_site, "/schedules?new=workflow&scenario=tickets")
    await page.fill("[name=value_base_url]", f"{office.base}/desk")
    await page.select_option("[name=bot]", "group")
    await page.get_by_role("button", name="试运行").click()
    await expect(page.locator(".results .dry-step")).not_to_have_count(0)
    assert office.comments == []
    await save(page)
    await page.get_by_role("button", name="立即运行").click()
    await expect(page.locator(".runrow").first).to_contain_text("成功", timeout=20_000)
    await expect(page.locator(".runrow").first).to_contain_text("已送达")
    assert sorted(office.comments) == [("1", "收到 1"), ("2", "收到 2")]
    assert {ticket["status"] for ticket in office.tickets.values()} == {"triaged"}
    assert any("网络 · high" in text for text in office.group)
    office.reopen()
    await page.get_by_role("button", name="立即运行").click()
    await expect(page.locator(".runrow").first).to_contain_text("没有输出", timeout=20_000)
    assert len(office.comments) == 2

    # cross-system automation
    await see(page, ready_site, "/schedules?new=workflow&scenario=bridge")
    await page.fill("[name=value_from_url]", f"{office.base}/hr/new")
    await page.fill("[name=value_to_url]", f"{office.base}/it/accounts")
    await page.fill("[name=value_confirm_url]", f"{office.base}/hr/confirm")
    await page.select_option("[name=bot]", "group")
    await save(page)
    await page.get_by_role("button", name="立即运行").click()
    await expect(page.locator(".runrow").first).to_contain_text("成功", timeout=20_000)
    await expect(page.locator(".runrow").first).to_contain_text("已送达")
    assert [account["name"] for account in office.accounts.values()] == ["王小明", "李芳"]
    assert office.confirmed == {"e1": "acc-1", "e2": "acc-2"}
    assert any("王小明" in text for text in office.group)
