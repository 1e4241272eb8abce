"""A bot as a person or `channels.yaml` describes it, and what is wrong with it. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from channels.base import FieldSpec, Manifest
from channels.manifests import manifest_of
from channels.targets import address_of
from channels.webhook import endpoint
from storage.errors import Invalid

NAME = re.compile(r"[A-Za-z0-9\u3400-\u9fff](?:[A-Za-z0-9\u3400-\u9fff-]{0,38}[A-Za-z0-9\u3400-\u9fff])?")
TAKEN = frozenset({"web", "api", "cron", "schedule", "hooks"})
"""Names under which conversations stand that come from no bot."""

EVENTS = ("task.completed", "task.failed", "error.alert", "security.alert", "budget.warning")
MOST_TEXT = 2_000
MOST_SECRET = 4_000
MOST_LISTED = 2_000
LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True, kw_only=True, slots=True)
class BotDraft:
    """A bot as a person fills it in.

    Attributes:
        secrets: only what is new; a secret that is not here stays as it is.
        model, events: None leaves them as they are.
    """

    name: str
    type: str
    mode: str
    settings: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    model: str | None = None
    events: tuple[str, ...] | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class BotEntry:
    """A bot as `channels.yaml` has it: whole, secrets included. An empty mode is the type's first."""

    name: str
    type: str
    mode: str = ""
    settings: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    events: tuple[str, ...] = ()
    model: str = ""


def checked(draft: BotDraft, *, local: bool, strict: bool = False) -> BotDraft:
    """The draft in the form in which it is kept: known fields only, trimmed, defaults left out.

    Args:
        local: tests only: a vendor may be on loopback and without TLS.
        strict: refuse fields that the type does not have, as a file's reader wants it.

    Raises:
        Invalid: `bot.name`, `bot.name_reserved`, `bot.type`, `bot.mode`, `bot.field`, `bot.long`, `bot.text`,
            `bot.choice`, `bot.url`, `bot.event`, `bot.push_to`, `<type>.target_form` or `webhook.endpoint…`, with the
            field.
    """
    name = draft.name.strip()
    if not NAME.fullmatch(name):
        raise Invalid("bot.name", field="name")
    if name.lower() in TAKEN:
        raise Invalid("bot.name_reserved", field="name", name=name)
    manifest = manifest_of(draft.type)
    if draft.mode not in manifest.modes:
        raise Invalid("bot.mode", field="mode", mode=draft.mode[:40], modes=", ".join(manifest.modes))
    given = {key: str(value).strip() for key, value in {**draft.settings, **draft.secrets}.items()}
    if strict:
        _known(manifest, given)
    if draft.type == "webhook":
        given = _endpoint(given, local=local)
    settings: dict[str, str] = {}
    secrets: dict[str, str] = {}
    for spec in manifest.fields:
        value = given.get(spec.name, "")
        if not value:
            continue
        if spec.kind == "secret":
            secrets[spec.name] = _bounded(spec.name, value, MOST_SECRET)
        else:
            settings[spec.name] = _value(spec, value, local=local or draft.type == "webhook")
    events = None if draft.events is None else _events(draft.events)
    _place(draft.type, settings.get("push_to", ""), needed=bool(events) and not strict)
    return BotDraft(
        name=name,
        type=draft.type,
        mode=draft.mode,
        settings=settings,
        secrets=secrets,
        model=None if draft.model is None else draft.model.strip()[:200],
        events=events,
    )


def need(draft: BotDraft, kept: frozenset[str]) -> None:
    """Refuse a draft that lacks what its mode needs.

    Args:
        kept: names of secrets that are kept already and stay.

    Raises:
        Invalid: `bot.needed` with the field.
    """
    for spec in fields_of(draft.type, draft.mode):
        there = draft.settings.get(spec.name) or draft.secrets.get(spec.name) or spec.name in kept or spec.default
        if spec.required and not there:
            raise Invalid("bot.needed", field=spec.name)


def fields_of(type: str, mode: str) -> list[FieldSpec]:
    """The fields of a type that a mode has."""
    return [spec for spec in manifest_of(type).fields if not spec.modes or mode in spec.modes]


def moved(type: str, old: Mapping[str, str], new: Mapping[str, str]) -> bool:
    """True if an address now leads to another host: secrets were entered for the old one."""
    for spec in manifest_of(type).fields:
        if spec.kind == "url":
            before, after = (urlsplit(one.get(spec.name) or spec.default).netloc.lower() for one in (old, new))
            if before and before != after:
                return True
    return False


def _known(manifest: Manifest, given: Mapping[str, str]) -> None:
    names = [spec.name for spec in manifest.fields]
    unknown = next((name for name in given if name not in names), None)
    if unknown is not None:
        raise Invalid("bot.field", field=unknown[:60], name=unknown[:60], type=manifest.type, known=", ".join(names))


def _endpoint(given: dict[str, str], *, local: bool) -> dict[str, str]:
    """The webhook's address without the secret in it."""
    if not given.get("endpoint"):
        return given
    found = endpoint.read(given["endpoint"], local=local)
    if not found.token:
        return {**given, "endpoint": found.bare}
    return {**given, "endpoint": found.bare, "token": found.token}


def _value(spec: FieldSpec, value: str, *, local: bool) -> str:
    if spec.kind == "list":
        items = list(dict.fromkeys(item for item in re.split(r"[\s,，;；]+", value) if item))
        if len(items) > MOST_LISTED:
            raise Invalid("bot.long", field=spec.name, most=MOST_LISTED)
        return ",".join(_bounded(spec.name, item, 200) for item in items)
    value = _bounded(spec.name, value, MOST_TEXT)
    if spec.kind == "choice" and value not in spec.choices:
        raise Invalid("bot.choice", field=spec.name, value=value[:40], choices=", ".join(spec.choices))
    if spec.kind == "url":
        _url(spec.name, value, local=local)
    return value


def _bounded(name: str, value: str, most: int) -> str:
    if len(value) > most:
        raise Invalid("bot.long", field=name, most=most)
    if not value.isprintable():
        raise Invalid("bot.text", field=name)
    return value


def _url(name: str, value: str, *, local: bool) -> None:
    try:
        parts = urlsplit(value)
        host, _ = (parts.hostname or "").lower(), parts.port
    except ValueError as error:
        raise Invalid("bot.url", field=name) from error
    plain = parts.scheme == "http" and local
    if not host or "@" in parts.netloc or not (parts.scheme == "https" or plain):
        raise Invalid("bot.url", field=name)


def _place(type: str, push_to: str, *, needed: bool) -> None:
    """Where events go; a webhook has one address only."""
    if type == "webhook":
        return
    if not push_to and needed:
        raise Invalid("bot.push_to", field="push_to")
    if push_to:
        try:
            _ = address_of(type, push_to)
        except Invalid as error:
            raise Invalid(error.code, field="push_to", **error.params) from error


def _events(events: tuple[str, ...]) -> tuple[str, ...]:
    for event in events:
        if event not in EVENTS:
            raise Invalid("bot.event", field="events", event=event[:60], known=", ".join(EVENTS))
    return tuple(dict.fromkeys(events))
