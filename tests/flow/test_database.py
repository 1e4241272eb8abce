"""Writes that share a commit: each stands or falls alone, and what was told to be written is."""

from __future__ import annotations

import asyncio
import threading

import pytest
from sqlalchemy import Connection, insert, select, text

from storage.database import SqliteDatabase
from storage.errors import Conflict, Unavailable
from storage.postgres import PostgresDatabase
from storage.tables.system import Setting

AnyDatabase = SqliteDatabase | PostgresDatabase
setting_t = Setting.__table__  # type: ignore[attr-defined]


def put(key: str, value: str = "1") -> object:
    def fn(c: Connection) -> str:
        c.execute(insert(setting_t), {"tenant": "main", "key": key, "value": value, "updated_at": 1})
        return key

    return fn


async def keys(db: AnyDatabase) -> set[str]:
    return set(await db.read(lambda c: c.execute(select(setting_t.c.key)).scalars().all()))


async def test_a_write_that_fails_undoes_itself_alone(any_db: AnyDatabase) -> None:
    def half(c: Connection) -> None:
        put("half")(c)  # type: ignore[operator]
        raise Conflict("x")

    results = await asyncio.gather(
        *(any_db.write(put(f"k{n}")) for n in range(20)),  # type: ignore[arg-type]
        any_db.write(half),
        any_db.write(put("k3")),  # type: ignore[arg-type]
        *(any_db.write(put(f"m{n}"), durable=False) for n in range(20)),  # type: ignore[arg-type]
        return_exceptions=True,
    )
    failed = [r for r in results if isinstance(r, BaseException)]
    assert len(failed) == 2
    assert any(isinstance(error, Conflict) for error in failed)
    assert await keys(any_db) == {f"{a}{n}" for a in "km" for n in range(20)}


async def test_a_full_disk_fails_writes_and_keeps_what_it_confirmed(db: SqliteDatabase) -> None:
    def shrink(c: Connection) -> None:
        pages = c.execute(text("PRAGMA page_count")).scalar_one()
        c.execute(text(f"PRAGMA max_page_count={int(pages) + 40}"))

    await db.write(shrink)
    results = await asyncio.gather(
        *(db.write(put(f"k{n}", "x" * 9000)) for n in range(60)),  # type: ignore[arg-type]
        return_exceptions=True,
    )
    confirmed = {r for r in results if isinstance(r, str)}
    refused = [r for r in results if isinstance(r, BaseException)]
    assert refused
    assert all(isinstance(error, Unavailable) and error.code == "db.full" for error in refused)
    assert await keys(db) == confirmed

    def grow(c: Connection) -> None:
        c.execute(text("PRAGMA max_page_count=1000000"))

    await db.write(grow)
    assert await db.write(put("after")) == "after"  # type: ignore[arg-type]


@pytest.mark.parametrize("batches", [30])
async def test_many_writers_at_once(any_db: AnyDatabase, batches: int) -> None:
    for batch in range(batches):
        await asyncio.gather(*(any_db.write(put(f"b{batch}-{n}")) for n in range(20)))  # type: ignore[arg-type]
    assert len(await keys(any_db)) == 20 * batches


async def test_what_is_urgent_goes_before_what_waits(db: SqliteDatabase) -> None:
    held, order = threading.Event(), list[str]()

    def first(c: Connection) -> None:
        held.wait(10)

    waiting = [asyncio.ensure_future(db.write(first))]
    waiting += [asyncio.ensure_future(db.write(lambda c, n=n: order.append(f"w{n}"))) for n in range(200)]  # type: ignore[misc]
    waiting += [
        asyncio.ensure_future(db.write(lambda c, n=n: order.append(f"u{n}"), urgent=True))  # type: ignore[misc]
        for n in range(100)
    ]
    await asyncio.sleep(0)  # all of them are queued behind the first
    held.set()
    async with asyncio.timeout(20):
        await asyncio.gather(*waiting)
    assert [name for name in order if name[0] == "u"] == [f"u{n}" for n in range(100)]
    assert [name for name in order if name[0] == "w"] == [f"w{n}" for n in range(200)]
    assert order.index("u99") < order.index("w100")
