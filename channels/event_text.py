"""The words of an event: templates of each language, filled with what happened. Pure but for the catalogue."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from channels.webhook.template import Filled, fill
from storage.words import LANGS, Words

ZONE = ZoneInfo("Asia/Shanghai")
Templates = Mapping[tuple[str, str, str], str]
"""Texts that differ from the product's own, by tenant, event and language."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Say:
    """A value whose words depend on the reader's language. Parameters may be such values themselves."""

    key: str
    params: Mapping[str, object]


def say(key: str, /, **params: object) -> Say:
    """Words of the catalogue for a value of an event."""
    return Say(key=key, params=params)


class EventWords:
    """Turns what happened into a message."""

    def __init__(self, words: Words) -> None:
        self.words = words
        self.templates: Templates = {}

    def default(self, event: str, lang: str) -> str:
        """The template that comes with the product."""
        return self.words.say(lang, f"event.{event}.template")

    def template(self, tenant: str, event: str, lang: str) -> str:
        """The template in force."""
        return self.templates.get((tenant, event, lang)) or self.default(event, lang)

    def title(self, event: str, lang: str) -> str:
        """The message's heading."""
        return self.words.say(lang, f"event.{event}.title")

    def text(self, tenant: str, event: str, lang: str, document: Mapping[str, object]) -> str:
        """The message; never empty."""
        return fill(self.template(tenant, event, lang), document).text.strip() or self.title(event, lang)

    def tried(self, template: str, document: Mapping[str, object]) -> Filled:
        """What a template that is not saved would say."""
        return fill(template, document)

    def document(self, event: str, lang: str, data: Mapping[str, object], at: int) -> dict[str, object]:
        """What a template may name: the event's own values in a language, its name and its time."""
        time = datetime.fromtimestamp(at / 1000, UTC).astimezone(ZONE)
        made = {name: self._value(lang, value) for name, value in data.items()}
        return {"event": event, "at": f"{time:%Y-%m-%d %H:%M:%S}", **made}

    def _value(self, lang: str, value: object) -> object:
        if isinstance(value, Say):
            params = {name: self._value(lang, item) for name, item in value.params.items()}
            return self.words.say(lang, value.key, **params)
        if isinstance(value, Mapping):
            return {name: self._value(lang, item) for name, item in value.items()}
        return value

    def reason(self, code: str, params: Mapping[str, object]) -> Say | str:
        """An error's text; its code where there is none."""
        known = self.words.has(LANGS[0], f"error.{code}")
        return Say(key=f"error.{code}", params=params) if known else code

    def sample(self, event: str, lang: str, at: int) -> dict[str, object]:
        """Values to try a template with."""
        return self.document(event, lang, SAMPLES[event], at)


SAMPLES: dict[str, dict[str, object]] = {
    "task.completed": {
        "task": {
            "id": 42,
            "title": "weekly-report",
            "bot": "hr-bot",
            "channel": "feishu",
            "model": "deepseek-chat",
            "seconds": 3.2,
            "tokens": 1830,
            "cost": 0.0042,
        }
    },
    "task.failed": {
        "task": {
            "id": 43,
            "title": "weekly-report",
            "bot": "hr-bot",
            "channel": "feishu",
            "model": "deepseek-chat",
            "seconds": 61.0,
            "tokens": 0,
            "cost": 0.0,
        },
        "reason": say("error.model.timeout"),
        "code": "model.timeout",
    },
    "error.alert": {
        "what": say("event.what.delivery", bot="hr-bot"),
        "reason": say("error.delivery.gave_up"),
        "code": "delivery.gave_up",
    },
    "security.alert": {"what": say("event.what.audit", action="user.role", target="anna", who="boss")},
    "budget.warning": {
        "budget": {
            "of": say("event.budget.bot", name="hr-bot"),
            "spent": "80.40",
            "limit": "100",
            "percent": 80,
        }
    },
}
