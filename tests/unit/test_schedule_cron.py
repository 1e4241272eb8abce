"""Expressions, working days and the pure planning: what is refused, what summer time does, what overlaps."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest

from agent.schedules.cron import next_times, parse, zone_of
from agent.schedules.draft import ScheduleDraft, Task, argv_of, checked
from agent.schedules.entry import read_entry, write_entry
from agent.schedules.planning import Entry, Rule, first, is_due, plan
from agent.schedules.steps import read_steps
from agent.schedules.words import moment_of, seconds_of, span_of
from agent.schedules.workdays import Workdays
from storage.errors import Invalid
from storage.provision import each, read_entries
from tests.rules.reading import ROOT

WORK = Workdays()


def ms(text: str, zone: str = "Asia/Shanghai") -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()) * 1000


def local(times: list[int], zone: str = "Asia/Shanghai") -> list[str]:
    return [f"{datetime.fromtimestamp(at / 1000, UTC).astimezone(ZoneInfo(zone)):%Y-%m-%d %H:%M}" for at in times]


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "cron_fields"),
        ("* * * *", "cron_fields"),
        ("0 0 9 * * *", "cron_fields"),
        ("60 * * * *", "cron_field"),
        ("0 24 * * *", "cron_field"),
        ("0 9 32 * *", "cron_field"),
        ("0 9 * 13 *", "cron_field"),
        ("0 9 * * 8", "cron_field"),
        ("0 9 W,3 * *", "cron_field"),
        ("0 9 W0 * *", "cron_field"),
        ("0 9 30 2 *", "cron_field"),
        ("a b c d e", "cron_field"),
        ("2026-13-01 09:00", "exact"),
        ("2026-12-01", "exact"),
        ("2026-12-01 25:00", "exact"),
    ],
)
def test_wrong_expressions_are_refused_with_their_field(text: str, code: str) -> None:
    with pytest.raises(Invalid) as refused:
        parse(text)
    assert refused.value.code == f"schedule.{code}"
    assert refused.value.field == "expression"


@pytest.mark.parametrize("zone", ["", "Mars/Base", "../etc/passwd", "Asia/Shanghai\n", "x" * 100])
def test_unknown_zones_are_refused(zone: str) -> None:
    with pytest.raises(Invalid):
        zone_of(zone)


def test_working_days_follow_the_holidays_and_their_make_up_days() -> None:
    # National Day 2026: 1 to 7 October off, 20 September and 10 October worked instead
    after = ms("2026-09-18 10:00")
    assert local(next_times("0 9 W * *", "Asia/Shanghai", after, 4, WORK)) == [
        "2026-09-20 09:00",
        "2026-09-21 09:00",
        "2026-09-22 09:00",
        "2026-09-23 09:00",
    ]
    assert local(next_times("0 9 H * *", "Asia/Shanghai", ms("2026-09-30 10:00"), 2, WORK))[0] == "2026-10-01 09:00"
    assert local(next_times("0 18 LW * *", "Asia/Shanghai", ms("2026-10-01 00:00"), 2, WORK)) == [
        "2026-10-30 18:00",
        "2026-11-30 18:00",
    ]
    assert local(next_times("0 9 W1 10 *", "Asia/Shanghai", ms("2026-09-30 00:00"), 1, WORK)) == ["2026-10-08 09:00"]
    assert local(next_times("0 9 W-2 * *", "Asia/Shanghai", ms("2026-11-01 00:00"), 1, WORK)) == ["2026-11-27 09:00"]


def test_a_year_without_published_holidays_says_so_and_own_days_go_first() -> None:
    monday = date(2027, 1, 4)
    assert WORK.day(monday).working
    assert not WORK.day(monday).known
    own = Workdays({monday: (False, "放假")})
    assert (own.day(monday).working, own.day(monday).name, own.day(monday).edited) == (False, "放假", True)
    assert local(next_times("0 9 W * *", "Asia/Shanghai", ms("2027-01-03 12:00"), 1, own)) == ["2027-01-05 09:00"]


def test_summer_time_neither_loses_nor_doubles_a_daily_run() -> None:
    zone = "America/New_York"
    spring = next_times("30 2 * * *", zone, ms("2026-03-07 12:00", zone), 2, WORK)
    assert local(spring, zone) == ["2026-03-08 03:00", "2026-03-09 02:30"]
    autumn = next_times("30 1 * * *", zone, ms("2026-10-31 12:00", zone), 2, WORK)
    assert local(autumn, zone) == ["2026-11-01 01:30", "2026-11-02 01:30"]
    every = next_times("*/30 * * * *", zone, ms("2026-11-01 00:45", zone), 6, WORK)
    assert [b - a for a, b in pairwise(every)] == [1_800_000] * 5


def test_a_long_silence_is_counted_and_bounded() -> None:
    rule = Rule(expression="* * * * *", zone="Asia/Shanghai", missed="once")
    now = ms("2026-06-01 00:00") + 500
    made = plan(rule, now - 400 * 86_400_000, now, 0, WORK)
    assert [entry.act for entry in made.entries] == ["missed", "run"]
    assert made.entries[0].count == 32 * 1440 - 1
    assert made.next_at == ms("2026-06-01 00:01")


def test_exact_times_are_not_forgotten_and_expiry_ends() -> None:
    rule = Rule(expression="2026-01-02 09:00, 2026-03-01 09:00", zone="Asia/Shanghai")
    made = plan(rule, ms("2026-01-01 00:00"), ms("2026-05-01 00:00"), 0, WORK)
    assert made.entries[-1] == Entry(planned_at=ms("2026-03-01 09:00"), act="run")
    assert made.next_at is None
    short = Rule(expression="0 9 * * *", zone="Asia/Shanghai", expires_at=ms("2026-01-01 12:00"))
    assert first(short, ms("2026-01-01 00:00"), WORK) == ms("2026-01-01 09:00")
    assert first(short, ms("2026-01-01 10:00"), WORK) is None


def test_a_clock_that_was_set_back_is_looked_at() -> None:
    assert is_due(100, 50, 100)
    assert not is_due(101, 50, 100)
    assert is_due(10_000, 9_000, 100)
    assert not is_due(None, 50, 100)


def test_catching_up_waits_in_line_even_where_others_are_left_out() -> None:
    rule = Rule(expression="0 * * * *", zone="Asia/Shanghai", missed="all", overlap="skip")
    made = plan(rule, ms("2026-01-01 00:30"), ms("2026-01-01 04:00") + 5, 0, WORK)
    assert [entry.act for entry in made.entries] == ["run", "run", "run", "skipped"]


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"name": ""}, "name"),
        ({"name": "a/b"}, "name"),
        ({"kind": "shell"}, "kind"),
        ({"zone": "Nowhere/X"}, "zone"),
        ({"missed": "never"}, "missed"),
        ({"overlap": "maybe"}, "overlap"),
        ({"timeout": 0}, "timeout"),
        ({"retries": 11}, "retries"),
        ({"expression": "no"}, "expression"),
        ({"task": Task(text="  ")}, "text"),
        ({"kind": "command", "task": Task(command='"')}, "command"),
        ({"kind": "command", "task": Task(command="a | b")}, "command"),
        ({"kind": "http", "task": Task(url="ftp://x")}, "url"),
        ({"kind": "http", "task": Task(url="https://x", headers={"authorization": "y"})}, "headers"),
        ({"kind": "http", "task": Task(url="https://x", headers={"host": "y"})}, "headers"),
        ({"kind": "http", "task": Task(url="https://x", method="TRACE")}, "method"),
        ({"kind": "workflow", "task": Task(steps="")}, "steps"),
    ],
)
def test_drafts_are_refused_at_their_field(changes: dict[str, object], field: str) -> None:
    good: dict[str, object] = {"name": "x", "kind": "message", "expression": "0 9 * * *", "task": Task(text="hi")}
    with pytest.raises(Invalid) as refused:
        checked(ScheduleDraft(**(good | changes)))  # type: ignore[arg-type]
    assert refused.value.field == field


STEPS = {
    "nothing": "[]",
    "no act": "- id: a",
    "two acts": "- {id: a, say: x, ask: y}",
    "unknown field": "- {id: a, say: x, shell: y}",
    "taken name": "- {id: a, say: x}\n- {id: a, say: y}",
    "reserved name": "- {id: value, say: x}",
    "host from outside": '- {id: a, http: {url: "https://x.example"}}\n- {id: b, http: {url: "https://{{a.json.h}}/y"}}',
    "whole address from outside": '- {id: a, http: {url: "{{b.json.url}}"}}',
    "secret in an address": '- {id: a, http: {url: "https://x.example/?k={{secret.k}}"}}',
    "each without steps": '- {id: a, each: "{{b.json}}"}',
    "each too deep": '- {id: a, each: "{{b}}", steps: [{id: c, each: "{{d}}", steps: [{id: e, each: "{{f}}", '
    "steps: [{id: g, say: x}]}]}]}",
    "not yaml": "- {id: a",
}


@pytest.mark.parametrize("name", STEPS)
def test_workflows_that_cannot_mean_what_was_meant_are_refused(name: str) -> None:
    with pytest.raises(Invalid) as refused:
        checked(ScheduleDraft(name="x", kind="workflow", expression="0 9 * * *", task=Task(steps=STEPS[name])))
    assert refused.value.field == "steps"


def test_entries_of_the_file_come_back_the_same() -> None:
    entries = [
        {"name": "a", "schedule": "0 9 * * *", "command": "python x.py --y 'z z'", "channel": "dingtalk"},
        {"name": "b", "schedule": "0 18 LW * *", "prompt": "总结", "zone": "Asia/Tokyo", "retries": 2, "timeout": 60},
        {
            "name": "c",
            "schedule": "*/5 * * * *",
            "http": {"method": "POST", "url": "https://x.example/a", "body": "{}"},
        },
        {"name": "d", "schedule": "0 9 W * *", "message": "hi", "missed": "all", "missed_within": 3600, "target": "g"},
    ]
    for entry in entries:
        assert write_entry(read_entry(entry)) == entry
    assert argv_of("python x.py --y 'z z'") == ["python", "x.py", "--y", "z z"]
    flow = {"steps": [{"id": "a", "say": "hi"}], "values": {"x": "y"}}
    read = read_entry({"name": "e", "schedule": "0 9 * * *", "workflow": flow})
    assert read_entry(write_entry(read)) == read


@pytest.mark.parametrize(
    "entry",
    [
        {"name": "a", "schedule": "0 9 * * *"},
        {"name": "a", "schedule": "0 9 * * *", "command": "x", "prompt": "y"},
        {"name": "a", "schedule": "0 9 * * *", "command": ["x"]},
        {"name": "a", "schedule": "0 9 * * *", "command": "x", "shell": True},
        {"name": "a", "schedule": "0 9 * * *", "command": "x", "retries": "many"},
        {"name": "a", "schedule": "0 9 * * *", "command": "x", "timeout": "soon"},
        {"name": "a", "schedule": "0 9 * * *", "http": {"adress": "x"}},
    ],
)
def test_slips_in_the_file_are_refused(entry: dict[str, object]) -> None:
    with pytest.raises(Invalid):
        read_entry(entry)


def test_spans_and_moments() -> None:
    assert [seconds_of(text, "x") for text in ("90", "5m", "2h", "1d", "30 s")] == [90, 300, 7200, 86_400, 30]
    assert [span_of(n) for n in (0, 90, 300, 7200, 86_400)] == ["0", "90s", "5m", "2h", "1d"]
    assert moment_of("2026-12-31", "Asia/Shanghai", "x") == ms("2026-12-31 23:59:59")
    assert moment_of("", "Asia/Shanghai", "x") is None
    for text in ("1w", "-5", "soon"):
        with pytest.raises(Invalid):
            seconds_of(text, "x")
    with pytest.raises(Invalid):
        moment_of("tomorrow", "Asia/Shanghai", "x")


@pytest.mark.parametrize("page", ["schedules.md", "schedules.zh-CN.md"])
def test_examples_of_the_documentation_are_taken_as_they_stand(page: str) -> None:
    jobs, steps = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / page).read_text("utf-8"), flags=re.DOTALL)
    entries = each("scheduler.yaml", read_entries(jobs, "jobs", "scheduler.yaml", {}), read_entry)
    assert [(entry.name, entry.kind) for entry in entries] == [("daily_report", "command"), ("summary", "prompt")]
    assert [step.id for step in read_steps(steps)] == ["tickets", "handled", "report"]
