"""One item of `jobs:` in `scheduler.yaml`, read strictly; and the same form written for export."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from agent.schedules.cron import ZONE
from agent.schedules.draft import ScheduleDraft, Task, checked
from agent.schedules.steps import write_steps
from agent.schedules.words import moment_of, seconds_of
from storage.errors import Invalid

KINDS = {"command": "command", "prompt": "prompt", "message": "message", "http": "http", "workflow": "workflow"}
PLAIN = ("name", "schedule", "channel", "target", "zone", "missed", "overlap")
NUMBERS = ("retries", "alert_after", "pause_after")
SECONDS = ("timeout", "backoff", "missed_within")
KNOWN = {*PLAIN, *NUMBERS, *SECONDS, *KINDS, "expires"}
_DEFAULT = {f.name: f.default for f in fields(ScheduleDraft)}


def read_entry(raw: Mapping[str, object]) -> ScheduleDraft:
    """The entry as a checked draft. The document's four fields are enough: name, schedule, command, channel.

    Raises:
        Invalid: with the field; unknown ones are refused, so that a slip is seen.
    """
    for key in raw:
        if key not in KNOWN:
            raise Invalid("schedule.field", field=key[:60], name=key[:60])
    kinds = [kind for kind in KINDS if raw.get(kind) is not None]
    if len(kinds) != 1:
        raise Invalid("schedule.one_kind", field="command", n=len(kinds))
    values: dict[str, Any] = {name: _text(raw, name) for name in ("zone", "missed", "overlap", "target") if name in raw}
    values |= {name: _number(raw, name) for name in NUMBERS if name in raw}
    values |= {name: seconds_of(_text(raw, name), name) for name in SECONDS if name in raw}
    if "expires" in raw:
        values["expires_at"] = _expires(_text(raw, "expires"), str(values.get("zone", ZONE)))
    return checked(
        ScheduleDraft(
            name=_text(raw, "name"),
            kind=kinds[0],
            expression=_text(raw, "schedule"),
            bot=_text(raw, "channel"),
            task=_task(kinds[0], raw[kinds[0]]),
            secrets=_secrets(kinds[0], raw[kinds[0]]),
            **values,
        )
    )


def write_entry(draft: ScheduleDraft) -> dict[str, object]:
    """The same form back. Secrets are left out: they are entered again where the entry is used."""
    entry: dict[str, object] = {"name": draft.name, "schedule": draft.expression}
    task = draft.task
    match draft.kind:
        case "command":
            entry["command"] = task.command
        case "http":
            call = {"method": task.method, "url": task.url, "headers": dict(task.headers), "body": task.body}
            entry["http"] = {name: value for name, value in call.items() if value}
        case "workflow":
            entry["workflow"] = {"values": dict(task.values), "steps": write_steps(task.steps)}
        case _:
            entry[draft.kind] = task.text
    if draft.bot:
        entry["channel"] = draft.bot
    for name in ("target", "zone", "missed", "overlap", *NUMBERS, *SECONDS):
        value = getattr(draft, name)
        if value != _DEFAULT[name]:
            entry[name] = value
    return entry


def _task(kind: str, raw: object) -> Task:
    if kind == "command" and isinstance(raw, str):
        return Task(command=raw)
    if kind in ("prompt", "message") and isinstance(raw, str):
        return Task(text=raw)
    if kind == "http" and isinstance(raw, str):
        return Task(url=raw)
    if kind == "http" and isinstance(raw, dict) and set(raw) <= {"method", "url", "headers", "body", "authorization"}:
        headers = raw.get("headers", {})
        if not isinstance(headers, dict):
            raise Invalid("schedule.field_kind", field="headers", name="headers")
        return Task(
            method=_text(raw, "method") or "GET",
            url=_text(raw, "url"),
            headers={str(name): str(value) for name, value in headers.items()},
            body=_text(raw, "body"),
        )
    if kind == "workflow" and isinstance(raw, dict) and set(raw) <= {"values", "steps", "secrets"}:
        values = raw.get("values", {})
        if not isinstance(values, dict):
            raise Invalid("schedule.field_kind", field="values", name="values")
        steps = raw.get("steps")
        return Task(
            steps=steps if isinstance(steps, str) else write_steps(steps),
            values={str(name): str(value) for name, value in values.items()},
        )
    raise Invalid("schedule.field_kind", field=kind, name=kind)


def _secrets(kind: str, raw: object) -> dict[str, str]:
    """`authorization` of a call, `secrets` of a workflow: kept in the vault, best given as `${NAME}`."""
    if kind == "http" and isinstance(raw, dict) and raw.get("authorization") is not None:
        return {"authorization": _text(raw, "authorization")}
    if kind == "workflow" and isinstance(raw, dict) and raw.get("secrets") is not None:
        found = raw["secrets"]
        if not isinstance(found, dict):
            raise Invalid("schedule.field_kind", field="secrets", name="secrets")
        return {str(name): str(value) for name, value in found.items()}
    return {}


def _text(raw: Mapping[str, object], key: str) -> str:
    value = raw.get(key)
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise Invalid("schedule.field_kind", field=key, name=key)
    return str(value).strip()


def _number(raw: Mapping[str, object], key: str) -> int:
    value = raw.get(key)
    if isinstance(value, bool) or not isinstance(value, int):
        raise Invalid("schedule.field_kind", field=key, name=key)
    return value


def _expires(text: str, zone: str) -> int | None:
    return moment_of(text, zone, "expires")
