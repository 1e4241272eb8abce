"""The parts behind the chat page without a browser: ledger, runner, a scripted answer, and what the page was told."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from agent.actions import ChatActions
from agent.models.actions import ModelRef
from agent.trace import TraceActions
from pages.chat_view import ChatView
from pages.visitor import Visitor
from storage.background import Background
from storage.clock import Clock
from storage.database import SqliteDatabase
from storage.dispatch import LocalDispatcher
from storage.envelope import Outgoing
from storage.errors import AppError
from storage.ledger import Ending, JobView, Ledger
from storage.live import Live
from storage.outbox import Outbox
from storage.principal import Principal, principal
from storage.runner import Runner, Work
from storage.settings import ROOT
from storage.words import Words

WAIT = 10.0
Script = Callable[[Work], Awaitable[Ending]]
MODELS = (
    ModelRef(ref="fast/one", provider="fast", model="one", demo=False, default=True),
    ModelRef(ref="demo/demo", provider="demo", model="demo", demo=True, default=False),
)


def answer(text: str, **more: Any) -> Ending:
    return Ending(say=(Outgoing(kind="answer", text=text),), model="fast/one", **more)


def visitor(name: str = "user:1", lang: str = "zh_CN") -> Visitor:
    who = principal(id=name, name="管理员", role="owner", lang=lang)
    return Visitor(who=who, lang=lang, theme="auto", client=None, words=Words(ROOT / "assets" / "locale"))  # type: ignore[arg-type]


class Scripted:
    """Answers with the next script; counts what it was asked."""

    def __init__(self) -> None:
        self.scripts: list[Script] = []

    async def run(self, work: Work) -> Ending:
        return await self.scripts.pop(0)(work)

    def excuse(self, job: JobView, error: AppError) -> Ending:
        return Ending(status="failed", reason=error.code, say=(Outgoing(kind="notice", text=f"失败 {error.code}"),))


@dataclass
class Told:
    """What one page was told, in order, with the messages as a browser would hold them."""

    log: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    items: dict[str, dict[str, Any]] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    _settled: dict[str, str] = field(default_factory=dict)
    _tail: dict[str, bytes] = field(default_factory=dict)
    _seq: dict[str, int] = field(default_factory=dict)

    def take(self, kind: str, **data: Any) -> None:
        json.dumps(data)  # the browser must be able to read it
        self.log.append((kind, data))
        for item in [*data.get("items", []), *([data["item"]] if data.get("item") else [])]:
            if item.get("replaces"):
                self.items.pop(item["replaces"], None)
            self.items[item["key"]] = self.items.get(item["key"], {}) | item
            if "html" in item:
                self.texts[item["key"]] = item["html"]
        if kind == "run" and data["patch"]:
            self._patch(data["item"]["key"], data["patch"])
        if kind == "grow":
            for patch in data["patches"]:
                self._patch(data["key"], patch)
        if kind == "void":
            self._set(data["key"], "", b"")
        self.changed.set()

    def _patch(self, key: str, patch: dict[str, Any]) -> None:
        if patch["fresh"]:
            self._set(key, "", b"")
        else:
            assert patch["seq"] == self._seq[key] + 1
        self._seq[key] = patch["seq"]
        before = b"" if patch["settled"] else self._tail[key]
        tail = before[: 2 * patch["keep"]] + patch["tail"].encode("utf-16-le")
        self._set(key, self._settled[key] + patch["settled"], tail)

    def _set(self, key: str, settled: str, tail: bytes) -> None:
        self._settled[key], self._tail[key] = settled, tail
        self.texts[key] = settled + tail.decode("utf-16-le")

    def kinds(self) -> list[str]:
        return [kind for kind, _ in self.log]

    def over(self) -> bool:
        """True if the last thing said has its answer."""
        last = next(reversed(self.items.values()), {})
        return "html" in last and not last.get("running")

    async def until(self, true: Callable[[], object]) -> None:
        """Wait for the page to be told enough."""
        async with asyncio.timeout(WAIT):
            while not true():
                self.changed.clear()
                await self.changed.wait()


class House:
    """Everything for one test; `async with House(db) as house`."""

    def __init__(self, db: SqliteDatabase) -> None:
        self.db, self.clock, self.live, self.background = db, Clock(), Live(), Background()
        self.ledger = Ledger(db, self.clock)
        self.agent = Scripted()
        self.runner = Runner(self.ledger, self.live, {"message": self.agent})
        self.dispatcher = LocalDispatcher(self.ledger, self.runner, self.background)
        self.ledger.on_job = self.dispatcher.submit
        words = Words(ROOT / "assets" / "locale")
        self.chat = ChatActions(
            db=db, ledger=self.ledger, live=self.live, runner=self.runner, clock=self.clock, words=words
        )
        self.trace = TraceActions(
            db=db,
            ledger=self.ledger,
            outbox=Outbox(self.ledger),
            runner=self.runner,
            live=self.live,
            clock=self.clock,
            words=words,
        )

    async def __aenter__(self) -> House:
        await self.dispatcher.start()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.dispatcher.stop(1)
        await self.background.stop(1)

    async def choices(self, who: Principal) -> tuple[ModelRef, ...]:
        return MODELS

    def page(self, v: Visitor | None = None) -> tuple[ChatView, Told]:
        """A page of a visitor that is connected."""
        view, told = ChatView(v or visitor(), self.chat, self.trace, self.choices), Told()
        view.take = told.take
        self.background.spawn("page", view.follow())
        return view, told
