"""The demo model in the real loop with real tools and memory: what a first start without a key shows."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest

from agent.loop import AgentLoop
from agent.memory.forget import Forgetter
from agent.memory.said import SaidToIt
from agent.memory.store import build_memory
from agent.models.actions import ModelActions
from agent.models.breaker import Breaker
from agent.models.chain import answer
from agent.models.provider import ProviderDraft
from agent.models.router import ModelRouter
from agent.recollection import Recollection
from agent.tools.base import Toolbox
from agent.tools.files import file_tools
from agent.tools.now import time_tool
from agent.tools.plan import plan_tool
from agent.tools.recollection import recall_tool, remember_tool
from security.egress_client import EgressClient
from storage.audit import Audit
from storage.background import Background
from storage.clock import ManualClock
from storage.database import SqliteDatabase
from storage.dispatch import LocalDispatcher
from storage.envelope import Inbound, Outgoing, Part
from storage.ledger import Ledger
from storage.live import Live, LiveEvent
from storage.principal import TENANT, principal
from storage.runner import Runner
from storage.vault import Vault
from storage.words import Words

ADMIN = principal(id="user:1", name="ann", role="admin")
WORDS = Words(Path(__file__).resolve().parents[2] / "assets" / "locale")


class House:
    """Everything between an accepted message and the outbox."""

    def __init__(self, db: SqliteDatabase, clock: ManualClock, folder: Path) -> None:
        self.egress, self.background, vault = EgressClient(), Background(), Vault(b"k" * 32, clock)
        breaker = Breaker(clock)
        self.router = ModelRouter(db=db, vault=vault, egress=self.egress, clock=clock, words=WORDS, pace=0)
        self.actions = ModelActions(
            db=db,
            vault=vault,
            audit=Audit(clock, b"a" * 32),
            clock=clock,
            router=self.router,
            breaker=breaker,
            words=WORDS,
        )
        self.memory = build_memory(db, clock, self.background, folder / "index", embedder="none")
        tools = [
            time_tool(clock),
            plan_tool(),
            remember_tool(self.memory, clock),
            recall_tool(self.memory, clock),
            *file_tools(),
        ]
        self.live, self.ledger = Live(), Ledger(db, clock)
        loop = AgentLoop(
            router=self.router,
            answer=partial(answer, clock=clock, breaker=breaker),
            toolbox=Toolbox(tools),
            words=WORDS,
            files_dir=folder / "files",
            recollection=Recollection(self.memory, SaidToIt(self.memory, Forgetter(self.memory), WORDS)),
        )
        self.runner = Runner(self.ledger, self.live, {"message": loop})
        self.dispatcher = LocalDispatcher(self.ledger, self.runner, self.background)
        self.ledger.on_job = self.dispatcher.submit
        self.said: asyncio.Queue[str] = asyncio.Queue()
        self.ledger.on_deliveries = lambda rows: [self.said.put_nowait(row.payload) for row in rows] and None
        self.events: list[LiveEvent] = []
        self.live.watch(None, self.events.append)
        self.count = 0

    async def ask(self, text: str, *, who: str = "ou_1", conversation: str = "c1") -> str:
        self.count += 1
        await self.ledger.accept(
            Inbound(
                tenant=TENANT,
                bot="b",
                channel="feishu",
                keys=(f"m{self.count}",),
                vendor_id=f"m{self.count}",
                conversation=conversation,
                kind="direct",
                sender=who,
                parts=(Part(kind="text", text=text),),
            )
        )
        payload = await asyncio.wait_for(self.said.get(), 20)
        return Outgoing.from_json(payload).text


@pytest.fixture
async def house(db: SqliteDatabase, clock: ManualClock, tmp_path: Path) -> AsyncIterator[House]:
    made = House(db, clock, tmp_path)
    await made.memory.start()
    await made.actions.save(ADMIN, ProviderDraft(name="demo", type="demo", preset="demo"))
    yield made
    await made.memory.stop()
    await made.background.stop()
    await made.egress.close()


async def test_remembers_in_one_conversation_and_recalls_in_another(house: House) -> None:
    assert "记住了" in await house.ask("记住我的生日是5月3日")
    assert "你的生日是5月3日" in await house.ask("我的生日是哪天?", conversation="c2")
    assert "没有找到" in await house.ask("我的生日是哪天?", who="ou_2", conversation="c3")
    assert "I will remember" in await house.ask("Remember that my favourite tea is oolong", conversation="c4")
    assert "oolong" in await house.ask("What is my favourite tea?", conversation="c5")


async def test_plans_with_a_plan_that_ticks_and_a_real_file(house: House, tmp_path: Path) -> None:
    said = await house.ask("帮我计划一次团建")
    plans = [[item["state"] for item in event.data["items"]] for event in house.events if event.kind == "plan"]
    assert plans[0] == ["doing", "todo", "todo"]
    assert plans[-1] == ["done", "done", "done"]
    assert "plan.md" in said
    assert [path.name for path in (tmp_path / "files").rglob("*.md")] == ["plan.md"]
    assert "团建" in await house.ask("读一下 plan.md")


async def test_streams_what_it_then_answers(house: House) -> None:
    said = await house.ask("你好")
    streamed = "".join(event.data["delta"] for event in house.events if event.kind == "text")
    assert streamed == said
    assert "演示模型" in said


async def test_tells_the_time(house: House) -> None:
    assert "2026-01-01" in await house.ask("现在几点？")


async def test_a_scripted_answer(house: House) -> None:
    house.router.demo.enqueue("scripted")
    assert await house.ask("anything") == "scripted"
