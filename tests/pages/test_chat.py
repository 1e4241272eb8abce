"""The chat page in a real browser, against the real process and a scripted model."""

from __future__ import annotations

import pytest
from playwright.async_api import Browser, expect

from tests.fakes.model_server import Call, Reply
from tests.pages.chat_site import TEXT, ChatSite, answered, answers, box, clean, say, slow, start_chat_site
from tests.pages.conftest import OpenPage, StartSite, connected

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def chat_site(start_site: StartSite) -> ChatSite:
    return start_chat_site(start_site)


async def test_an_answer_is_seen_growing_then_whole_with_table_and_coloured_code(
    chat_site: ChatSite, open_page: OpenPage
) -> None:
    async with chat_site.model(slow(TEXT)):
        page = await chat_site.page(open_page)
        await say(page, "比一比三家报价")
        text = page.locator(".msg.running .text")
        await expect(text).to_contain_text("三家里")
        early = len(await text.inner_text())
        await expect(page.get_by_test_id("chat-stop")).to_be_visible()
        await expect(text.locator("table")).to_be_visible()
        assert len(await text.inner_text()) > early
        last = await answered(page)
        await expect(last.locator("h1")).to_have_text("标题")
        await expect(last.locator("td").last).to_have_text("128")
        await expect(last.locator(".code code .nb")).to_have_text("print")
        await expect(last.locator(".code button")).to_have_text("复制")
        assert "/chat/" in page.url
        await expect(page.get_by_test_id("chat-send")).to_be_visible()


async def test_a_selection_in_what_is_settled_survives_the_stream(chat_site: ChatSite, open_page: OpenPage) -> None:
    async with chat_site.model(slow("选这一段文字。\n\n" + "后面还有很多。" * 30)):
        page = await chat_site.page(open_page)
        await say(page, "说长一点")
        await expect(page.locator(".msg.running .text p")).to_have_count(2)
        await page.evaluate(
            """() => { const range = document.createRange();
              range.selectNodeContents(document.querySelector('.msg.running .text p'));
              getSelection().removeAllRanges(); getSelection().addRange(range); }"""
        )
        await answered(page)
        assert await page.evaluate("getSelection().toString()") == "选这一段文字。"


async def test_enter_sends_shift_enter_breaks_and_composing_does_neither(
    chat_site: ChatSite, open_page: OpenPage
) -> None:
    async with chat_site.model():
        page = await chat_site.page(open_page)
        cdp = await page.context.new_cdp_session(page)
        await box(page).click()
        await cdp.send("Input.imeSetComposition", {"text": "ni hao", "selectionStart": 6, "selectionEnd": 6})
        enter = {"key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 229, "nativeVirtualKeyCode": 229}
        await cdp.send("Input.dispatchKeyEvent", {"type": "rawKeyDown", **enter})
        await cdp.send("Input.dispatchKeyEvent", {"type": "keyUp", **enter})
        assert await box(page).input_value() == "ni hao"
        await cdp.send("Input.insertText", {"text": "你好"})
        assert await box(page).input_value() == "你好"
        await expect(page.locator(".msg")).to_have_count(0)
        await box(page).press("Shift+Enter")
        await box(page).press_sequentially("第二行")
        assert await box(page).input_value() == "你好\n第二行"
        await box(page).press("Enter")
        await answered(page)
        await expect(page.locator(".msg.mine .bubble")).to_have_text("你好\n第二行")


async def test_a_double_click_sends_once(chat_site: ChatSite, open_page: OpenPage) -> None:
    async with chat_site.model() as model:
        page = await chat_site.page(open_page)
        await box(page).fill("一次")
        await page.get_by_test_id("chat-send").dblclick()
        await answered(page)
        await page.reload()
        await connected(page)
        await expect(page.locator(".msg.mine")).to_have_count(1)
        assert model.count == 1


async def test_stop_stands_where_send_was_and_ends_the_answer(chat_site: ChatSite, open_page: OpenPage) -> None:
    async with chat_site.model(Reply(endless="一直说。", pause=0.05)):
        page = await chat_site.page(open_page)
        send = await page.get_by_test_id("chat-send").bounding_box()
        await say(page, "停不下来")
        await expect(page.locator(".msg.running .text")).to_contain_text("一直说")
        stop = await page.get_by_test_id("chat-stop").bounding_box()
        assert send is not None
        assert stop is not None
        assert abs(send["x"] + send["width"] - stop["x"] - stop["width"]) < 2
        await page.get_by_test_id("chat-stop").click()
        await expect(await answered(page)).to_contain_text("已停止")
        await expect(page.get_by_test_id("chat-send")).to_be_visible()


async def test_a_failed_answer_names_who_failed_and_can_be_tried_again(
    chat_site: ChatSite, open_page: OpenPage
) -> None:
    refused = Reply(status=401, body={"error": {"message": "bad key", "code": "invalid_api_key"}})
    async with chat_site.model(refused):
        page = await chat_site.page(open_page)
        await say(page, "你好")
        failure = page.locator(".failure")
        await expect(failure).to_contain_text("模型没有答上来")
        await expect(failure.get_by_role("link", name="检查模型")).to_have_attribute("href", "/models")
        await failure.get_by_role("button", name="重新回答").click()
        await expect(page.locator(".msg.mine")).to_have_count(2)
        await expect(await answered(page, 2)).to_contain_text("好的。")


async def test_plan_and_tools_are_shown_and_open_to_arguments_and_result(
    chat_site: ChatSite, open_page: OpenPage
) -> None:
    plan = '{"items": [{"text": "记下", "state": "done"}, {"text": "答复", "state": "doing"}]}'
    calls = (
        Call(name="plan", arguments=plan, id="a"),
        Call(name="write_file", arguments='{"name": "笔记.md", "text": "好"}', id="b"),
    )
    async with chat_site.model(Reply(text="", calls=calls), Reply(text="写好了。")):
        page = await chat_site.page(open_page)
        await say(page, "写个笔记")
        last = await answered(page)
        await expect(page.locator(".side .plan-item")).to_have_text(["✓已完成：记下", "●进行中：答复"])
        line = last.locator(".tool")
        await expect(line).to_have_count(1)
        await expect(line.locator(".name")).to_have_text("写文件")
        await expect(line.locator(".for")).to_contain_text("笔记.md")
        await line.locator("summary").click()
        await expect(line.locator("pre").first).to_contain_text("笔记.md")
        await expect(line.locator("pre").last).to_contain_text("written")
        await expect(page.locator(".side .used")).to_contain_text("模型")
        trace = await last.locator(".under a").get_attribute("href")
        assert trace is not None
        await expect(page.locator(".side .used a")).to_have_attribute("href", trace)


async def test_history_survives_a_reload_and_the_address_can_be_pasted(
    chat_site: ChatSite, open_page: OpenPage
) -> None:
    async with chat_site.model(Reply(text="第一个回答"), Reply(text="第二个回答")):
        page = await chat_site.page(open_page)
        await say(page, "第一个问题")
        await answered(page, 1)
        await say(page, "第二个问题")
        await answered(page, 2)
        await page.goto(page.url)
        await connected(page)
        await expect(page.locator(".msg")).to_have_count(4)
        await expect(answers(page).last).to_contain_text("第二个回答")
        await expect(page.locator(".conv.on")).to_contain_text("第一个问题")
        await expect(page).to_have_title("第一个问题 · 知行")


async def test_a_cut_of_the_network_loses_neither_text_nor_answer(chat_site: ChatSite, browser: Browser) -> None:
    words = [f"词{n}。" for n in range(60)]
    async with chat_site.model(slow("".join(words), 0.05), Reply(text="第二个回答")):
        page = await chat_site.unwatched(browser)  # the browser itself reports the cut as errors
        await say(page, "慢慢说")
        await expect(page.locator(".msg.running .text")).to_contain_text("词2。")
        await page.context.set_offline(True)
        await page.evaluate("window.socket.io.engine.close()")
        await expect(page.locator(".offline")).to_be_visible()
        await say(page, "断网时发的")
        await box(page).fill("断网时打的")
        await expect(page.locator(".msg.pending .state")).to_have_text("发送中…")
        await page.context.set_offline(False)
        await expect(page.locator(".offline")).to_have_count(0)
        last = await answered(page, 2)
        await expect(last).to_contain_text("第二个回答")
        await expect(answers(page).first.locator(".text")).to_have_text("".join(words))
        assert await box(page).input_value() == "断网时打的"
        await expect(page.locator(".msg.mine .bubble")).to_have_text(["慢慢说", "断网时发的"])


async def test_typed_text_is_kept_for_each_conversation_over_a_reload(chat_site: ChatSite, open_page: OpenPage) -> None:
    async with chat_site.model():
        page = await chat_site.page(open_page)
        await say(page, "甲")
        await answered(page)
        first = page.url
        await box(page).fill("给甲的草稿")
        await page.get_by_test_id("chat-new").click()
        assert await box(page).input_value() == ""
        await box(page).fill("新对话的草稿")
        await page.reload()
        await connected(page)
        assert await box(page).input_value() == "新对话的草稿"
        await page.goto(first)
        await connected(page)
        assert await box(page).input_value() == "给甲的草稿"
        await box(page).fill("")


async def test_conversations_can_be_searched_renamed_deleted_and_brought_back(
    chat_site: ChatSite, open_page: OpenPage
) -> None:
    async with chat_site.model():
        page = await chat_site.page(open_page)
        await say(page, "独角兽的故事")
        await answered(page)
        row = page.locator(".conv", has_text="独角兽的故事")
        await row.hover()
        await row.get_by_role("button", name="改名").click()
        await page.locator(".conv .edit input").fill("神话")
        await page.keyboard.press("Enter")
        await expect(page.locator(".bar h2")).to_have_text("神话")
        await page.locator(".find input").fill("独角兽")
        await expect(page.locator(".conv")).to_have_count(1)
        row = page.locator(".conv", has_text="神话")
        await row.hover()
        await row.get_by_role("button", name="删除").click()
        await expect(row).to_have_count(0)
        await page.locator(".undo").get_by_role("button", name="撤销").click()
        await expect(page.locator(".conv", has_text="神话")).to_be_visible()


async def test_the_model_of_a_conversation_can_be_switched(chat_site: ChatSite, open_page: OpenPage) -> None:
    async with chat_site.model() as model:
        page = await chat_site.page(open_page)
        await page.get_by_test_id("chat-model").select_option("fake/fake-large")
        await say(page, "用大的")
        await expect((await answered(page)).locator(".under")).to_contain_text("fake-large")
        assert model.asked[-1].body["model"] == "fake-large"
        await page.reload()
        await connected(page)
        await expect(page.get_by_test_id("chat-model")).to_have_value("fake/fake-large")


async def test_files_are_attached_by_the_picker_and_by_drop(chat_site: ChatSite, open_page: OpenPage) -> None:
    async with chat_site.model() as model:
        page = await chat_site.page(open_page)
        async with page.expect_file_chooser() as chooser:
            await page.get_by_role("button", name="添加文件").click()
        await (await chooser.value).set_files({"name": "报价.txt", "mimeType": "text/plain", "buffer": b"128"})
        chips = page.locator(".composer .files .tag")
        await expect(chips).to_have_text(["报价.txt×"])
        await page.evaluate(
            """() => { const carried = new DataTransfer(); carried.items.add(new File(['x'], 'b.md'));
              document.querySelector('.composer').dispatchEvent(
                new DragEvent('drop', {dataTransfer: carried, bubbles: true, cancelable: true})); }"""
        )
        await expect(chips).to_have_text(["报价.txt×", "b.md×"])
        await say(page, "看看这两个")
        await answered(page)
        await expect(page.locator(".msg.mine .files .tag")).to_have_text(["报价.txt", "b.md"])
        asked = model.asked[-1].body["messages"][-1]["content"]
        assert "报价.txt" in str(asked)


@pytest.mark.parametrize(("lang", "hello"), [("zh-CN", "想做点什么？"), ("en-US", "What would you like to do?")])
async def test_the_first_look_offers_four_examples_in_the_persons_language(
    chat_site: ChatSite, open_page: OpenPage, lang: str, hello: str
) -> None:
    async with chat_site.model():
        page = await chat_site.page(open_page, lang=lang)
        await expect(page.locator(".empty h2")).to_have_text(hello)
        examples = page.locator(".example")
        await expect(examples).to_have_count(4)
        text = await examples.first.inner_text()
        await examples.first.click()
        await answered(page)
        await expect(page.locator(".msg.mine .bubble")).to_have_text(text)


@pytest.mark.parametrize("kind", [{}, {"dark": True}, {"phone": True}, {"lang": "en-US"}])
async def test_axe_finds_nothing(chat_site: ChatSite, open_page: OpenPage, kind: dict[str, object]) -> None:
    call = Call(name="write_file", arguments='{"name": "a.md", "text": "好"}')
    async with chat_site.model(Reply(text="", calls=(call,)), Reply(text=TEXT)):
        page = await chat_site.page(open_page, **kind)
        await clean(page)
        await say(page, "写个笔记")
        last = await answered(page)
        await last.locator(".tool summary").click()
        await expect(last.locator(".tool pre").first).to_be_visible()
        await clean(page)
        assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")


async def test_a_conversation_of_nobody_says_so_and_offers_a_new_one(chat_site: ChatSite, open_page: OpenPage) -> None:
    page = await chat_site.page(open_page, "/chat/999999")
    await expect(page.get_by_role("alert")).to_contain_text("没有")
    await page.get_by_test_id("chat-new").click()
    await expect(page.locator(".empty h2")).to_be_visible()
