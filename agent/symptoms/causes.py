"""From a case to its cause. Each symptom has its list, the most telling sign first."""

from __future__ import annotations

from dataclasses import dataclass, field

from agent.symptoms.case import BotCase, Call, Long, PushCase, TaskCase


@dataclass(frozen=True, kw_only=True, slots=True)
class Cause:
    """Why one case went wrong.

    Attributes:
        name: text `symptom.<symptom>.<name>` and its remedy.
        subject: of whom: a model, tool or bot.
        code, params: an error that says more.
    """

    name: str
    subject: str = ""
    code: str = ""
    params: dict[str, str] = field(default_factory=dict)


# --- no answer in time

REACHED = {
    "model.dns": "dns",
    "egress.dns": "dns",
    "model.connect": "connect",
    "egress.connect": "connect",
    "egress.timeout": "connect",
    "model.tls": "tls",
    "egress.tls": "tls",
}
BOUNDS = frozenset({"task.time", "task.steps", "task.loop", "task.tokens", "job.deadline"})
STALE = ("stale", "future")
REFUSED = ("signature", "encryption", "token", "unsigned", "unencrypted", "undecryptable", "other_app", "other_robot")


def timeout_of(task: TaskCase, long: Long) -> Cause | None:
    """Why a task's answer was late or never came; None if it is no such case."""
    late = task.total >= long.task
    failed = task.status == "failed"
    if not late and not failed:
        return None
    if (unreached := _unreached(task)) is not None:
        return unreached
    if task.reason in BOUNDS:
        return Cause(name="steps", code=task.reason, params={"calls": str(len(task.calls))})
    if task.reason.startswith("db."):
        return Cause(name="database", code=task.reason)
    if failed and not task.reason.startswith("model."):
        return Cause(name="other", code=task.reason) if late else None
    return _longest(task)


def _unreached(task: TaskCase) -> Cause | None:
    """A model that could not be reached at all: named by the last call, or by the reason of the task."""
    code = task.reason
    if code == "model.timeout" and "why=connect" in task.detail:
        code = "model.connect"
    if code not in REACHED:
        lost = next((call for call in reversed(task.calls) if call.outcome in REACHED), None)
        if lost is None or task.status == "done":
            return None
        code = lost.outcome
    model = next((call.model for call in reversed(task.calls) if call.outcome != "ok"), "")
    return Cause(name=REACHED[code], subject=model, code=code)


def _longest(task: TaskCase) -> Cause:
    """Where most of the time went."""
    if task.attempts > 1:
        return Cause(name="restart")
    tool, spent = max(task.tools.items(), key=lambda item: item[1], default=("", 0))
    shares = [
        (task.model, Cause(name="model", subject=task.calls[-1].model if task.calls else "")),
        (task.queue, Cause(name="queue")),
        (spent, Cause(name="tool", subject=tool)),
        (task.own, Cause(name="own")),
    ]
    return max(shares, key=lambda item: item[0])[1]


def bot_of(bot: BotCase) -> Cause | None:
    """Why messages of people do not even arrive."""
    if bot.paused:
        return None
    ending = bot.last_error.rpartition(".")[2]
    if bot.called and ending in STALE:
        return Cause(name="clock", subject=bot.name, code=bot.last_error, params=bot.params)
    if bot.called and ending in REFUSED:
        return Cause(name="refused", subject=bot.name, code=bot.last_error, params=bot.params)
    if bot.connection in ("lost", "off") and bot.last_error:
        return Cause(name="line", subject=bot.name, code=bot.last_error, params=bot.params)
    if bot.called and bot.last_in is None:
        return Cause(name="callback", subject=bot.name)
    return None


# --- slow model

SILENT = frozenset({"model.timeout", "model.broken", "model.empty"})
DOWN = frozenset({"model.down", "model.connect", "model.dns", "model.tls", "model.resting"})
DENIED = frozenset({"model.key", "model.quota", "model.address", "model.unknown", "model.not_api", "model.bad_request"})


def slow_of(task: TaskCase, long: Long) -> Cause | None:
    """Why a task's model was slow or gave no answer; None if it is no such case."""
    bad = [call for call in task.calls if call.outcome not in ("ok", "cancelled")]
    fine = [call for call in task.calls if call.outcome == "ok"]
    if task.status == "failed" and task.reason.startswith("model."):
        first = bad[0] if bad and bad[0].outcome.startswith("model.") else None  # what should have answered
        return _failed(first.outcome, first.model) if first else _failed(task.reason, "")
    slow = task.model >= long.model or any(call.first >= long.first for call in fine)
    if not slow:
        return None
    if bad and sum(call.total for call in bad) >= sum(call.total for call in fine) / 2:
        return Cause(name="fallback", subject=bad[0].model, code=bad[0].outcome)
    if not fine:
        return None
    worst = max(fine, key=lambda call: call.total)
    if len(fine) >= long.turns and worst.total < long.model:
        return Cause(name="turns", subject=worst.model, params={"calls": str(len(fine))})
    return _slowest(worst, long)


def _failed(code: str, model: str) -> Cause:
    if code == "model.throttled":
        return Cause(name="busy", subject=model, code=code)
    if code in DENIED:
        return Cause(name="denied", subject=model, code=code)
    if code in SILENT:
        return Cause(name="silent", subject=model, code=code)
    return Cause(name="down", subject=model, code=code)


def _slowest(call: Call, long: Long) -> Cause:
    """Why one call took long."""
    writing = max(1, call.total - call.first)
    speed = 1000 * call.tokens_out / writing
    params = {
        "first": str(call.first),
        "total": str(call.total),
        "tokens_in": str(call.tokens_in),
        "tokens_out": str(call.tokens_out),
        "speed": f"{speed:.0f}",
    }
    if call.first >= writing or call.first >= long.first:
        name = "prompt" if call.tokens_in >= long.tokens_in else "first"
    elif call.tokens_out >= long.tokens_out and speed >= long.per_second:
        name = "long"
    else:
        name = "drips" if speed < long.per_second else "long"
    return Cause(name=name, subject=call.model, params=params)


# --- failed push

PUSH: dict[str, tuple[str, ...]] = {
    "address": (
        "feishu.19001",
        "dingtalk.robot_token",
        "dingtalk.session_host",
        "wecom.robot_key",
        "webhook.endpoint",
        "webhook.refused",
        "webhook.incomplete",
        "webhook.token_feishu",
        "webhook.token_dingtalk",
    ),
    "reader": (
        "feishu.230013",
        "feishu.230011",
        "feishu.231003",
        "dingtalk.person",
        "dingtalk.group",
        "dingtalk.group_gone",
        "wecom.person",
        "wecom.no_groups",
    ),
    "member": ("feishu.230002",),
    "signature": ("feishu.19021", "dingtalk.robot_sign"),
    "keyword": ("feishu.19024", "dingtalk.keyword"),
    "rights": (
        "feishu.99991672",
        "feishu.99991676",
        "feishu.99991679",
        "feishu.230006",
        "feishu.230027",
        "dingtalk.scope",
        "dingtalk.robot_code",
        "dingtalk.card_template",
        "wecom.agent",
    ),
    "source": ("feishu.99991401", "feishu.19022", "dingtalk.ip", "dingtalk.robot_ip", "wecom.ip"),
    "clock": ("dingtalk.clock",),
    "credentials": (
        "feishu.10003",
        "feishu.10014",
        "feishu.99991543",
        "feishu.99991661",
        "feishu.99991663",
        "feishu.99991664",
        "feishu.99991665",
        "feishu.99991668",
        "feishu.99991671",
        "feishu.99991677",
        "dingtalk.credentials",
        "dingtalk.token",
        "wecom.credentials",
        "wecom.bot_credentials",
        "wecom.token",
    ),
    "form": (
        "feishu.230001",
        "feishu.230025",
        "feishu.230099",
        "feishu.9499",
        "feishu.19002",
        "dingtalk.content",
        "dingtalk.too_long",
        "wecom.content",
        "wecom.too_long",
    ),
    "content": (
        "feishu.230028",
        "dingtalk.blocked",
        "dingtalk.filtered",
    ),
    "rate": (
        "feishu.99991400",
        "feishu.230020",
        "feishu.11232",
        "feishu.99991403",
        "dingtalk.too_fast",
        "wecom.too_fast",
        "webhook.too_fast",
    ),
    "disabled": ("feishu.99991662", "feishu.99991673", "dingtalk.robot_disabled"),
    "expired": ("dingtalk.session_expired",),
    "vendor": (
        "feishu.busy",
        "feishu.not_json",
        "feishu.no_answer",
        "dingtalk.busy",
        "dingtalk.no_answer",
        "wecom.busy",
        "wecom.no_answer",
        "webhook.down",
        "delivery.slow",
    ),
    "network": ("egress.dns", "egress.connect", "egress.timeout", "egress.tls", "egress.cut"),
    "gone": ("delivery.no_bot",),
}
_BY_CODE = {code: name for name, codes in PUSH.items() for code in codes}


def push_of(case: PushCase, bots: dict[str, BotCase], long: Long) -> Cause | None:
    """Why a delivery failed or does not go out; None if it is simply on its way."""
    code = case.error
    if case.status in ("pending", "sending"):
        bot = bots.get(case.bot)
        if not code and bot is not None and bot.connection == "off" and bot.last_error:
            return Cause(name="bot", subject=case.bot, code=bot.last_error, params=bot.params)
        if not code and case.waiting < long.outbox:
            return None
    if code in ("feishu.busy", "dingtalk.busy", "wecom.busy", "feishu.no_answer") and "egress." in case.detail:
        return Cause(name="network", subject=case.bot, code=code)
    name = _BY_CODE.get(code) or ("unknown" if case.status == "unknown" else "other")
    return Cause(name=name, subject=case.bot, code=code)
