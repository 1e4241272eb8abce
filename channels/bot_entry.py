"""One item of `channels:` in `channels.yaml`, read strictly."""

from __future__ import annotations

from collections.abc import Mapping

from channels.bot_draft import BotEntry
from channels.manifests import manifest_of
from storage.errors import Invalid

COMMON = ("name", "type", "mode", "events", "model", "__line__")


def read_entry(raw: Mapping[str, object]) -> BotEntry:
    """The entry with its secrets apart.

    Raises:
        Invalid: with the field; unknown fields are refused, so that a slip is seen.
    """
    name, type = _text(raw, "name"), _text(raw, "type")
    if not name:
        raise Invalid("bot.name", field="name")
    manifest = manifest_of(type)
    specs = {spec.name: spec for spec in manifest.fields}
    settings: dict[str, str] = {}
    secrets: dict[str, str] = {}
    for key in raw:
        if key in COMMON:
            continue
        spec = specs.get(key)
        if spec is None:
            raise Invalid("bot.field", field=key[:60], name=key[:60])
        (secrets if spec.kind == "secret" else settings)[key] = _text(raw, key)
    events = raw.get("events", [])
    if not isinstance(events, list):
        raise Invalid("bot.event", field="events", event=str(events)[:60])
    return BotEntry(
        name=name,
        type=type,
        mode=_text(raw, "mode"),
        settings=settings,
        secrets=secrets,
        events=tuple(str(item) for item in events),
        model=_text(raw, "model"),
    )


def _text(raw: Mapping[str, object], key: str) -> str:
    value = raw.get(key, "")
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, list):
        return " ".join(str(item) for item in value)
    if value is None or isinstance(value, dict):
        return ""
    return str(value)
