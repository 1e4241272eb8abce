"""Limits against guessing at n-1, n and n+1, over a restart, and in every written form of an address."""

from __future__ import annotations

import pytest

from security.guessing import ACCOUNT, Guessing, Key, by_account, by_address, guess_t
from storage.clock import ManualClock
from storage.database import SqliteDatabase
from storage.errors import Throttled


async def _try(db: SqliteDatabase, guessing: Guessing, *keys: Key) -> float:
    """Seconds to wait, 0 if the try was counted."""
    try:
        await db.write(lambda c: guessing.attempt(c, *keys))
    except Throttled as error:
        return error.retry_after
    return 0


async def test_account_waits_after_five_and_longer_each_time(db: SqliteDatabase, clock: ManualClock) -> None:
    guessing, key = Guessing(clock), by_account("anna")
    for _ in range(ACCOUNT.tries):
        assert await _try(db, guessing, key) == 0
    for wait in (*ACCOUNT.delays, ACCOUNT.delays[-1]):
        assert await _try(db, guessing, key) == wait
        clock.advance(wait - 0.5)
        assert await _try(db, guessing, key) == pytest.approx(0.5)
        clock.advance(0.5)
        assert await _try(db, guessing, key) == 0


async def test_a_restart_gives_no_new_tries(db: SqliteDatabase, clock: ManualClock) -> None:
    for _ in range(5):
        await _try(db, Guessing(clock), by_account("anna"))
    assert await _try(db, Guessing(clock), by_account("anna")) == 30
    assert await _try(db, Guessing(clock), by_account("bert")) == 0


async def test_a_quiet_time_and_a_success_begin_anew(db: SqliteDatabase, clock: ManualClock) -> None:
    guessing, key = Guessing(clock), by_account("anna")
    for _ in range(4):
        await _try(db, guessing, key)
    clock.advance(301)
    for _ in range(4):
        assert await _try(db, guessing, key) == 0
    await db.write(lambda c: guessing.succeeded(c, key))
    for _ in range(5):
        assert await _try(db, guessing, key) == 0
    assert await _try(db, guessing, key) > 0


async def test_twenty_from_one_address_whatever_the_account(db: SqliteDatabase, clock: ManualClock) -> None:
    guessing = Guessing(clock)
    for n in range(20):
        assert await _try(db, guessing, by_account(f"user{n}"), by_address("198.51.100.7")) == 0
    assert await _try(db, guessing, by_account("other"), by_address("198.51.100.7")) == 600
    assert await _try(db, guessing, by_account("other"), by_address("::ffff:198.51.100.7")) == 600
    assert await _try(db, guessing, by_account("other"), by_address("198.51.100.8")) == 0


async def test_one_own_account_buys_no_tries_for_others(db: SqliteDatabase, clock: ManualClock) -> None:
    guessing, address = Guessing(clock), by_address("198.51.100.7")
    for n in range(19):
        await _try(db, guessing, by_account(f"user{n}"), address)
    await _try(db, guessing, by_account("own"), address)
    await db.write(lambda c: guessing.succeeded(c, by_account("own"), address))
    assert await _try(db, guessing, by_account("x"), address) == 0
    assert await _try(db, guessing, by_account("y"), address) > 0


def test_an_ipv6_network_counts_as_one_address() -> None:
    assert by_address("2001:db8:1:2::1").row == by_address("2001:db8:1:2:ffff::9").row
    assert by_address("2001:db8:1:2::1").row != by_address("2001:db8:1:3::1").row


async def test_what_was_typed_is_not_kept(db: SqliteDatabase, clock: ManualClock) -> None:
    await _try(db, Guessing(clock), by_account("my-password-typed-as-name"))
    rows = await db.read(lambda c: c.execute(guess_t.select()).all())
    assert "my-password" not in str(rows)
