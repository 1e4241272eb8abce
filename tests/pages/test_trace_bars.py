"""A task's waterfall and the sentence about it, from what the ledger recorded."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from agent.actions import StepRow
from agent.trace import DeliveryRow, JobRow, Stage, TraceView
from pages.trace_bars import bars, is_over, total
from pages.trace_verdict import params_of, reason, slow, verdict
from storage.errors import AppError
from tests.pages.chat_house import visitor

AT = 1_700_000_000_000
V = visitor()


def step(n: int, kind: str, name: str, at: int, ms: int | None, request: str = "", result: str = "") -> StepRow:
    ended = None if ms is None else AT + at + ms
    status = "started" if ms is None else "done"
    return StepRow(
        n=n, name=name, kind=kind, status=status, request=request, result=result, started_at=AT + at, ended_at=ended
    )


def delivery(**more: Any) -> DeliveryRow:
    base: dict[str, Any] = {
        "id": 7,
        "status": "delivered",
        "vendor_id": "om_1",
        "error": "",
        "detail": "",
        "attempts": 1,
        "committed_at": AT + 1000,
        "written_at": AT + 1030,
        "ended_at": AT + 1100,
        "next_at": None,
        "text": "好",
    }
    return DeliveryRow(**(base | more))


def task(**more: Any) -> TraceView:
    job = JobRow(
        id=1,
        status="done",
        title="问",
        channel="feishu",
        bot="hr",
        model="a/b",
        reason="",
        received_at=AT,
        ended_at=AT + 1000,
        own_ms=30,
        delivery="delivered",
    )
    model = '{"ref": "a/b", "first_token_ms": 400, "tokens_in": 10, "tokens_out": 5, "text": "好"}'
    steps = (
        step(1, "recall", "recall", 12, 8, result="[]"),
        step(2, "model", "model 1", 20, 600, request="a/b", result=model),
        step(3, "tool", "fetch", 620, 300, request='{"url": "https://a"}', result='{"text": "x", "ok": false}'),
    )
    base: dict[str, Any] = {
        "job": job,
        "conversation_id": 3,
        "attempts": 1,
        "text": "问",
        "sender": "张三",
        "tokens_in": 10,
        "tokens_out": 5,
        "cost": 0.0,
        "detail": "",
        "stages": (Stage(name="received", label="", at=AT, ms=0), Stage(name="claimed", label="", at=AT, ms=10)),
        "steps": steps,
        "deliveries": (delivery(),),
    }
    return TraceView(**(base | more))


def test_every_stage_from_received_to_the_vendors_id() -> None:
    found = bars(V, task())
    assert [(bar.kind, bar.at - AT, bar.ms) for bar in found] == [
        ("received", 0, 0),
        ("claimed", 0, 10),
        ("recall", 12, 8),
        ("model", 20, 600),
        ("tool", 620, 300),
        ("reply", 920, 80),
        ("written", 1000, 30),
        ("delivered", 1030, 70),
    ]
    assert found[3].first_ms == 400
    assert not found[4].ok
    assert found[-1].note == "om_1"
    assert total(found, AT, AT + 999_999) == 1100
    assert is_over(task())


def test_what_runs_has_no_end_yet_and_counts_to_now() -> None:
    running = replace(task().job, status="doing", ended_at=None, own_ms=None)
    view = task(job=running, steps=(step(1, "tool", "fetch", 20, None),), deliveries=())
    found = bars(V, view)
    assert found[-1].ms is None
    assert total(found, AT, AT + 5000) == 5000
    assert not is_over(view)
    assert verdict(V, view, 5000)[1] == V.t("trace.verdict.open", total="5.0 s")


def test_a_step_that_was_cut_off_says_so() -> None:
    failed = replace(task().job, status="failed", reason="step.interrupted")
    found = bars(V, task(job=failed, steps=(step(1, "tool", "fetch", 20, None),), deliveries=()))
    assert (found[-1].ok, found[-1].note) == (False, V.t("trace.cut_off"))


@pytest.mark.parametrize(
    ("status", "state"), [("failed", "bad"), ("unknown", "warn"), ("pending", "unknown"), ("sending", "unknown")]
)
def test_an_answer_that_did_not_arrive_is_not_shown_as_done(status: str, state: str) -> None:
    view = task(deliveries=(delivery(status=status, vendor_id="", error="vendor.gone", ended_at=None),))
    assert verdict(V, view, 1000)[0] == state
    assert is_over(view) == (status in ("failed", "unknown"))


def test_a_playground_answer_is_stored_and_not_sent() -> None:
    found = bars(V, task(job=replace(task().job, channel="web")))
    assert [bar.kind for bar in found][-2:] == ["tool", "reply"]


def test_the_recorded_reason_keeps_its_parameters() -> None:
    error = AppError("task.loop", tool="读文件 (a, b)", n=3)
    assert params_of(error.code, str(error)) == {"tool": "读文件 (a, b)", "n": "3"}
    assert params_of("a.b", "a.b") == {}
    assert params_of("a.b", "something else") == {}
    assert "300" in reason(V, "task.time", "task.time (seconds=300)")[0]


@pytest.mark.parametrize(
    ("steps", "waited", "key"),
    [
        ((step(1, "model", "model 1", 0, 9000, result='{"first_token_ms": 8000}'),), 1, "slow_model"),
        ((step(1, "tool", "fetch", 0, 9000, result="{}"),), 1, "slow_tool"),
        ((), 9000, "slow_queue"),
        ((step(1, "model", "model 1", 0, 10, result="{}"),), 10, ""),
    ],
)
def test_a_slow_task_names_the_cause(steps: tuple[StepRow, ...], waited: int, key: str) -> None:
    stages = (Stage(name="claimed", label="", at=AT, ms=waited),)
    found = bars(V, task(steps=steps, stages=stages, deliveries=()))
    said = slow(V, found, 10_000)
    assert bool(said) == bool(key)
    if key:
        tool = V.t("chat.tool.fetch")
        assert said == V.t(f"trace.verdict.{key}", share="90%", first="8.0 s", tool=tool)


def test_odd_records_do_not_break_the_page() -> None:
    odd = ("", "null", "[]", "1", '"x"', "not json", '{"items": 3}', '{"text": null}')
    for kind in ("recall", "model", "tool", "later"):
        for text in odd:
            steps = (step(1, kind, "plan", 0, 5, request=text, result=text), step(2, kind, "x", 5, 5, text, text))
            assert len(bars(V, task(steps=steps))) == 7
