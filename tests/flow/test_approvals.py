"""Acts that need a person's word, on the whole way: asked in the chat, decided once, done once or not at all."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import select

from agent.approval_actions import ApprovalActions
from agent.loop import AgentLoop
from agent.models.base import Completed, ModelChoice, ModelEvent, ModelRequest, ToolCall
from agent.permission import Permission
from agent.tool_actions import ToolActions
from agent.tools.base import Args, Tool, Toolbox, ToolContext, ToolResult
from agent.tools.message import message_tool
from agent.tools.policy import ToolPolicies
from channels.decisions import Decisions
from channels.feishu.stream import StreamPace
from channels.pushes import Pushes
from storage.approvals import Approvals
from storage.audit import Audit
from storage.clock import ManualClock
from storage.database import SqliteDatabase
from storage.errors import Conflict, Denied, Invalid
from storage.ledger import job_t, step_t
from storage.principal import principal
from storage.tables.approvals import Approval
from storage.tables.system import AuditRow
from tests.bot_house import ADMIN, BotHouse
from tests.fakes.feishu_events import FeishuEvents
from tests.fakes.feishu_server import FeishuServer

approval_t = Approval.__table__  # type: ignore[attr-defined]
audit_t = AuditRow.__table__  # type: ignore[attr-defined]
MEMBER = principal(id="user:7", name="mia", role="member")


class OnceArgs(Args):
    what: str


class House(BotHouse):
    """Bots, the real loop with a scripted model, and two tools that need a word."""

    def __init__(self, db: SqliteDatabase, clock: ManualClock, files: Path) -> None:
        audit = Audit(clock, b"a" * 32)
        super().__init__(db, clock, files)
        self.approvals = Approvals(self.ledger, audit)
        self.decisions = Decisions(approvals=self.approvals, outbox=self.outbox, words=self.words)
        self.decisions.config = self.bots.config
        self.bots._clicked, self.bots._spoken = self.decisions.clicked, self.decisions.spoken
        self.approval_actions = ApprovalActions(approvals=self.approvals)
        self.done: list[str] = []
        self.asked: list[ModelRequest] = []
        self.script: Callable[[ModelRequest], Completed] = self.call_once

        async def once(ctx: ToolContext, args: OnceArgs) -> ToolResult:
            self.done.append(args.what)
            return ToolResult(text=f"done: {args.what}")

        tool = Tool(
            name="once",
            description="does it",
            args=OnceArgs,
            run=once,
            effect="outside",
            repeatable=False,
            approval=True,
        )
        toolbox = Toolbox([tool, message_tool(Pushes(bots=self.bots).send)])
        self.policies = ToolPolicies(db, clock)
        self.tool_actions = ToolActions(db=db, audit=audit, clock=clock, toolbox=toolbox, policies=self.policies)
        model: Any = SimpleNamespace(name="m", context_tokens=32_000)
        choice = ModelChoice(ref="p/m", provider="p", model=model)
        router: Any = SimpleNamespace(chain=lambda tenant, wanted="": [choice])

        async def answer(chain: Any, request: ModelRequest) -> AsyncIterator[ModelEvent]:
            self.asked.append(request)
            yield self.script(request)

        self.loop = AgentLoop(
            router=router,
            answer=answer,  # type: ignore[arg-type]
            toolbox=toolbox,
            words=self.words,
            files_dir=files,
            permission=Permission(approvals=self.approvals, policies=self.policies, words=self.words),
        )
        self.runner.handlers["message"] = self.loop

    def call_once(self, request: ModelRequest) -> Completed:
        last = request.messages[-1]
        if last.role == "tool":
            return Completed(text=f"结果：{last.text}")
        return Completed(text="", calls=(ToolCall(id="c1", name="once", arguments={"what": "删掉旧文件"}),))

    async def say(self, text: str, *, person: str = "ou_anna", again: Any = None, chat: str = "") -> Any:
        events = FeishuEvents(now=self.clock.ms)
        raw = again or events.raw_message(text, person=person)
        posted = events.posted(raw)
        status, _ = await self.post("/webhooks/feishu/hr-bot", posted.body, posted.headers)
        assert status == 200
        return raw

    async def press(self, value: str, person: str = "ou_anna") -> str:
        """Press a button of a card; what the vendor is told to show."""
        events = FeishuEvents(now=self.clock.ms)
        raw = {
            "schema": "2.0",
            "header": {
                "event_id": f"press-{value}-{person}-{len(self.asked)}-{self.clock.ms()}",
                "event_type": "card.action.trigger",
                "create_time": str(self.clock.ms()),
                "token": events.verification_token,
                "app_id": events.app_id,
                "tenant_key": "tk_test",
            },
            "event": {
                "operator": {"open_id": person},
                "action": {"tag": "button", "value": {"v": value}},
                "context": {"open_message_id": "om_1", "open_chat_id": "oc_1"},
            },
        }
        posted = events.posted(raw)
        status, body = await self.post("/webhooks/feishu/hr-bot", posted.body, posted.headers)
        assert status == 200
        return str((body or {}).get("toast", {}).get("content", ""))

    async def waiting(self) -> Any:
        """The approval that waits, once there is one and its job rests."""
        found: list[Any] = []

        async def look() -> bool:
            found[:] = await self.approvals.open("main")
            return bool(found)

        await self.until(look)
        return found[0]

    async def job(self, job: int = 1) -> Any:
        return await self.db.read(lambda c: c.execute(select(job_t).where(job_t.c.id == job)).one())

    async def ended(self, job: int = 1) -> Any:
        async def look() -> bool:
            return (await self.job(job)).ended_at is not None

        await self.until(look)
        return await self.job(job)

    async def audited(self) -> list[tuple[str, str]]:
        query = select(audit_t.c.who, audit_t.c.action).where(audit_t.c.action == "approval.decide")
        return [(row.who, row.action) for row in await self.db.read(lambda c: c.execute(query).all())]


@pytest.fixture
async def feishu() -> AsyncIterator[FeishuServer]:
    made = await FeishuServer().start()
    yield made
    await made.stop()


@pytest.fixture
async def house(db: SqliteDatabase, clock: ManualClock, tmp_path: Path, feishu: FeishuServer) -> AsyncIterator[House]:
    made = House(db, clock, tmp_path)
    await made.start()
    await made.feishu(feishu.base, approvers="ou_boss")
    yield made
    await made.stop()


def buttons(feishu: FeishuServer) -> list[str]:
    """Values of the buttons of the newest card."""
    card = feishu.messages[-1].content
    return [
        behavior["value"]["v"]
        for element in card["body"]["elements"]
        if element["tag"] == "button"
        for behavior in element["behaviors"]
    ]


async def test_asked_in_a_card_and_done_once_after_a_press(house: House, feishu: FeishuServer) -> None:
    await house.say("删掉旧文件")
    view = await house.waiting()
    await house.until(lambda: feishu.messages)
    assert "删掉旧文件" in feishu.messages[0].text
    assert view.code in feishu.messages[0].text
    assert (await house.job()).status == "waiting"
    assert house.done == []
    yes, no = buttons(feishu)
    assert await house.press(yes) == house.words.say("zh_CN", "approval.said.approved")
    assert (await house.ended()).status == "done"
    assert house.done == ["删掉旧文件"]
    await house.until(lambda: len(feishu.messages) == 2)
    assert "done: 删掉旧文件" in feishu.messages[1].text
    assert "已经同意过" in await house.press(no)
    assert house.done == ["删掉旧文件"]
    assert await house.audited() == [("feishu:ou_anna", "approval.decide")]
    assert len(house.asked) == 2  # the recorded model step was not asked again


async def test_refused_and_the_model_is_told_no(house: House, feishu: FeishuServer) -> None:
    await house.say("删掉旧文件")
    view = await house.waiting()
    await house.press(f"approval:{view.id}:no")
    await house.ended()
    assert house.done == []
    assert "refused" in house.asked[-1].messages[-1].text


async def test_typed_words_decide_where_there_are_no_buttons(house: House, feishu: FeishuServer) -> None:
    await house.say("删掉旧文件")
    view = await house.waiting()
    raw = await house.say(f" 同意 {view.code.lower()} ")
    await house.ended()
    assert house.done == ["删掉旧文件"]
    await house.say("", again=raw)  # the vendor delivers it again
    await house.until(lambda: len(feishu.messages) == 3)
    said = [m.text for m in feishu.messages if "已同意" in m.text]
    assert len(said) == 1
    assert (await house.stored())[1] == 1  # the word itself was no work for the agent


async def test_only_whoever_asked_or_an_approver_decides(house: House, feishu: FeishuServer) -> None:
    await house.say("删掉旧文件")
    view = await house.waiting()
    assert "不由你决定" in await house.press(f"approval:{view.id}:yes", person="ou_mallory")
    await house.say(f"同意 {view.code}", person="ou_mallory")
    await house.until(lambda: any("不由你决定" in m.text for m in feishu.messages))
    assert (await house.job()).status == "waiting"
    await house.press(f"approval:{view.id}:yes", person="ou_boss")
    await house.ended()
    assert await house.audited() == [("feishu:ou_boss", "approval.decide")]


async def test_where_approvers_decide_the_asker_does_not(house: House) -> None:
    await house.tool_actions.choose(ADMIN, "once", off=False, approval="always", decides="approver")
    await house.say("删掉旧文件")
    view = await house.waiting()
    assert "不由你决定" in await house.press(f"approval:{view.id}:yes")
    await house.press(f"approval:{view.id}:yes", person="ou_boss")
    await house.ended()
    assert house.done == ["删掉旧文件"]


async def test_another_bots_people_have_no_say(house: House, feishu: FeishuServer) -> None:
    await house.feishu(feishu.base, name="other", approvers="ou_mallory")
    await house.say("删掉旧文件")
    view = await house.waiting()
    config = house.bots.config("main", "other")
    assert config is not None
    from channels.hooks import Click

    click = Click(tenant="main", bot="other", channel="feishu", person="ou_mallory", value=f"approval:{view.id}:yes")
    assert "没有这个" in await house.decisions.clicked(click)
    assert (await house.job()).status == "waiting"


async def test_many_presses_at_once_decide_once(house: House) -> None:
    await house.say("删掉旧文件")
    view = await house.waiting()
    import asyncio

    results = await asyncio.gather(*(house.approvals.decide(ADMIN, view.id, approve) for approve in (True, False) * 10))
    assert [r.fresh for r in results].count(True) == 1
    await house.ended()
    assert house.done == ["删掉旧文件"]
    assert len(await house.audited()) == 1


async def test_nobody_decides_and_it_runs_out(house: House, clock: ManualClock) -> None:
    await house.say("删掉旧文件")
    view = await house.waiting()
    assert await house.approvals.expire() == 0
    clock.advance(24 * 3600 + 1)
    assert await house.approvals.expire() == 1
    await house.ended()
    assert house.done == []
    assert "nobody decided" in house.asked[-1].messages[-1].text
    assert (await house.approvals.get("main", view.id)).status == "expired"


async def test_a_word_that_comes_too_late_counts_as_none(house: House, clock: ManualClock) -> None:
    await house.say("删掉旧文件")
    view = await house.waiting()
    clock.advance(24 * 3600 + 1)
    assert not (await house.approvals.decide(ADMIN, view.id, True)).fresh
    await house.ended()
    assert house.done == []


async def test_a_cancelled_task_needs_no_word(house: House) -> None:
    await house.say("删掉旧文件")
    view = await house.waiting()
    assert await house.ledger.cancel("main", 1)
    assert await house.approvals.open("main") == []
    with pytest.raises(Conflict, match=r"approval\.over"):
        await house.approvals.decide(ADMIN, view.id, True)
    assert house.done == []


async def test_the_question_survives_a_restart(
    db: SqliteDatabase, clock: ManualClock, tmp_path: Path, feishu: FeishuServer
) -> None:
    first = House(db, clock, tmp_path)
    await first.start()
    await first.feishu(feishu.base)
    await first.say("删掉旧文件")
    view = await first.waiting()
    await first.stop()
    second = House(db, clock, tmp_path)
    await second.start()
    assert (await second.job()).status == "waiting"
    await second.press(f"approval:{view.id}:yes")
    await second.ended()
    assert (first.done, second.done) == ([], ["删掉旧文件"])
    await second.stop()


async def test_others_may_talk_while_one_act_waits(house: House, feishu: FeishuServer) -> None:
    await house.say("删掉旧文件")
    await house.waiting()
    house.script = lambda request: Completed(text="随便聊聊")
    await house.say("你好")
    await house.until(lambda: any("随便聊聊" in m.text for m in feishu.messages))
    assert (await house.job()).status == "waiting"


async def test_an_admin_frees_a_tool_or_switches_it_off(house: House) -> None:
    row = await house.tool_actions.choose(ADMIN, "once", off=False, approval="never", decides="asker")
    assert (row.asks, row.own) == (False, True)
    await house.say("删掉旧文件")
    assert (await house.ended()).status == "done"
    assert house.done == ["删掉旧文件"]
    await house.tool_actions.choose(ADMIN, "once", off=True, approval="", decides="asker")
    await house.say("再删一次")
    await house.ended(2)
    assert "once" not in [t.name for t in house.asked[-2].tools]
    assert house.done == ["删掉旧文件"]
    with pytest.raises(Denied):
        await house.tool_actions.choose(MEMBER, "once", off=False, approval="", decides="asker")
    with pytest.raises(Invalid):
        await house.tool_actions.choose(ADMIN, "once", off=False, approval="sometimes", decides="asker")


async def test_wrong_arguments_are_told_to_the_model_and_nobody_is_asked(house: House) -> None:
    def script(request: ModelRequest) -> Completed:
        if request.messages[-1].role == "tool":
            return Completed(text="ok")
        return Completed(text="", calls=(ToolCall(id="c1", name="once", arguments={"wrong": 1}),))

    house.script = script
    await house.say("x")
    await house.ended()
    assert await house.approvals.open("main") == []
    assert "wrong arguments" in house.asked[-1].messages[-1].text


async def test_a_message_to_somebody_else_goes_out_after_a_word(house: House, feishu: FeishuServer) -> None:
    def script(request: ModelRequest) -> Completed:
        if request.messages[-1].role == "tool":
            return Completed(text="ok")
        args = {"to": "oc_team", "text": "下午三点开会"}
        return Completed(text="", calls=(ToolCall(id="c1", name="send_message", arguments=args),))

    house.script = script
    await house.say("告诉大家下午三点开会")
    view = await house.waiting()
    await house.until(lambda: feishu.messages)
    assert "oc_team" in feishu.messages[0].text
    await house.press(f"approval:{view.id}:yes")
    await house.until(lambda: any(m.to == "oc_team" for m in feishu.messages))
    (sent,) = [m for m in feishu.messages if m.to == "oc_team"]
    assert sent.text == "下午三点开会"


async def test_what_a_model_writes_cannot_leave_its_block(house: House, feishu: FeishuServer) -> None:
    evil = "x\n```\n\n**已经同意**\u202e 回复“同意 A2B3”"

    def script(request: ModelRequest) -> Completed:
        if request.messages[-1].role == "tool":
            return Completed(text="ok")
        return Completed(text="", calls=(ToolCall(id="c1", name="once", arguments={"what": evil}),))

    house.script = script
    await house.say("x")
    await house.waiting()
    await house.until(lambda: feishu.messages)
    assert "````" in feishu.messages[0].text
    assert "\u202e" not in feishu.messages[0].text


async def test_a_growing_card_stands_still_while_a_word_is_awaited(
    db: SqliteDatabase, clock: ManualClock, tmp_path: Path, feishu: FeishuServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("channels.feishu.runtime.StreamPace", lambda: StreamPace(first=0.01, every=0.01))
    house = House(db, clock, tmp_path)
    await house.start()
    await house.feishu(feishu.base, stream="on")
    try:
        await house.say("删掉旧文件")
        view = await house.waiting()
        await house.until(lambda: any(view.code in m.text for m in feishu.messages))
        await house.press(f"approval:{view.id}:yes")
        await house.ended()
        await house.delivered(2)
        assert sum("done: 删掉旧文件" in m.text for m in feishu.messages) == 1
        assert not any(card.streaming for card in feishu.cards.cards.values())
    finally:
        await house.stop()


async def test_the_wait_is_a_step_and_no_time_of_ours(house: House, clock: ManualClock) -> None:
    await house.say("删掉旧文件")
    view = await house.waiting()
    clock.advance(3600)
    await house.approvals.decide(ADMIN, view.id, True)
    await house.ended()
    query = select(step_t).where(step_t.c.kind == "approval")
    (step,) = await house.db.read(lambda c: c.execute(query).all())
    assert step.ended_at - step.started_at >= 3_600_000


async def test_people_without_the_right_see_only_what_is_theirs(house: House) -> None:
    await house.say("删掉旧文件")
    view = await house.waiting()
    assert [item.id for item in await house.approval_actions.list(ADMIN)] == [view.id]
    assert await house.approval_actions.list(MEMBER) == []
    with pytest.raises(Denied, match=r"approval\.not_yours"):
        await house.approval_actions.decide(MEMBER, view.id, True)
