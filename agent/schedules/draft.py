"""A schedule as a person or a file describes it, checked whole."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from agent.schedules.blanks import fill_url, holds, paths
from agent.schedules.cron import ZONE, parse, zone_of
from agent.schedules.planning import MISSED, OVERLAP
from agent.schedules.steps import every, read_steps
from storage.errors import Invalid

KINDS = ("message", "prompt", "command", "http", "workflow")
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
MOST_TEXT = 8_000
LONGEST_TIMEOUT = 3_600
_NAME = re.compile(r"[\w][\w .@+-]{0,62}")
_VALUE = re.compile(r"[a-z][a-z0-9_]{0,39}", re.ASCII)
_BOUNDS = {
    "timeout": (1, LONGEST_TIMEOUT),
    "retries": (0, 10),
    "backoff": (1, 86_400),
    "missed_within": (0, 31 * 86_400),
    "alert_after": (0, 100),
    "pause_after": (0, 1_000),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """What is done. Only the fields of its kind are filled.

    Attributes:
        command: one line; split into an argv as a shell would, but never given to one.
        text: the prompt, or the message.
        method, url, headers, body: the HTTP call.
        scenario: which template the workflow was made from; empty for one's own.
        steps: the workflow, as YAML.
        values: what the workflow's blanks `{{value.name}}` are filled with. Secret ones are in the vault instead.
    """

    command: str = ""
    text: str = ""
    method: str = "GET"
    url: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    body: str = ""
    scenario: str = ""
    steps: str = ""
    values: Mapping[str, str] = field(default_factory=dict)

    def to_json(self, kind: str) -> str:
        """The fields of the kind."""
        return json.dumps({name: _plain(getattr(self, name)) for name in FIELDS[kind]}, ensure_ascii=False)

    @staticmethod
    def from_json(text: str) -> Task:
        """The reverse of `to_json`."""
        return Task(**json.loads(text))


FIELDS = {
    "message": ("text",),
    "prompt": ("text",),
    "command": ("command",),
    "http": ("method", "url", "headers", "body"),
    "workflow": ("scenario", "steps", "values"),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class ScheduleDraft:
    """A schedule to be saved.

    Attributes:
        expression: cron with working days, or exact times (`agent/schedules/cron.py`).
        secrets: values of the workflow's secret blanks, or of `authorization` for a call; those left out stay.
        bot, target: who is told the result; no bot: the result is only kept.
        retries, backoff: how often a failed run is tried again, and the first pause in seconds, doubled each time.
        timeout: seconds for one try.
        alert_after, pause_after: failures in a row; 0: never.
        expires_at: ms, or None.
    """

    name: str
    kind: str
    expression: str
    zone: str = ZONE
    task: Task = field(default_factory=Task)
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    bot: str = ""
    target: str = ""
    missed: str = "once"
    missed_within: int = 0
    overlap: str = "skip"
    retries: int = 0
    backoff: int = 60
    timeout: int = 300
    alert_after: int = 3
    pause_after: int = 0
    expires_at: int | None = None


def checked(draft: ScheduleDraft) -> ScheduleDraft:
    """The draft without spaces around its values, its expression in the form that is kept.

    Raises:
        Invalid: with the field.
    """
    draft = replace(draft, name=draft.name.strip(), bot=draft.bot.strip(), target=draft.target.strip())
    if not _NAME.fullmatch(draft.name):
        raise Invalid("schedule.name", field="name")
    if draft.kind not in KINDS:
        raise Invalid("schedule.kind", field="kind", kind=draft.kind[:40])
    zone_of(draft.zone)
    if draft.missed not in MISSED:
        raise Invalid("schedule.choice", field="missed", name="missed", value=draft.missed[:40])
    if draft.overlap not in OVERLAP:
        raise Invalid("schedule.choice", field="overlap", name="overlap", value=draft.overlap[:40])
    for name, (least, most) in _BOUNDS.items():
        if not least <= getattr(draft, name) <= most:
            raise Invalid("schedule.bounds", field=name, name=name, least=least, most=most)
    if len(draft.target) > 200:
        raise Invalid("schedule.text_long", field="target", most=200)
    return replace(draft, expression=parse(draft.expression).text, task=_task(draft.kind, draft.task))


def argv_of(command: str) -> list[str]:
    """The words of a command line. Raises `Invalid` `schedule.command` or `schedule.command_shell`."""
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise Invalid("schedule.command", field="command") from error
    if not words or len(command) > MOST_TEXT or "\0" in command:
        raise Invalid("schedule.command", field="command")
    for word in words:
        # no shell reads them: better said now than found in a file called ">"
        if word in ("|", "||", "&&", "&", ";", ">", ">>", "<", "2>&1"):
            raise Invalid("schedule.command_shell", field="command", sign=word)
    return words


def _task(kind: str, task: Task) -> Task:
    match kind:
        case "command":
            argv_of(task.command)
            return Task(command=task.command.strip())
        case "http":
            return _call(task)
        case "workflow":
            _values(task.values)
            if not task.steps.strip():
                raise Invalid("schedule.steps_empty", field="steps")
            _addresses(task)
            return Task(scenario=task.scenario, steps=task.steps.strip(), values=dict(task.values))
        case _:
            text = task.text.strip()
            if not text:
                raise Invalid("schedule.text_empty", field="text")
            if len(text) > MOST_TEXT:
                raise Invalid("schedule.text_long", field="text", most=MOST_TEXT)
            return Task(text=text)


def _call(task: Task) -> Task:
    method, url = task.method.strip().upper(), task.url.strip()
    if method not in METHODS:
        raise Invalid("schedule.choice", field="method", name="method", value=method[:20])
    if not re.fullmatch(r"https?://[^\s/]+\S*", url) or len(url) > 2_000:
        raise Invalid("schedule.url", field="url")
    if len(task.body) > MOST_TEXT:
        raise Invalid("schedule.text_long", field="body", most=MOST_TEXT)
    headers = {name.strip().lower(): value.strip() for name, value in task.headers.items()}
    for name, value in headers.items():
        if not re.fullmatch(r"[a-z0-9-]{1,60}", name) or not value.isprintable() or len(value) > 1_000:
            raise Invalid("schedule.header", field="headers", name=name[:60])
        if name in ("host", "content-length", "transfer-encoding", "connection"):
            raise Invalid("schedule.header", field="headers", name=name)
        if name in ("authorization", "x-api-key", "cookie"):
            raise Invalid("schedule.header_secret", field="headers", name=name)
    return Task(method=method, url=url, headers=headers, body=task.body.strip())


def _values(values: Mapping[str, str]) -> None:
    for name, value in values.items():
        if not _VALUE.fullmatch(name) or len(value) > MOST_TEXT:
            raise Invalid("schedule.value", field="values", name=name[:40])


def _addresses(task: Task) -> None:
    """Every address is whole once the values stand in it; one behind a condition may be left empty."""
    known = {"value": dict(task.values)}
    for step in every(read_steps(task.steps)):
        if step.http is None or (step.when and not holds(step.when, known)):
            continue
        for path in paths(step.http.url):
            name = path.removeprefix("value.")
            if path.startswith("value.") and not task.values.get(name):
                raise Invalid("schedule.value_missing", field=f"value_{name}", name=name)
        if not re.match(r"https?://[^\s/]+", fill_url(step.http.url, known)):
            name = next((path.removeprefix("value.") for path in paths(step.http.url)), "")
            raise Invalid("schedule.url", field=f"value_{name}" if name else "steps")


def _plain(value: object) -> object:
    return dict(value) if isinstance(value, Mapping) else value
