"""The steps of a workflow: YAML in, checked values out. What they do is in `agent/schedules/workflow.py`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import urlsplit

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from agent.schedules.blanks import BLANK, paths
from storage.errors import Invalid
from storage.provision import read_entries

MOST_STEPS = 40
MOST_CHARS = 20_000
MOST_DEEP = 2
RESERVED = ("value", "secret", "run")
ACTS = ("http", "ask", "each", "say")


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Call(_Part):
    """An HTTP request. `json` is sent as JSON, `expect` is the status that counts as success (default: below 400)."""

    method: str = Field(default="GET", pattern=r"^(?i:GET|POST|PUT|PATCH|DELETE)$")
    url: str = Field(min_length=1, max_length=2000)
    headers: dict[str, str] = Field(default_factory=dict, max_length=20)
    body: Any = Field(default=None, alias="json")
    expect: int | None = Field(default=None, ge=100, le=599)
    idempotent: bool = False

    @property
    def reads(self) -> bool:
        """True if it changes nothing at the other side."""
        return self.method.upper() == "GET"


class Question(_Part):
    """A question to the model: one call, no tools. `json` wants an object back."""

    prompt: str = Field(min_length=1, max_length=8000)
    wants_json: bool = Field(default=False, alias="json")


class Step(_Part):
    """One step. Exactly one of `http`, `ask`, `each`, `say`.

    Attributes:
        id: name under which later steps find its result.
        when, unless: a text with blanks; the step is left out if it is empty, zero or false (or is not).
        each: path of a list; `steps` run for every item, which they find under `item`.
        key: text that names an item; an item that was handled in an earlier run is left out.
        line: what is noted of each item, found as `<id>.lines`.
        say: part of what is told at the end.
    """

    id: str = Field(pattern=r"^[a-z][a-z0-9_]{0,39}$")
    when: str = ""
    unless: str = ""
    http: Call | None = None
    ask: Question | str | None = None
    each: str | None = None
    key: str = ""
    line: str = ""
    most: int = Field(default=20, ge=1, le=100)
    steps: tuple[Step, ...] = ()
    say: str | None = Field(default=None, max_length=8000)

    @model_validator(mode="after")
    def _one_act(self) -> Step:
        acts = [name for name in ACTS if getattr(self, name) is not None]
        if len(acts) != 1:
            raise ValueError("one of http, ask, each, say")
        if (self.each is None) != (not self.steps):
            raise ValueError("each needs steps, and only each has them")
        if self.each is not None and not BLANK.fullmatch(self.each.strip()):
            raise ValueError("each names one list, e.g. {{tickets.json.items}}")
        return self

    @property
    def question(self) -> Question | None:
        """`ask` in its long form."""
        return Question(prompt=self.ask) if isinstance(self.ask, str) else self.ask


def read_steps(text: str) -> tuple[Step, ...]:
    """The steps of a YAML text.

    Raises:
        Invalid: `schedule.steps` with the place and what is wrong; the field is `steps`.
    """
    if len(text) > MOST_CHARS:
        raise Invalid("schedule.text_long", field="steps", most=MOST_CHARS)
    whole = text if re.match(r"\s*steps\s*:", text) else f"steps:\n{text}"
    moved = 0 if whole is text else 1
    try:
        entries = read_entries(whole, "steps", "steps", {})
    except Invalid as error:
        line = max(1, int(str(error.params.get("line", 1))) - moved)
        problem = str(error.params.get("problem", "")) or error.code
        raise Invalid("schedule.steps", field="steps", place=f"{line}", problem=problem) from error
    try:
        made = tuple(Step.model_validate({k: v for k, v in entry.items() if k != "__line__"}) for entry in entries)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "-"
        problem = str(first["msg"]).removeprefix("Value error, ")
        raise Invalid("schedule.steps", field="steps", place=place, problem=problem[:200]) from error
    _names(made)
    return made


def write_steps(steps: object) -> str:
    """Steps as YAML text, from a list as a file has it or from a text. Raises `Invalid` for what is neither."""
    if isinstance(steps, str):
        return steps
    if not isinstance(steps, list):
        raise Invalid("schedule.field_kind", field="steps", name="steps")
    return str(yaml.safe_dump(steps, allow_unicode=True, sort_keys=False, width=110))


def every(steps: Sequence[Step]) -> Iterator[Step]:
    """All steps, inner ones too."""
    for step in steps:
        yield step
        yield from every(step.steps)


def secrets_of(steps: Sequence[Step]) -> list[str]:
    """Names of the secrets that the steps ask for."""
    found = [path for step in every(steps) if step.http for text in _texts(step.http) for path in paths(text)]
    return list(dict.fromkeys(path.split(".")[1] for path in found if path.startswith("secret.")))


def values_of(steps: Sequence[Step]) -> list[str]:
    """Names of the values that the steps ask for."""
    found: list[str] = []
    for step in every(steps):
        texts = [step.when, step.unless, step.key, step.line, step.say or "", step.each or ""]
        texts += _texts(step.http) if step.http else []
        texts += [step.question.prompt] if step.question else []
        found += [path.split(".")[1] for text in texts for path in paths(text) if path.startswith("value.")]
    return list(dict.fromkeys(found))


def _texts(call: Call) -> list[str]:
    def inner(item: object) -> Iterator[str]:
        if isinstance(item, str):
            yield item
        elif isinstance(item, dict):
            for value in item.values():
                yield from inner(value)
        elif isinstance(item, list):
            for value in item:
                yield from inner(value)

    return [call.url, *call.headers.values(), *inner(call.body)]


def _names(steps: Sequence[Step]) -> None:
    """Names stand once and none is reserved; secrets stand in headers only; nobody's data chooses the host."""
    names = [step.id for step in every(steps)]
    if not names or len(names) > MOST_STEPS:
        raise Invalid("schedule.steps_count", field="steps", most=MOST_STEPS)
    for name in names:
        if names.count(name) > 1 or name in RESERVED or name == "item":
            raise Invalid("schedule.steps", field="steps", place=name, problem="this name is taken")
    if _depth(steps) > MOST_DEEP:
        raise Invalid("schedule.steps", field="steps", place="each", problem="each inside each inside each")
    for step in every(steps):
        if step.http is None:
            continue
        host = urlsplit(BLANK.sub(lambda m: "x" if m[1].startswith("value.") else "\0", step.http.url)).netloc
        begins = step.http.url.startswith(("http://", "https://", "{{value.", "{{ value."))
        if not begins or "\0" in host:
            raise Invalid("schedule.steps", field="steps", place=step.id, problem="the host is not fixed")
        if any(path.startswith("secret.") for text in _texts(step.http)[:1] for path in paths(text)):
            raise Invalid("schedule.steps", field="steps", place=step.id, problem="secrets stand in headers only")


def _depth(steps: Sequence[Step]) -> int:
    return 1 + max((_depth(step.steps) for step in steps if step.steps), default=0)
