"""What a person may do about events: see who is told of what, change the words, try them out."""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, and_, delete, insert

from channels.bot_draft import EVENTS
from channels.events import Events, template_t
from channels.webhook.template import check
from storage.audit import Audit
from storage.clock import Clock
from storage.database import Database
from storage.errors import Invalid
from storage.principal import Principal
from storage.words import LANGS


@dataclass(frozen=True, kw_only=True, slots=True)
class EventRow:
    """An event with its words. `own`: they differ from the product's. `bots`: who is told."""

    name: str
    templates: dict[str, str]
    own: tuple[str, ...]
    bots: tuple[str, ...]
    names: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class EventTried:
    """What a template says about a sample. `missing` names values that the event does not have."""

    title: str
    text: str
    missing: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class EventActions:
    """Use cases of the events page."""

    db: Database
    audit: Audit
    clock: Clock
    events: Events

    async def list(self, who: Principal) -> builtins.list[EventRow]:
        """Every event with its words in both languages. Right: bot.view."""
        who.require("bot.view")
        words, made = self.events.words, []
        for name in EVENTS:
            listeners = self.events.subscribers(who.tenant, name)
            made.append(
                EventRow(
                    name=name,
                    templates={lang: words.template(who.tenant, name, lang) for lang in LANGS},
                    own=tuple(lang for lang in LANGS if (who.tenant, name, lang) in words.templates),
                    bots=tuple(sorted({listener.bot for listener in listeners})),
                    names=tuple(_paths(words.sample(name, LANGS[0], self.clock.ms()))),
                )
            )
        return made

    async def save(self, who: Principal, event: str, lang: str, text: str) -> None:
        """Change the words of an event in a language; empty takes the product's own again. Right: bot.manage.

        Raises:
            Invalid: `bot.event`, `event.lang`, `hook.template_long`, `hook.template_braces`.
        """
        who.require("bot.manage")
        _known(event, lang)
        text = text.replace("\r\n", "\n").strip()
        if text == self.events.words.default(event, lang):
            text = ""
        if text:
            check(text)
        now, before = self.clock.ms(), self.events.words.template(who.tenant, event, lang)

        def fn(c: Connection) -> None:
            mine = and_(template_t.c.tenant == who.tenant, template_t.c.event == event, template_t.c.lang == lang)
            c.execute(delete(template_t).where(mine))
            if text:
                values = {"tenant": who.tenant, "event": event, "lang": lang, "text": text}
                c.execute(insert(template_t).values(**values, updated_at=now, updated_by=who.id))
            self.audit.record(c, who, "event.template", f"{event}:{lang}", before=before, after=text)

        await self.db.write(fn)
        await self.events.reload()

    async def try_out(self, who: Principal, event: str, lang: str, text: str) -> EventTried:
        """What a template says about a sample. Nothing is kept or sent. Right: bot.manage. Raises `Invalid`."""
        who.require("bot.manage")
        _known(event, lang)
        words = self.events.words
        text = text.strip() or words.default(event, lang)
        check(text)
        filled = words.tried(text, words.sample(event, lang, self.clock.ms()))
        return EventTried(title=words.title(event, lang), text=filled.text, missing=filled.missing)


def _known(event: str, lang: str) -> None:
    if event not in EVENTS:
        raise Invalid("bot.event", field="event", event=event[:60], known=", ".join(EVENTS))
    if lang not in LANGS:
        raise Invalid("event.lang", field="lang")


def _paths(document: object, before: str = "") -> Sequence[str]:
    """The names that a template may use."""
    if not isinstance(document, dict):
        return (before,)
    return [path for name, item in document.items() for path in _paths(item, f"{before}.{name}" if before else name)]
