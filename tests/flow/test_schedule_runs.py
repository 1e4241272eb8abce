"""From the planned time to the vendor's receipt: entered once, run with today's rights, told, retried, alerted."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from agent.schedules.entry import read_entry
from agent.schedules.rows import schedule_t
from agent.schedules.standing import user_t
from storage.clock import ManualClock
from storage.database import SqliteDatabase
from storage.envelope import Outgoing
from storage.errors import Conflict, Denied, Invalid, NotFound
from storage.ledger import Ending
from storage.provision import ConfigFile, Provisioning, each, read_entries
from tests.fakes.quick_http import QuickServer, Request, Response, answer
from tests.schedule_house import MEMBER, OPERATOR, OWNER, Receiver, ScheduleHouse

HOUR, DAY = 3600, 86_400


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    made = Receiver()
    await made.server.start()
    yield made
    await made.server.stop()


@pytest.fixture
async def house(
    db: SqliteDatabase, clock: ManualClock, tmp_path: Path, receiver: Receiver
) -> AsyncIterator[ScheduleHouse]:
    clock.advance(30)  # begins at 08:00:30 in Shanghai, an hour before the schedules of these tests
    made = ScheduleHouse(db, clock, tmp_path)
    await made.people()
    await made.start()
    await made.webhook("dingtalk", receiver.server.base)
    yield made
    await made.stop()


async def pass_nine(house: ScheduleHouse, clock: ManualClock, seconds: float = HOUR) -> int:
    clock.advance(seconds)
    return await house.ticker.tick()


async def test_a_planned_time_is_run_once_and_delivered_with_a_receipt(
    house: ScheduleHouse, clock: ManualClock, receiver: Receiver
) -> None:
    await house.make(bot="dingtalk", text="写日报")
    assert await house.ticker.tick() == 0
    assert await pass_nine(house, clock) == 1
    assert await house.ticker.tick() == 0
    (run,) = await house.settled(1)
    assert run.state == "ok"
    (delivery,) = await house.delivered(1)
    assert (delivery.bot, delivery.status, delivery.vendor_id) == ("dingtalk", "delivered", "r1")
    assert receiver.texts == ["写日报"]
    (view,) = await house.views.runs(OWNER)
    assert (view.delivery, view.state, view.ms) == ("sent", "ok", 0)
    (row,) = await house.views.list(OWNER)
    assert row.success == 1.0
    assert row.next_at == run.planned_at + DAY * 1000


async def test_a_prompt_goes_through_the_agent_and_its_answer_is_told(
    house: ScheduleHouse, clock: ManualClock, receiver: Receiver
) -> None:
    house.answers.say = lambda work: Ending(say=(Outgoing(kind="answer", text="总结好了"),), model="m", tokens_in=7)
    await house.make(kind="prompt", bot="dingtalk", text="总结昨天")
    await pass_nine(house, clock)
    await house.delivered(1)
    assert receiver.texts == ["总结好了"]
    assert house.answers.ran[0].message_id is not None


async def test_the_documents_file_works_unchanged(house: ScheduleHouse, clock: ManualClock, receiver: Receiver) -> None:
    text = (
        'jobs:\n- name: "daily_report"\n  schedule: "0 9 * * *" # 每天9点执行\n'
        '  command: "python scripts/generate_report.py"\n  channel: "dingtalk"\n'
        '- name: "data_sync"\n  schedule: "*/30 * * * *" # 每30分钟执行\n'
        '  command: "python scripts/sync_data.py"\n  channel: "feishu"\n'
    )
    house.script("scripts/generate_report.py", "print('报表：一切正常')\n")
    house.script("scripts/sync_data.py", "import os; open('synced', 'w').write(os.environ['SCHEDULE_NAME'])\n")
    entries = each("scheduler.yaml", read_entries(text, "jobs", "scheduler.yaml", {}), read_entry)
    await house.schedules.provision("scheduler.yaml", entries)
    rows = {row.name: row for row in await house.views.list(OWNER)}
    assert {name: row.state for name, row in rows.items()} == {"daily_report": "waits", "data_sync": "waits"}
    assert await pass_nine(house, clock) == 0
    assert await house.runs() == []
    with pytest.raises(Denied):
        await house.schedules.allow(OPERATOR, "daily_report")
    for name in rows:
        await house.schedules.allow(OWNER, name)
    await house.schedules.provision("scheduler.yaml", entries)  # looked at again: still allowed
    await pass_nine(house, clock, DAY)
    await house.settled(3)  # and one that stands for those half hours at which nobody looked
    await house.delivered(1)
    assert receiver.texts == ["报表：一切正常"]
    assert (house.folder / "synced").read_text() == "data_sync"
    by_name = {run.schedule: run for run in await house.views.runs(OWNER, state="ok")}
    assert by_name["daily_report"].delivery == "sent"
    assert by_name["data_sync"].delivery == "silent"
    assert [item["name"] for item in await house.schedules.export(OWNER)] == ["daily_report", "data_sync"]
    with pytest.raises(Conflict):
        await house.schedules.remove(OWNER, "daily_report")
    await house.schedules.provision("scheduler.yaml", [])
    assert await house.views.list(OWNER) == []


async def test_a_changed_command_waits_again(house: ScheduleHouse) -> None:
    def entry(command: str) -> list[Any]:
        return [read_entry({"name": "x", "schedule": "0 9 * * *", "command": command})]

    await house.schedules.provision("scheduler.yaml", entry("echo 1"))
    await house.schedules.allow(OWNER, "x")
    assert (await house.views.get(OWNER, "x")).state == "on"
    await house.schedules.provision("scheduler.yaml", entry("echo 2"))
    assert (await house.views.get(OWNER, "x")).state == "waits"
    with pytest.raises(Denied):
        await house.schedules.run_now(OWNER, "x")


@pytest.mark.parametrize(
    ("change", "code"),
    [({"role": "member"}, "schedule.owner_right"), ({"disabled_at": 5}, "schedule.owner_gone")],
)
async def test_a_run_has_no_more_rights_than_its_owner_has_today(
    house: ScheduleHouse, clock: ManualClock, receiver: Receiver, change: dict[str, Any], code: str
) -> None:
    await house.make(bot="dingtalk")
    await house.db.write(lambda c: c.execute(update(user_t).where(user_t.c.id == 1).values(**change)))
    await pass_nine(house, clock)
    (run,) = await house.settled(1)
    assert (run.state, run.reason) == ("failed", code)
    row = await house.views.get(OWNER, "job")
    assert (row.state, row.paused_why) == ("paused", code)
    await house.delivered(1)  # the alert
    assert len(receiver.texts) == 1


async def test_failures_are_tried_again_then_alerted_once_then_recovered_once(
    house: ScheduleHouse, clock: ManualClock, receiver: Receiver
) -> None:
    wrong = True

    def handle(request: Request) -> Response:
        return answer({"no": 1}, 503) if wrong else answer({"fine": True})

    other = QuickServer(handle)
    base = await other.start()
    await house.make(kind="http", url=f"{base}/x", bot="dingtalk", retries=1, backoff=60, alert_after=2, pause_after=4)
    for day in range(3):
        await pass_nine(house, clock, HOUR if day == 0 else DAY - 60)
        runs = await house.settled(day + 1)
        assert runs[-1].state == "waiting"
        assert await house.ticker.tick() == 0
        clock.advance(60)
        assert await house.ticker.tick() == 1
        runs = await house.settled(day + 1)
        assert (runs[-1].state, runs[-1].attempt) == ("failed", 2)
    assert len(await house.delivered(1)) == 1
    wrong = False
    await pass_nine(house, clock, DAY - 60)
    await house.delivered(3)
    assert "job" in receiver.texts[0]
    assert "503" in receiver.texts[0]
    assert len(receiver.texts) == 3  # alert, recovery, and what the call said
    assert (await house.views.get(OWNER, "job")).failures == 0
    await other.stop()


async def test_it_pauses_by_itself_after_so_many_failures(
    house: ScheduleHouse, clock: ManualClock, receiver: Receiver
) -> None:
    await house.make(kind="command", command="false", bot="dingtalk", alert_after=0, pause_after=2)
    await pass_nine(house, clock)
    await house.settled(1)
    await pass_nine(house, clock, DAY)
    await house.settled(2)
    row = await house.views.get(OWNER, "job")
    assert (row.state, row.paused_why, row.failures) == ("paused", "schedule.paused_failures", 2)
    await pass_nine(house, clock, DAY)
    assert len(await house.runs()) == 2
    assert (await house.schedules.pause(OWNER, "job", paused=False)).state == "on"
    assert await house.ticker.tick() == 0  # what passed meanwhile is not missed


@pytest.mark.parametrize(
    ("missed", "within", "states"),
    [
        ("skip", 0, ["missed"]),
        ("once", 0, ["missed", "ok"]),
        ("all", 0, ["ok", "ok", "ok"]),
        ("all", 50 * HOUR, ["missed", "ok", "ok"]),
    ],
)
async def test_missed_times_follow_their_policy(
    house: ScheduleHouse, clock: ManualClock, missed: str, within: int, states: list[str]
) -> None:
    await house.make(missed=missed, missed_within=within)
    clock.advance(3 * DAY - 2 * HOUR)  # nobody looked for three nines
    await house.ticker.tick()
    runs = await house.settled(len(states))
    assert [run.state for run in runs] == states
    counts = [run._mapping["count"] for run in runs if run.state == "missed"]
    assert sum(counts) + sum(run.state == "ok" for run in runs) == 3


@pytest.mark.parametrize(
    ("overlap", "states"),
    [("skip", ["running", "skipped"]), ("queue", ["running", "queued"]), ("parallel", ["running", "running"])],
)
async def test_overlapping_times_follow_their_policy(
    house: ScheduleHouse, clock: ManualClock, overlap: str, states: list[str]
) -> None:
    house.answers.gate.clear()
    await house.make(kind="prompt", overlap=overlap, timeout=3600)
    await pass_nine(house, clock)

    async def begun(n: int) -> bool:
        return sum(run.state == "running" for run in await house.runs()) == n

    await house.until(lambda: begun(1))
    clock.advance(DAY)
    await house.ticker.tick()
    await house.until(lambda: begun(states.count("running")))
    assert [run.state for run in await house.runs()] == states
    house.answers.gate.set()
    await house.settled(2)
    assert len(house.answers.ran) == 2 - states.count("skipped")


async def test_a_clock_that_is_set_back_runs_nothing_twice(house: ScheduleHouse, clock: ManualClock) -> None:
    await house.make()
    await pass_nine(house, clock)
    await house.settled(1)
    clock.jump(-HOUR)
    assert await house.ticker.tick() == 0
    clock.jump(HOUR)
    assert await house.ticker.tick() == 0
    clock.jump(400 * DAY)  # a clock that was wrong, and is mended again
    await house.ticker.tick()
    clock.jump(-400 * DAY + DAY)
    await house.ticker.tick()
    runs = await house.settled(1)
    assert len({run.planned_at for run in runs}) == len(runs)
    assert (await house.views.get(OWNER, "job")).next_at == runs[0].planned_at + 2 * DAY * 1000


async def test_two_processes_enter_a_time_once(
    house: ScheduleHouse, clock: ManualClock, db: SqliteDatabase, tmp_path: Path
) -> None:
    await house.make()
    other = ScheduleHouse(db, clock, tmp_path)
    clock.advance(HOUR)
    row = (await db.read(lambda c: house.ticker._due(c, clock.ms())))[0][0]
    from agent.schedules.planning import plan
    from agent.schedules.rows import rule_of
    from agent.schedules.workdays import Workdays

    made = plan(rule_of(row), row.cursor, clock.ms(), 0, Workdays())
    assert len(await other.ticker._take(row, made)) == 1
    assert await house.ticker._take(row, made) == []
    assert len(await house.runs()) == 1
    await other.background.stop(1)
    await other.egress.close()


async def test_run_now_cancel_and_their_rights(house: ScheduleHouse, clock: ManualClock) -> None:
    house.answers.gate.clear()
    await house.make(kind="prompt")
    run = await house.schedules.run_now(OPERATOR, "job")
    assert (run.cause, run.by) == ("person", "operator")
    with pytest.raises(Conflict):
        await house.schedules.run_now(OPERATOR, "job")
    with pytest.raises(Denied):
        await house.schedules.run_now(MEMBER, "job")
    with pytest.raises(Denied):
        await house.schedules.pause(OPERATOR, "job")
    assert await house.schedules.cancel(OPERATOR, run.id)
    await house.ticker.settle()
    assert (await house.views.run(OWNER, run.id)).state == "cancelled"
    assert not await house.schedules.cancel(OPERATOR, run.id)
    with pytest.raises(NotFound):
        await house.views.run(OWNER, 999)


async def test_a_channel_that_is_not_there_is_said_in_the_history(house: ScheduleHouse, clock: ManualClock) -> None:
    await house.make(bot="nobody")
    await pass_nine(house, clock)
    await house.settled(1)
    (run,) = await house.views.runs(OWNER)
    assert (run.state, run.delivery, run.delivery_error) == ("ok", "failed", "schedule.no_bot")
    assert await house.deliveries() == []


async def test_one_time_is_over_after_it(house: ScheduleHouse, clock: ManualClock) -> None:
    await house.make(expression="2026-01-01 09:00")
    assert await pass_nine(house, clock) == 1
    await house.settled(1)
    row = await house.views.get(OWNER, "job")
    assert (row.state, row.next_at) == ("over", None)
    with pytest.raises(Invalid) as refused:
        await house.make("late", expression="2026-01-01 09:00")
    assert refused.value.code == "schedule.never"


async def test_an_expired_schedule_plans_nothing(house: ScheduleHouse, clock: ManualClock) -> None:
    await house.make(expires_at=clock.ms() + 2 * HOUR * 1000)
    assert await pass_nine(house, clock) == 1
    await house.settled(1)
    assert (await house.views.get(OWNER, "job")).state == "over"


async def test_a_days_change_moves_what_is_planned(house: ScheduleHouse, clock: ManualClock) -> None:
    from datetime import UTC, date, datetime

    await house.make(expression="0 9 W * *")  # 1 January 2026 is a holiday, 2 and 3 too, 4 is a make-up day
    (before,) = [row.next_at for row in await house.views.list(OWNER)]
    await house.schedules.set_day(OWNER, date(2026, 1, 2), True, "加班")
    (after,) = [row.next_at for row in await house.views.list(OWNER)]
    assert before
    assert after
    days = [datetime.fromtimestamp(at / 1000, UTC).day for at in (before, after)]
    assert days == [4, 2]
    month = await house.views.month(OWNER, 2026, 1)
    assert (month[1].known.edited, month[1].known.name, len(month[1].coming)) == (True, "加班", 1)
    await house.schedules.set_day(OWNER, date(2026, 1, 2), None)
    assert [row.next_at for row in await house.views.list(OWNER)] == [before]


async def test_what_a_crash_left_between_is_settled(house: ScheduleHouse, clock: ManualClock) -> None:
    house.ledger.in_finish = lambda c, job, ending, now: ()
    await house.make()
    await pass_nine(house, clock)

    async def ended() -> bool:
        return bool(await house.db.read(house.parts.settling.left_open))

    await house.until(ended)
    assert [run.state for run in await house.runs()] == ["running"]
    await house.ticker.settle()
    assert [run.state for run in await house.runs()] == ["ok"]
    await house.ticker.settle()


async def test_old_runs_are_dropped(house: ScheduleHouse, clock: ManualClock) -> None:
    await house.make()
    await pass_nine(house, clock)
    await house.settled(1)
    clock.advance(200 * DAY)
    assert await house.ticker.tidy() == 1
    assert await house.runs() == []


async def test_a_row_that_cannot_be_read_pauses_itself_alone(house: ScheduleHouse, clock: ManualClock) -> None:
    await house.make("good")
    await house.make("bad")
    await house.db.write(
        lambda c: c.execute(update(schedule_t).where(schedule_t.c.name == "bad").values(expression="nonsense"))
    )
    await pass_nine(house, clock)
    (run,) = await house.settled(1)
    assert run.state == "ok"
    assert (await house.views.get(OWNER, "bad")).paused_why == "schedule.cron_fields"


async def test_saving_is_audited_without_secrets(house: ScheduleHouse) -> None:
    from storage.audit import audit_t

    await house.make(kind="http", url="https://a.example/x", secrets={"authorization": "Bearer very-secret-9"})
    rows = await house.db.read(lambda c: c.execute(audit_t.select()).all())
    saved = [row for row in rows if row.action == "schedule.save"]
    assert "very-secret" not in json.dumps([list(map(str, row)) for row in saved])
    assert (await house.views.get(OWNER, "job")).secrets == {"authorization": "et-9"}
    with pytest.raises(Invalid) as refused:
        await house.make(kind="http", url="https://b.example/x")
    assert refused.value.code == "schedule.secret_again"
    with pytest.raises(Denied):
        await house.make("mine", who=MEMBER)


async def test_a_broken_file_is_refused_whole_and_the_old_entries_go_on(house: ScheduleHouse, tmp_path: Path) -> None:
    folder = tmp_path / "config"
    folder.mkdir()
    file = folder / "scheduler.yaml"
    given = (ConfigFile(name="scheduler.yaml", key="jobs", apply=house.parts.provide),)
    looking = Provisioning(folder, given, {"TOKEN": "Bearer from-the-environment"})
    good = "jobs:\n- {name: a, schedule: 0 9 * * *, message: hi}\n"
    call = "- name: b\n  schedule: '*/30 * * * *'\n  http: {url: 'https://x.example/a', authorization: '${TOKEN}'}\n"
    file.write_text(good + call)
    await looking.look()
    assert {row.name: row.secrets for row in await house.views.list(OWNER)} == {"a": {}, "b": {"authorization": "ment"}}
    for text, line in (
        (good + "- {name: c, schedule: 0 25 * * *, message: hi}\n", 3),
        (good + "- name: c\n  schedule: */30 * * * *\n  message: hi\n", 4),
        (good + "- {name: c, schedule: 0 9 * * *, message: hi, chanel: x}\n", 3),
    ):
        file.write_text(text)
        await looking.look()
        state = looking.states["scheduler.yaml"]
        assert state.error is not None, text
        assert state.line == line, text
        assert [row.name for row in await house.views.list(OWNER)] == ["a", "b"]
