"""One page of the chat, without a browser: nothing twice, nothing lost, in order."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest

from pages.chat import Desk
from pages.chat_view import ChatView
from security.markdown import render
from storage.database import SqliteDatabase
from storage.errors import Invalid, NotFound, Unavailable
from storage.ledger import Ending
from storage.runner import Work
from tests.pages.chat_house import WAIT, House, Told, answer, visitor

TEXT = "# 标题\n\n第一段 **重点**。\n\n- 一\n- 二\n\n```python\nprint(1)\n```\n\n最后一段 🎉。"


@pytest.fixture
async def house(db: SqliteDatabase) -> AsyncIterator[House]:
    async with House(db) as made:
        yield made


def desk_of(view: ChatView) -> Desk:
    return Desk(view, None)


async def say(view: ChatView, text: str, key: str = "k1", came_from: int | None = None) -> None:
    event: Any = SimpleNamespace(args={"do": "send", "text": text, "key": key, "from": came_from})
    await desk_of(view).did(event)


async def opened(house: House) -> tuple[ChatView, Told, int]:
    """A page on an empty conversation that it follows."""
    view, told = house.page()
    conversation = await house.chat.create(view.who)
    await view.open(conversation)
    return view, told, conversation


def sent(told: Told) -> dict[str, Any]:
    return next(data for kind, data in reversed(told.log) if kind == "sent")


async def test_an_answer_is_seen_growing_and_ends_whole(house: House) -> None:
    go = asyncio.Event()

    async def script(work: Work) -> Ending:
        for at in range(0, len(TEXT), 5):
            work.tell("text", delta=TEXT[at : at + 5])
            if at == 20:
                await go.wait()
        return answer(TEXT)

    house.agent.scripts.append(script)
    view, told = house.page()
    await say(view, "你好")
    key = f"j{(await house.trace.recent(view.who))[0].id}"
    await told.until(lambda: "标题" in told.texts.get(key, ""))
    assert told.texts[key] == render(TEXT[:25])
    go.set()
    await told.until(told.over)
    assert key not in told.items
    last = next(reversed(told.items.values()))
    assert last["html"] == render(TEXT, highlight=True)
    assert [item.get("mine", False) for item in told.items.values()] == [True, False]


async def test_the_same_key_says_it_once_and_leaves_no_empty_conversation(house: House) -> None:
    async def script(work: Work) -> Ending:
        return answer("好")

    house.agent.scripts += [script, script]
    view, told = house.page()
    await say(view, "一次", key="same")
    other, other_told = house.page()
    await say(other, "一次", key="same")
    assert sent(told)["conversation"] == sent(other_told)["conversation"]
    await told.until(told.over)
    rows = await house.chat.messages(view.who, sent(told)["conversation"])
    assert [row.direction for row in rows] == ["in", "out"]
    assert len((await view.reader.conversations(""))["rows"]) == 1


@pytest.mark.parametrize("late", [True, False])  # joins while it is said, or just as it ends
async def test_a_page_that_comes_in_the_middle_gets_every_character_once(house: House, late: bool) -> None:
    half, go = asyncio.Event(), asyncio.Event()

    async def script(work: Work) -> Ending:
        for n in range(200):
            work.tell("text", delta=f"{n} ")
            if n == 100:
                half.set()
                await go.wait()
            await asyncio.sleep(0.001 if late else 0)
        return answer(" ".join(str(n) for n in range(200)))

    house.agent.scripts.append(script)
    view, told = house.page()
    await say(view, "数数")
    async with asyncio.timeout(WAIT):
        await half.wait()
    page, late_told = house.page()
    late_told.take("open", **await page.first(sent(told)["conversation"]))
    joining = asyncio.gather(page.join(), page.join())
    go.set()
    await joining
    await late_told.until(late_told.over)
    grown = [text for key, text in late_told.texts.items() if key.startswith("j")] or ["<p></p>"]
    assert len(grown) == 1
    numbers = grown[0].removeprefix("<p>").split("</p>")[0].split()
    assert numbers == [str(n) for n in range(len(numbers))]
    assert "199" in next(reversed(late_told.items.values()))["html"]


async def test_a_page_that_was_cut_off_is_told_what_it_missed(house: House) -> None:
    async def script(work: Work) -> Ending:
        return answer("答完了")

    house.agent.scripts += [script, script]
    view, told = house.page()
    await say(view, "一")
    conversation = sent(told)["conversation"]
    await told.until(told.over)
    view.leave()  # as when the connection is gone for good and the page comes back
    other, other_told = house.page()
    await other.open(conversation)
    await say(other, "二", key="k2", came_from=conversation)
    await other_told.until(other_told.over)
    told.items.clear()
    await view.join()
    assert [item.get("text") or item["html"] for item in told.items.values()][-2:] == ["二", "<p>答完了</p>\n"]


async def test_an_answer_that_was_quicker_than_the_page_leaves_nothing_running(house: House) -> None:
    async def script(work: Work) -> Ending:
        return answer("快")

    house.agent.scripts.append(script)
    view, told = house.page()
    conversation = await house.chat.create(view.who)
    await house.chat.send(view.who, conversation, "问", client_key="k")
    async with asyncio.timeout(WAIT):
        while (await house.chat.conversation(view.who, conversation)).running:
            await asyncio.sleep(0.01)
    view.conversation = conversation
    await view.join()
    assert told.kinds() == ["merge", "idle"]
    assert told.log[-1][1]["pane"]["job"]


async def test_text_that_does_not_count_is_taken_back(house: House) -> None:
    shown, go = asyncio.Event(), asyncio.Event()

    async def script(work: Work) -> Ending:
        work.tell("text", delta="让我看看")
        shown.set()
        await go.wait()
        work.tell("text.reset")
        work.tell("text", delta="结果")
        await asyncio.sleep(0)
        go.clear()
        await go.wait()
        return answer("结果")

    house.agent.scripts.append(script)
    view, told = house.page()
    await say(view, "查一下")
    key = f"j{(await house.trace.recent(view.who))[0].id}"
    await told.until(lambda: told.texts.get(key) == "<p>让我看看</p>\n")
    go.set()
    await told.until(lambda: told.texts.get(key) == "<p>结果</p>\n")
    go.set()
    await told.until(told.over)


async def test_tools_plan_and_memories_are_shown_live_and_from_the_record_alike(house: House) -> None:
    async def script(work: Work) -> Ending:
        memory = {"id": 1, "kind": "fact", "text": "生日 5 月 3 日", "at": 1_700_000_000_000, "source": "message:1"}

        async def recall() -> str:
            return json.dumps([memory])

        async def tool() -> str:
            return json.dumps({"text": "42", "ok": True})

        async def plan() -> str:
            return json.dumps({"text": "shown", "ok": True})

        items = [{"text": "第一步", "state": "done"}, {"text": "第二步", "state": "doing"}]
        await work.step("recall", "recall", recall)
        work.tell("recall", items=[memory])
        work.tell("tool.started", id="a", name="plan", args={"items": items})
        work.tell("plan", items=items)
        await work.step("plan", "tool", plan, request=json.dumps({"items": items}))
        work.tell("tool.ended", id="a", name="plan", ok=True, result="shown", ms=1)
        work.tell("tool.started", id="b", name="read_file", args={"name": "a.txt"})
        await work.step("read_file", "tool", tool, request=json.dumps({"name": "a.txt"}))
        work.tell("tool.ended", id="b", name="read_file", ok=True, result="42", ms=7)
        return answer("好")

    house.agent.scripts.append(script)
    view, told, conversation = await opened(house)
    await say(view, "做事", came_from=conversation)
    await told.until(lambda: "ended" in told.kinds())
    live = [step for kind, data in told.log if kind == "part" for step in data.get("steps", [])]
    assert {(s["id"], s["label"], s["what"]) for s in live} == {("0", "读文件", "a.txt")}
    ended = next(data for kind, data in told.log if kind == "ended")
    recorded = ended["items"][-1]
    assert [(s["id"], s["label"], s["what"], s["state"]) for s in recorded["steps"]] == [("0", "读文件", "a.txt", "ok")]
    assert (
        recorded["plan"]
        == ended["pane"]["plan"]
        == [
            {"text": "第一步", "state": "done"},
            {"text": "第二步", "state": "doing"},
        ]
    )
    assert recorded["recalled"][0]["text"] == "生日 5 月 3 日"
    await desk_of(view).did(_event({"do": "detail", "job": recorded["job"], "key": recorded["key"], "id": "0"}))
    detail = told.log[-1][1]
    assert (detail["args"], detail["result"]) == ("name: a.txt", "42")


def _event(args: object) -> Any:
    return SimpleNamespace(args=args)


async def test_a_failed_answer_says_who_failed(house: House) -> None:
    async def script(work: Work) -> Ending:
        raise Unavailable("model.timeout")

    house.agent.scripts.append(script)
    view, told = house.page()
    await say(view, "你好")
    await told.until(told.over)
    last = next(reversed(told.items.values()))
    assert last["failed"]["who"] == view.v.t("chat.failed.network")
    assert last["failed"]["href"] == "/models"


async def test_more_messages_wait_in_line_and_answers_stand_behind_their_questions(house: House) -> None:
    go = asyncio.Event()

    async def slow(work: Work) -> Ending:
        await go.wait()
        return answer("答一")

    async def quick(work: Work) -> Ending:
        return answer("答二")

    house.agent.scripts += [slow, quick]
    view, told, conversation = await opened(house)
    await say(view, "问一", came_from=conversation)
    await say(view, "问二", key="k2", came_from=conversation)
    assert sent(told)["item"]["state"] == "queued"
    go.set()
    await told.until(lambda: told.kinds().count("ended") == 2)
    data = await house.page()[0].first(conversation)
    assert [i.get("text") or i["html"] for i in data["items"]] == ["问一", "<p>答一</p>\n", "问二", "<p>答二</p>\n"]


async def test_stop_ends_the_answer(house: House) -> None:
    running = asyncio.Event()

    async def endless(work: Work) -> Ending:
        running.set()
        await asyncio.Event().wait()
        raise AssertionError

    house.agent.scripts.append(endless)
    view, told, conversation = await opened(house)
    await say(view, "一直说", came_from=conversation)
    async with asyncio.timeout(WAIT):
        await running.wait()
    await desk_of(view).did(_event({"do": "stop"}))
    await told.until(lambda: "ended" in told.kinds())
    ended = next(data for kind, data in told.log if kind == "ended")
    assert (ended["status"], ended["running"]) == ("cancelled", False)


async def test_a_refused_message_goes_back_to_who_typed_it(house: House) -> None:
    view, told = house.page()
    with pytest.raises(Invalid):
        await say(view, "   ")
    assert told.log[-1] == ("refused", {"key": "k1", "text": "   ", "from": None})


async def test_another_persons_conversation_does_not_exist(house: House) -> None:
    async def script(work: Work) -> Ending:
        return answer("秘密")

    house.agent.scripts.append(script)
    view, told = house.page()
    await say(view, "我的")
    conversation = sent(told)["conversation"]
    await told.until(told.over)
    other, other_told = house.page(visitor("user:2"))
    with pytest.raises(NotFound):
        await other.first(conversation)
    await other.open(conversation)
    assert other_told.kinds() == ["failed"]
    desk = desk_of(other)
    job = (await house.trace.recent(view.who))[0].id
    for act in (
        {"do": "older", "before": 10**6},
        {"do": "rename", "id": conversation, "title": "x"},
        {"do": "remove", "id": conversation},
        {"do": "model", "id": conversation, "ref": "x"},
        {"do": "retry", "job": job},
        {"do": "detail", "job": job, "key": "m1", "id": "0"},
        {"do": "send", "from": conversation, "text": "x", "key": "z"},
    ):
        with pytest.raises(NotFound):
            await desk.did(_event(act))


@pytest.mark.parametrize(
    "args",
    [None, 1, [], {}, {"do": "drop"}, {"do": ["open"]}, {"do": "open", "id": "1"}, {"do": "send", "text": {"a": 1}}],
)
async def test_events_that_make_no_sense_are_refused(house: House, args: object) -> None:
    view, _ = house.page()
    with pytest.raises(Invalid):
        await desk_of(view).did(_event(args))


async def test_a_demo_answer_is_labelled(house: House) -> None:
    async def script(work: Work) -> Ending:
        return Ending(say=answer("好").say, model="demo/demo")

    house.agent.scripts.append(script)
    view, told = house.page()
    await view.first(None)
    await say(view, "你好")
    await told.until(told.over)
    assert next(reversed(told.items.values()))["demo"] is True
