"""Sessions: rows on the server, ends by time and by revocation, no database read for a known one."""

from __future__ import annotations

import pytest

from security.sessions import ABSOLUTE, HOUR, IDLE, Sessions, key_of, session_t
from storage.clock import ManualClock
from storage.database import SqliteDatabase
from tests.security_house import House


@pytest.fixture
def house(db: SqliteDatabase, clock: ManualClock) -> House:
    return House(db, clock)


async def test_only_the_hash_of_the_cookie_is_kept(house: House) -> None:
    value, who = await house.owner()
    assert len(value) >= 43
    rows = await house.db.read(lambda c: c.execute(session_t.select()).all())
    assert value not in str(rows)
    assert who.session == key_of(value)


async def test_a_known_session_costs_no_database_read(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    value, _ = await house.owner()
    reads = []
    real = house.db.read

    async def counting(fn: object) -> object:
        reads.append(fn)
        return await real(fn)  # type: ignore[arg-type]

    house.db.read = counting  # type: ignore[method-assign,assignment]
    for _ in range(50):
        assert await house.live(value) is not None
    assert not reads
    await house.sessions.load()
    reads.clear()
    for n in range(50):
        assert await house.live(f"made-up-cookie-value-{n:020}") is None
    assert not reads


async def test_idle_and_absolute_end(house: House) -> None:
    value, _ = await house.owner()
    for _ in range(ABSOLUTE // (IDLE - HOUR)):
        house.clock.advance((IDLE - HOUR) / 1000)
        assert await house.live(value) is not None
    house.clock.advance((IDLE - HOUR) / 1000)
    assert await house.live(value) is None

    step = await house.sign_in.password("anna", "kY7#mvQ2pLx9-tree", ip="::1", agent="")
    house.clock.advance(IDLE / 1000)
    assert not house.sessions.alive(step.sid)
    assert await house.live(step.value) is None


async def test_a_restart_keeps_sessions_and_their_idle_time(house: House) -> None:
    value, _ = await house.owner()
    house.clock.advance(11 * 3600)
    assert await house.live(value) is not None
    await house.sessions.sweep()
    house.clock.advance(11 * 3600)
    again = Sessions(house.db, house.clock)
    await again.load()
    assert await again.find(value) is not None
    house.clock.advance(13 * 3600)
    assert await again.find(value) is None


async def test_revocation_is_told_at_once_and_lasts(house: House) -> None:
    value, who = await house.owner()
    told: list[str] = []
    house.sessions.on_end(told.append)
    await house.sessions.revoke(key_of(value))
    assert told[-1] == who.session
    assert await house.live(value) is None
    again = Sessions(house.db, house.clock)
    await again.load()
    assert await again.find(value) is None


async def test_what_another_process_revoked_is_learned_by_the_sweep(house: House) -> None:
    value, _ = await house.owner()
    told: list[str] = []
    house.sessions.on_end(told.append)
    other = Sessions(house.db, house.clock)
    await other.revoke(key_of(value))
    assert await house.live(value) is not None
    await house.sessions.sweep()
    assert told == [key_of(value)]
    assert await house.live(value) is None


@pytest.mark.parametrize("act", ["role", "disable", "password", "totp", "sessions"])
async def test_every_change_of_rights_or_factors_ends_the_users_sessions(house: House, act: str) -> None:
    _, owner = await house.owner()
    value, bert = await house.user(owner, "bert", "operator")
    user_id = int(bert.id.removeprefix("user:"))
    if act == "totp":
        await house.enrol(bert)
        assert await house.live(value) is not None  # one's own session goes along
    people = house.people
    await {
        "role": lambda: people.set_role(owner, user_id, "member"),
        "disable": lambda: people.disable(owner, user_id),
        "password": lambda: people.reset_password(owner, user_id, "Wq4!zzRt88-lamp"),
        "totp": lambda: people.reset_totp(owner, user_id),
        "sessions": lambda: people.revoke_sessions(owner, user_id),
    }[act]()
    assert await house.live(value) is None
    again = Sessions(house.db, house.clock)
    await again.load()
    assert await again.find(value) is None
    assert house.sessions.alive(owner.session)


async def test_sessions_of_one_user_are_bounded(house: House) -> None:
    first, _ = await house.owner()
    for _ in range(25):
        house.clock.advance(1)
        await house.sign_in.password("anna", "kY7#mvQ2pLx9-tree", ip="::1", agent="")
    await house.sessions.sweep()
    assert await house.live(first) is None
    _, who = await house.user(
        await house.who((await house.sign_in.password("anna", "kY7#mvQ2pLx9-tree", ip="::1", agent="")).value),
        "bert",
        "member",
    )
    assert house.sessions.alive(who.session)


@pytest.mark.parametrize("value", ["", "x", "é" * 30, "a" * 5000, "\0" * 43])
async def test_no_cookie_value(house: House, value: str) -> None:
    assert await house.live(value) is None


async def test_old_rows_are_removed(house: House) -> None:
    await house.owner()
    house.clock.advance(15 * 86400)
    await house.sessions.tidy()
    assert await house.db.read(lambda c: c.execute(session_t.select()).all()) == []
