"""The memory page's use cases: search explained, edit, pin, supersede, forget, export and import, and who may."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agent.memory.actions import MINE, MemoryActions
from agent.memory.base import MemoryScope
from agent.memory.forget import Forgetter, Wish
from agent.memory.store import MemoryStore, build_memory
from storage.audit import Audit
from storage.background import Background
from storage.clock import ManualClock
from storage.database import SqliteDatabase
from storage.errors import Denied, Invalid, NotFound
from storage.principal import principal

ANNE = principal(id="user:1", name="anne", role="member")
BOB = principal(id="user:2", name="bob", role="member")
ADMIN = principal(id="user:3", name="root", role="admin")
STRANGER = principal(id="user:4", name="eve", role="admin", tenant="other")
SCOPE = MemoryScope(tenant="main", person="user:1")


@pytest.fixture
async def memory(db: SqliteDatabase, clock: ManualClock, tmp_path: Path) -> AsyncIterator[MemoryStore]:
    background = Background()
    store = build_memory(db, clock, background, tmp_path / "index", embedder="none")
    await store.start()
    yield store
    await store.stop()
    await background.stop()


@pytest.fixture
def actions(memory: MemoryStore, clock: ManualClock) -> MemoryActions:
    return MemoryActions(memory, Forgetter(memory), Audit(clock, b"k" * 32), clock)


async def texts(actions: MemoryActions, who=ANNE, place: int = MINE, **more) -> list[str]:  # type: ignore[no-untyped-def]
    return [item.text for item in await actions.items(who, place, **more)]


async def test_search_explains_itself(actions: MemoryActions) -> None:
    await actions.add(ANNE, MINE, "我的猫叫豆豆")
    found = await actions.search(ANNE, MINE, "猫叫什么")
    assert found[0].item.text == "我的猫叫豆豆"
    assert found[0].fits
    assert set(found[0].parts) >= {"words", "cover", "shape"}


async def test_members_see_their_own_memory_only(actions: MemoryActions) -> None:
    number = await actions.add(ANNE, MINE, "我的猫叫豆豆")
    assert [p.key for p in await actions.places(BOB)] == ["user:2"]
    places = await actions.places(ADMIN)
    anne = next(p for p in places if p.key == "user:1")
    assert (anne.rows, anne.facts) == (1, 1)
    assert [f.item.text for f in await actions.search(ADMIN, anne.id, "猫")] == ["我的猫叫豆豆"]
    assert await texts(actions, BOB) == []
    for who in (BOB, STRANGER):
        with pytest.raises(NotFound):
            await actions.items(who, anne.id)
        for act in (
            actions.edit(who, number, "x"),
            actions.pin(who, number, True),
            actions.supersede(who, number, "x"),
        ):
            with pytest.raises(NotFound):
                await act
        with pytest.raises(NotFound):
            await actions.related(who, number)
    with pytest.raises(Denied):
        await actions.preview(BOB, MINE, Wish(person="user:1"))
    assert await texts(actions) == ["我的猫叫豆豆"]


async def test_an_edit_changes_what_is_found(actions: MemoryActions) -> None:
    number = await actions.add(ANNE, MINE, "我的猫叫豆豆")
    await actions.edit(ANNE, number, "我的狗叫毛毛")
    assert await texts(actions) == ["我的狗叫毛毛"]
    assert (await actions.search(ANNE, MINE, "毛毛"))[0].fits
    assert not [f for f in await actions.search(ANNE, MINE, "豆豆") if f.fits]


async def test_superseding_keeps_the_history(actions: MemoryActions) -> None:
    old = await actions.add(ANNE, MINE, "我住在北京")
    await actions.supersede(ANNE, old, "我住在上海")
    assert await texts(actions) == ["我住在上海"]
    assert await texts(actions, history=True) == ["我住在上海", "我住在北京"]
    newest = (await actions.items(ANNE, MINE))[0]
    assert [(i.text, i.state) for i in await actions.past(ANNE, newest.id)] == [
        ("我住在北京", "history"),
        ("我住在上海", "now"),
    ]


async def test_a_pinned_row_comes_first(actions: MemoryActions) -> None:
    await actions.add(ANNE, MINE, "会议室在三楼东侧")
    second = await actions.add(ANNE, MINE, "会议室在五楼东侧")
    await actions.pin(ANNE, second, True)
    assert (await actions.search(ANNE, MINE, "会议室东侧"))[0].item.id == second
    assert (await actions.items(ANNE, MINE))[0].pinned
    await actions.pin(ANNE, second, False)
    assert not (await actions.items(ANNE, MINE))[0].pinned


async def test_forget_with_a_dry_run(actions: MemoryActions) -> None:
    await actions.add(ANNE, MINE, "我的猫叫豆豆")
    assert (await actions.preview(ANNE, MINE, Wish(query="豆豆"))).total == 1
    assert (await actions.forget(ANNE, MINE, Wish(query="豆豆"))).total == 1
    assert await texts(actions) == []


async def test_export_and_import_again(actions: MemoryActions, memory: MemoryStore, clock: ManualClock) -> None:
    await memory.keep_turn(
        SCOPE, message_id=1, speaker="安妮", text="我们聊聊", at=clock.ms(), session="c1", label="t2"
    )
    first = await actions.add(ANNE, MINE, "我住在北京")
    clock.advance(60)
    await actions.supersede(ANNE, first, "我住在上海")
    lines = "".join([part async for part in actions.export(ANNE, MINE)]).splitlines()
    assert len(lines) == 4
    assert '"format": "zhixing-memory-1"' in lines[0]
    assert await actions.import_(BOB, MINE, lines) == 3
    assert await actions.import_(BOB, MINE, lines) == 3
    assert sorted(await texts(actions, BOB, history=True)) == ["我们聊聊", "我住在上海", "我住在北京"]
    assert "我住在北京" not in await texts(actions, BOB)
    assert (await actions.search(BOB, MINE, "住在哪里"))[0].item.text == "我住在上海"


@pytest.mark.parametrize(
    "bad",
    [
        "{",
        "[]",
        "1",
        '{"kind": "fact"}',
        '{"kind": "rule", "text": "x", "at": 1}',
        '{"kind": "fact", "text": "x", "at": "1"}',
        '{"kind": "fact", "text": "x", "at": 1, "speaker": 5}',
        '{"format": "other"}',
        '{"kind":"fact","text":"x","at":-1}',
    ],
)
async def test_a_bad_line_is_named(actions: MemoryActions, bad: str) -> None:
    good = '{"kind": "fact", "text": "好", "at": 1700000000000}'
    with pytest.raises(Invalid) as caught:
        await actions.import_(ANNE, MINE, [good, bad])
    assert caught.value.code == "memory.import_line"
    assert caught.value.params == {"line": 2}


async def test_an_import_is_never_better_than_ones_own_word(actions: MemoryActions) -> None:
    await actions.import_(ANNE, MINE, ['{"kind": "fact", "text": "好", "at": 1700000000000, "label": "t0"}'])
    assert (await actions.items(ANNE, MINE))[0].label == "t2"


async def test_related_months_and_state(actions: MemoryActions) -> None:
    number = await actions.add(ANNE, MINE, "周末去爬黄山")
    await actions.add(ANNE, MINE, "黄山的日出很美")
    assert [f.item.text for f in await actions.related(ANNE, number)] == ["黄山的日出很美"]
    assert await actions.months(ANNE, MINE) == [("2026-01", 2)]
    state = await actions.state(ANNE)
    assert (state.embedder, state.moving_to) == ("", "")
    with pytest.raises(Denied):
        await actions.set_embedder(ANNE, "none")
    with pytest.raises(Invalid):
        await actions.set_embedder(ADMIN, "../x")


@pytest.mark.parametrize("text", ["", "   ", "x" * 2001])
async def test_bad_texts_are_refused(actions: MemoryActions, text: str) -> None:
    with pytest.raises(Invalid):
        await actions.add(ANNE, MINE, text)
