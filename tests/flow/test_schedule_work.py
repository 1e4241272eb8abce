"""What runs do: commands bounded and ended whole, workflows that go on after a crash, chats that make their own."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agent.schedules.command import MOST_OUTPUT, Commands
from agent.schedules.draft import ScheduleDraft, Task
from agent.tools.base import ToolContext
from agent.tools.schedule import ScheduleArgs, SchedulesArgs, ScheduleTools
from channels.actions import BotDraft
from storage.clock import ManualClock
from storage.database import SqliteDatabase
from storage.envelope import Inbound, Part
from storage.errors import Denied, Rejected
from storage.ledger import seen_t
from tests.fakes.office import Office
from tests.schedule_house import OWNER, ScheduleHouse

HOUR = 3600


@pytest.fixture
def commands(tmp_path: Path) -> Commands:
    return Commands(tmp_path / "jobs", [tmp_path / "data"])


def script(commands: Commands, name: str, text: str) -> None:
    commands.folder.mkdir(parents=True, exist_ok=True)
    (commands.folder / name).write_text(text)


async def test_output_is_bounded_and_its_ends_are_kept(commands: Commands) -> None:
    script(commands, "loud.py", "print('begin'); print('x' * 3_000_000); print('end')")
    ran = await commands.run(["python", "loud.py"], seconds=30, environment={})
    assert ran.code == 0
    assert ran.cut
    assert len(ran.output) < MOST_OUTPUT + 20
    assert ran.output.startswith("begin")
    assert ran.output.endswith("end")


async def test_a_slow_command_is_ended_with_its_children(commands: Commands) -> None:
    script(
        commands,
        "slow.py",
        "import subprocess, sys, time\n"
        "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)', 'left-by-slow'])\n"
        "print('began', flush=True); time.sleep(60)\n",
    )
    with pytest.raises(Rejected) as refused:
        await commands.run(["python", "slow.py"], seconds=1.5, environment={})
    assert refused.value.code == "schedule.command_time"
    assert refused.value.params["output"] == "began"
    await gone("left-by-slow")


async def test_what_a_command_leaves_behind_does_not_keep_us_waiting(commands: Commands) -> None:
    script(
        commands,
        "leaves.py",
        "import subprocess, sys\n"
        "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)', 'left-by-leaves'])\n"
        "print('done')\n",
    )
    async with asyncio.timeout(20):
        ran = await commands.run(["python", "leaves.py"], seconds=60, environment={})
    assert (ran.code, ran.output) == (0, "done")
    await gone("left-by-leaves")


async def gone(mark: str) -> None:
    """Wait until no process has this word among its own; its number may be one of a sandbox."""
    async with asyncio.timeout(10):
        while any(mark in words(path) for path in Path("/proc").glob("[0-9]*/cmdline")):
            await asyncio.sleep(0.02)


def words(path: Path) -> list[str]:
    try:
        return path.read_bytes().decode("utf-8", "replace").split("\0")
    except OSError:
        return []


async def test_a_command_sees_no_secrets_of_ours(commands: Commands) -> None:
    script(commands, "env.py", "import os, json; print(json.dumps(dict(os.environ)))")
    os.environ["ZHIXING_TEST_SECRET"] = "hidden"
    try:
        ran = await commands.run(["python", "env.py"], seconds=20, environment={"SCHEDULE_NAME": "x"})
    finally:
        del os.environ["ZHIXING_TEST_SECRET"]
    told = json.loads(ran.output)
    assert "ZHIXING_TEST_SECRET" not in told
    assert told["SCHEDULE_NAME"] == "x"


@pytest.mark.parametrize("argv", [["no-such-program"], ["scripts/none.sh"], ["../../bin/none"]])
async def test_a_program_that_is_not_there_is_told(commands: Commands, argv: list[str]) -> None:
    with pytest.raises(Rejected) as refused:
        await commands.run(argv, seconds=5, environment={})
    assert refused.value.code == "schedule.program"


async def test_the_python_of_the_house_stands_in(commands: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.schedules.command.PATH", "/nowhere")
    assert commands.words(["python", "x"]) == [sys.executable, "x"]


async def test_a_sandbox_hides_what_is_ours(tmp_path: Path) -> None:
    data = tmp_path / "data"
    (data / "db").mkdir(parents=True)
    (data / "db" / "secret").write_text("canary")
    boxed = Commands(data / "jobs", [data])
    if not await boxed.sandbox():
        pytest.skip("this host has no working bubblewrap")
    script(boxed, "look.py", "import os; print(os.path.exists('../db/secret')); open('kept', 'w').write('yes')")
    ran = await boxed.run(["python", "look.py"], seconds=20, environment={})
    assert ran.output == "False"
    assert (data / "jobs" / "kept").read_text() == "yes"


# ---- workflows


@pytest.fixture
async def office() -> AsyncIterator[Office]:
    made = Office()
    await made.start()
    yield made
    await made.stop()


@pytest.fixture
async def house(db: SqliteDatabase, clock: ManualClock, tmp_path: Path) -> AsyncIterator[ScheduleHouse]:
    made = ScheduleHouse(db, clock, tmp_path)
    await made.people()
    await made.start()
    yield made
    await made.stop()


FLOW = """
- id: tickets
  http: {url: "{{value.base}}/desk/tickets?status=open", headers: {authorization: "{{secret.token}}"}}
- id: done
  each: "{{tickets.json.items}}"
  key: "{{item.id}}"
  line: "{{item.id}} {{judge.json.priority}}"
  steps:
    - id: judge
      ask: {prompt: "judge {{item.title}}", json: true}
    - id: reply
      http:
        method: POST
        url: "{{value.base}}/desk/tickets/{{item.id}}/comments"
        json: {text: "{{judge.json.reply}}"}
- id: report
  when: "{{done.count}}"
  say: "{{done.lines}}"
"""


def flow(office: Office) -> ScheduleDraft:
    task = Task(steps=FLOW, values={"base": office.base})
    return ScheduleDraft(
        name="flow", kind="workflow", expression="0 9 * * *", task=task, secrets={"token": "Bearer canary-token-1"}
    )


async def test_one_bad_item_does_not_stop_the_others_and_is_tried_again(house: ScheduleHouse, office: Office) -> None:
    answers = {"上不了网": "no json", "忘记密码": '```json\n{"priority": "low", "reply": "好"}\n```'}
    house.reply = lambda prompt: answers[prompt.removeprefix("judge ")]
    await house.schedules.save(OWNER, flow(office))
    await house.schedules.run_now(OWNER, "flow")
    (run,) = await house.settled(1)
    assert run.state == "ok"
    assert "2 low" in run.output
    assert "✗ 1" in run.output
    assert office.comments == [("2", "好")]
    answers["上不了网"] = '{"priority": "high", "reply": "来了"}'
    house.clock.advance(60)  # type: ignore[attr-defined]
    await house.schedules.run_now(OWNER, "flow")
    runs = await house.settled(2)
    assert runs[1].output == "1 high"
    assert office.comments == [("2", "好"), ("1", "来了")]
    assert office.authorised["/desk/tickets"] == "Bearer canary-token-1"


async def test_a_cut_off_workflow_goes_on_and_repeats_nothing(
    house: ScheduleHouse, office: Office, db: SqliteDatabase, clock: ManualClock, tmp_path: Path
) -> None:
    asked: list[str] = []

    def reply(prompt: str) -> str:
        asked.append(prompt)
        return '{"priority": "low", "reply": "好"}'

    house.reply = reply
    await house.schedules.save(OWNER, flow(office))
    reached, hold = asyncio.Event(), asyncio.Event()
    done = office.server.handler

    async def slow(request):  # type: ignore[no-untyped-def]
        if request.path.endswith("/2/comments"):
            reached.set()
            await hold.wait()
        return done(request)

    office.server.handler = slow
    await house.schedules.run_now(OWNER, "flow")
    async with asyncio.timeout(10):
        await reached.wait()
    await house.stop()  # as if killed: the second comment had begun
    hold.set()
    office.server.handler = done
    again = ScheduleHouse(db, clock, tmp_path)
    again.reply = reply
    await again.start()
    (run,) = await again.settled(1)
    # a call that changes something and was cut off is not repeated; a person decides
    assert (run.state, run.reason) == ("failed", "schedule.interrupted")
    assert [number for number, _ in office.comments].count("1") == 1
    assert len(asked) == 2
    keys = await db.read(lambda c: c.execute(seen_t.select()).all())
    assert [row.key for row in keys if row.scope.startswith("schedule:1")] in ([], ["done:1"])
    await again.stop()


async def test_a_dry_run_reads_and_changes_nothing(house: ScheduleHouse, office: Office) -> None:
    tried = await house.schedules.dry_run(OWNER, flow(office))
    kinds = [kind for _, kind, _ in tried.steps]
    assert kinds == ["http", "ask", "http", "ask", "http", "say"]
    assert office.comments == []
    assert house.asked == []
    assert "canary-token" not in json.dumps(tried.steps)
    assert await house.runs() == []


async def test_no_secret_is_recorded(house: ScheduleHouse, office: Office, db: SqliteDatabase) -> None:
    house.reply = lambda prompt: '{"priority": "low", "reply": "好"}'
    await house.schedules.save(OWNER, flow(office))
    await house.schedules.run_now(OWNER, "flow")
    await house.settled(1)
    await db.write(lambda c: None)
    raw = db.path.read_bytes() + db.path.with_name(db.path.name + "-wal").read_bytes()
    assert b"canary-token" not in raw


# ---- from a chat


def context(house: ScheduleHouse, conversation: int, **more: str) -> ToolContext:
    given = {
        "bot": "hr-bot",
        "channel": "feishu",
        "person": "feishu:ou_x",
        "person_name": "小王",
        "origin": "t2",
    } | more
    return ToolContext(
        tenant="main",
        group="",
        conversation_id=conversation,
        message_id=1,
        job_id=1,
        lang="zh_CN",
        workspace=house.folder,
        tell=lambda *a, **k: None,
        **given,  # type: ignore[arg-type]
    )


async def test_a_person_makes_sees_and_ends_their_own_reminder(
    house: ScheduleHouse, clock: ManualClock, office: Office
) -> None:
    draft = BotDraft(
        name="hr-bot", type="webhook", mode="push", settings={"endpoint": f"{office.base}/group"}, secrets={}
    )
    await house.actions.save(OWNER, draft)
    said = Inbound(
        tenant="main", bot="hr-bot", channel="webhook", keys=("k",), vendor_id="", conversation="ou_x", kind="direct",
        sender="ou_x", parts=(Part(kind="text", text="hi"),), address='{"to":"ou_x"}',
    )  # fmt: skip
    accepted = await house.ledger.accept(said)
    add, see = (tool.run for tool in ScheduleTools(lambda: house.schedules, house.words).tools())
    ctx = context(house, accepted.conversation_id)
    made = await add(ctx, ScheduleArgs(when="每天早上9点", what="写日报"))
    assert made.ok
    assert "每天 09:00" in made.text
    row = await house.views.get(OWNER, "写日报")
    assert (row.from_chat, row.owner, row.draft.kind) == (True, "feishu:ou_x", "message")
    assert "写日报" in (await see(ctx, SchedulesArgs())).text
    assert "写日报" not in (await see(context(house, 1, person="feishu:other"), SchedulesArgs())).text
    wrong = await add(ctx, ScheduleArgs(when="有空的时候", what="x"))
    assert not wrong.ok
    outside = await add(context(house, accepted.conversation_id, origin="t5"), ScheduleArgs(when="每天9点", what="x"))
    assert not outside.ok
    # no longer allowed to talk with the bot: nothing is sent, and it pauses itself
    clock.advance(2 * HOUR)
    await house.ticker.tick()
    (run,) = await house.settled(1)
    assert (run.state, run.reason) == ("failed", "schedule.owner_gone")
    assert not (await see(context(house, 1, person="feishu:other"), SchedulesArgs(remove="写日报"))).ok
    assert (await see(ctx, SchedulesArgs(remove="写日报"))).ok
    assert await house.views.list(OWNER) == []


async def test_a_reminder_of_the_playground_answers_there(house: ScheduleHouse, clock: ManualClock) -> None:
    said = Inbound(
        tenant="main", bot="web", channel="web", keys=("k",), vendor_id="", conversation="c-1", kind="direct",
        sender="user:2", parts=(Part(kind="text", text="hi"),),
    )  # fmt: skip
    accepted = await house.ledger.accept(said)
    add = ScheduleTools(lambda: house.schedules, house.words).tools()[0].run
    ctx = context(house, accepted.conversation_id, bot="web", channel="web", person="user:2")
    assert (await add(ctx, ScheduleArgs(when="每天早上9点", what="写日报"))).ok
    clock.advance(2 * HOUR)
    await house.ticker.tick()
    (run,) = await house.settled(1)
    assert run.state == "ok"
    (delivery,) = [row for row in await house.deliveries() if row.job_id == run.job_id]
    assert (delivery.conversation_id, delivery.status) == (accepted.conversation_id, "delivered")
    command = ScheduleDraft(name="x", kind="command", expression="0 9 * * *", task=Task(command="ls"))
    with pytest.raises(Denied):
        await house.schedules.save_from_chat(OWNER, command, address="{}", conversation="c-1", origin="t2")
