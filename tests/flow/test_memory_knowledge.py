"""Documents of every kind are found and cited; hostile ones are refused or contained, the process unharmed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import select

from agent.memory.base import MemoryScope
from agent.memory.knowledge import Knowledge, clean_name
from agent.memory.parsers.limits import Limits
from agent.memory.parsers.run import parse
from agent.memory.rows import memory_t
from agent.memory.store import MemoryStore, build_memory
from storage.audit import Audit
from storage.background import Background
from storage.clock import ManualClock
from storage.database import SqliteDatabase
from storage.errors import AppError, Denied, Invalid, NotFound, TooLarge
from storage.principal import principal
from tests.fakes import documents

ADMIN = principal(id="user:1", name="root", role="admin")
MEMBER = principal(id="user:2", name="anne", role="member")
STRANGER = principal(id="user:3", name="eve", role="admin", tenant="other")
ANNE = MemoryScope(tenant="main", person="feishu:ou_anne")
AT_HR = MemoryScope(tenant="main", person="feishu:ou_anne", bot="hr")
ELSEWHERE = MemoryScope(tenant="other", person="feishu:ou_anne")

GOOD = {
    "handbook.pdf": (
        documents.pdf(["Welcome to the company", "Parental leave is sixteen weeks"]),
        "parental leave weeks",
        "p. 2",
    ),
    "handbook.docx": (
        documents.word(
            [
                ("Heading 1", "休假"),
                ("", "年假每年十五天，入职满一年后可休。"),
                ("Heading 1", "报销"),
                ("", "差旅费每天最多五百元。"),
            ]
        ),
        "差旅费每天最多多少元",
        "报销",
    ),
    "table.docx": (documents.word([("", "价目表")], [["产品", "价格"], ["蓝色水杯", "29元"]]), "蓝色水杯的价格", ""),
    "prices.xlsx": (
        documents.excel({"价格": [["产品", "单价"], ["红色雨伞", 45], ["绿色雨伞", 52]]}),
        "红色雨伞的单价",
        "价格 1-",
    ),
    "talk.pptx": (
        documents.powerpoint([["Agenda"], ["Roadmap", "Launch on December fifth"]]),
        "when is the launch",
        "slide 2",
    ),
    "readme.md": ("# 安装\n\n运行安装脚本。\n\n# 端口\n\n面板监听 18789 端口。\n".encode(), "面板监听哪个端口", "端口"),
    "page.html": (
        b"<html><head><title>t</title><style>p{}</style></head><body><nav>menu</nav><article><h1>Parking</h1>"
        b"<p>Visitors park on level three.</p><p style='display:none'>hidden secret level nine</p>"
        b"<script>alert('level four')</script></article></body></html>",
        "where do visitors park",
        "Parking",
    ),
    "list.csv": ("姓名,工位\n李雷,三楼A12\n韩梅梅,五楼B07\n".encode(), "韩梅梅的工位", "rows 2-"),
    "old.txt": ("会议室预订请联系前台。\n\n打印机在二楼东侧。\n".encode("gb18030"), "打印机在哪里", "line 3"),
}


@pytest.fixture
async def memory(db: SqliteDatabase, clock: ManualClock, tmp_path: Path) -> AsyncIterator[MemoryStore]:
    background = Background()
    store = build_memory(db, clock, background, tmp_path / "index", embedder="none")
    await store.start()
    yield store
    await store.stop()
    await background.stop()


@pytest.fixture
async def knowledge(memory: MemoryStore, clock: ManualClock, tmp_path: Path) -> AsyncIterator[Knowledge]:
    made = Knowledge(memory, Audit(clock, b"k" * 32), clock, memory.background, tmp_path / "files")
    await made.start()
    yield made
    await made.stop()


async def settled(knowledge: Knowledge, seconds: float = 50) -> None:
    async with asyncio.timeout(seconds):
        await knowledge.settle()
    await knowledge.memory.settle()


@pytest.mark.parametrize("name", GOOD)
async def test_found_with_its_place(knowledge: Knowledge, name: str) -> None:
    data, query, place = GOOD[name]
    await knowledge.add(ADMIN, name, data)
    await settled(knowledge)
    row = (await knowledge.list(ADMIN))[0]
    assert (row.status, row.error) == ("ready", "")
    found = await knowledge.memory.recall(ANNE, query)
    assert found[0].cite == (f"{name}, {place}" if place else name)
    assert found[0].label == "t5"
    assert await knowledge.memory.recall(ELSEWHERE, query) == []


async def test_scripts_and_hidden_text_are_dropped(knowledge: Knowledge) -> None:
    await knowledge.add(ADMIN, "page.html", GOOD["page.html"][0])
    await settled(knowledge)
    texts = await knowledge.db.read(lambda c: [r.text for r in c.execute(select(memory_t.c.text))])
    assert not [t for t in texts if "alert" in t or "hidden secret" in t or "menu" in t]


async def test_a_bots_documents_are_its_own(knowledge: Knowledge) -> None:
    await knowledge.add(ADMIN, "list.csv", GOOD["list.csv"][0], bot="hr")
    await settled(knowledge)
    assert (await knowledge.memory.recall(AT_HR, "韩梅梅的工位"))[0].cite == "list.csv, rows 2-"
    assert await knowledge.memory.recall(ANNE, "韩梅梅的工位") == []


async def test_replace_reindex_remove(knowledge: Knowledge) -> None:
    first = await knowledge.add(ADMIN, "a.txt", "打印机在二楼东侧。".encode())
    await settled(knowledge)
    again = await knowledge.add(ADMIN, "a.txt", "打印机搬到了五楼西侧。".encode())
    await settled(knowledge)
    assert first == again
    row = (await knowledge.list(ADMIN))[0]
    assert (row.version, row.chunks, row.status) == (2, 1, "ready")
    found = await knowledge.memory.recall(ANNE, "打印机在几楼")
    assert [f.text for f in found] == ["打印机搬到了五楼西侧。"]
    await knowledge.reindex(ADMIN, first)
    await settled(knowledge)
    assert [f.text for f in await knowledge.memory.recall(ANNE, "打印机在几楼")] == ["打印机搬到了五楼西侧。"]
    _, path = await knowledge.file_of(ADMIN, first)
    assert path.is_file()
    assert len(list(path.parent.iterdir())) == 1
    await knowledge.remove(ADMIN, first)
    assert await knowledge.list(ADMIN) == []
    assert await knowledge.memory.recall(ANNE, "打印机在几楼") == []
    assert not path.exists()


async def test_what_was_cut_off_goes_on_after_a_restart(
    memory: MemoryStore, clock: ManualClock, tmp_path: Path
) -> None:
    first = Knowledge(memory, Audit(clock, b"k" * 32), clock, memory.background, tmp_path / "files")
    await first.add(ADMIN, "a.txt", "打印机在二楼东侧。".encode())  # not started: as if killed right after
    second = Knowledge(memory, Audit(clock, b"k" * 32), clock, memory.background, tmp_path / "files")
    await second.start()
    await settled(second)
    assert (await second.list(ADMIN))[0].status == "ready"
    await second.stop()


async def test_only_who_may(knowledge: Knowledge) -> None:
    number = await knowledge.add(ADMIN, "a.txt", b"hello there")
    with pytest.raises(Denied):
        await knowledge.add(MEMBER, "b.txt", b"x")
    with pytest.raises(Denied):
        await knowledge.list(MEMBER)
    assert await knowledge.list(STRANGER) == []
    for act in (
        knowledge.remove(STRANGER, number),
        knowledge.reindex(STRANGER, number),
        knowledge.file_of(STRANGER, number),
    ):
        with pytest.raises(NotFound):
            await act


async def test_too_large_is_refused_at_once(memory: MemoryStore, clock: ManualClock, tmp_path: Path) -> None:
    small = Knowledge(memory, Audit(clock, b"k" * 32), clock, memory.background, tmp_path, Limits(bytes=10))
    with pytest.raises(TooLarge):
        await small.add(ADMIN, "a.txt", b"x" * 11)


@pytest.mark.parametrize(
    ("name", "clean"),
    [
        ("../../etc/passwd.txt", "passwd.txt"),
        ("C:\\temp\\a.pdf", "a.pdf"),
        ("a\x00b\u202e.pdf", "ab.pdf"),
        ("x" * 400 + ".pdf", "x" * 196 + ".pdf"),
    ],
)
def test_names_are_only_for_showing(name: str, clean: str) -> None:
    assert clean_name(name) == clean


def test_a_name_of_nothing_is_refused() -> None:
    with pytest.raises(Invalid):
        clean_name("///..")


@pytest.fixture(scope="module")
def hostile() -> dict[str, bytes]:
    return documents.hostile()


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("bomb.docx", "archive"),
        ("many.docx", "archive"),
        ("huge.xlsx", "archive"),
        ("cells.csv", "cells"),
        ("entities.docx", "damaged"),
        ("entities.pptx", "damaged"),
        ("outside.pptx", "damaged"),
        ("tree.pdf", ""),
        ("stream.pdf", ""),
        ("macro.docx", "macro"),
        ("program.pdf", "binary"),
        ("page.txt", "disagree"),
        ("old.docx", "old_office"),
        ("cut.docx", "damaged"),
        ("deep.html", ""),
        ("zeros.txt", "binary"),
        ("empty.md", "empty"),
        ("line.txt", "chars"),
        ("program.exe", "kind"),
    ],
)
async def test_hostile_documents(hostile: dict[str, bytes], tmp_path: Path, name: str, code: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(hostile[name])
    size, caught = 0, ""
    try:
        async with asyncio.timeout(55):
            async for block in parse(path, name, Limits(seconds=40)):
                size += len(block.text)
                assert "root:" not in block.text
    except AppError as error:
        caught = error.code
    assert size < 3_000_000
    if code:
        assert caught == f"knowledge.{code}"
