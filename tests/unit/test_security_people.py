"""Accounts and people: own acts on one's own account only, roles, the last owner."""

from __future__ import annotations

import pytest

from storage.clock import ManualClock
from storage.database import SqliteDatabase
from storage.errors import AppError, Conflict, Denied, Invalid, NotFound, Throttled
from storage.principal import Principal, principal
from tests.security_house import GOOD, OTHER, House


@pytest.fixture
def house(db: SqliteDatabase, clock: ManualClock) -> House:
    return House(db, clock)


def _id(who: Principal) -> int:
    return int(who.id.removeprefix("user:"))


async def test_change_password_keeps_this_session_and_ends_the_others(house: House) -> None:
    value, owner = await house.owner()
    other = await house.sign_in.password("anna", GOOD, ip="::1", agent="")
    await house.account.change_password(owner, GOOD, OTHER, OTHER)
    assert await house.live(value) is not None
    assert await house.live(other.value) is None
    await house.sessions.sweep()
    assert await house.live(value) is not None
    assert (await house.sign_in.password("anna", OTHER, ip="::1", agent="")).done


@pytest.mark.parametrize(
    ("current", "new", "again", "code", "field"),
    [
        ("", OTHER, OTHER, "password.current_empty", "current"),
        ("wrong", OTHER, OTHER, "password.current", "current"),
        (GOOD, "short", "short", "password.short", "password"),
        (GOOD, OTHER, OTHER + "x", "password.differs", "again"),
        (GOOD, GOOD, GOOD, "password.same", "password"),
    ],
)
async def test_change_password_says_what_is_wrong(
    house: House, current: str, new: str, again: str, code: str, field: str
) -> None:
    _, owner = await house.owner()
    with pytest.raises(Invalid) as caught:
        await house.account.change_password(owner, current, new, again)
    assert (caught.value.code, caught.value.field) == (code, field)


async def test_a_stolen_session_cannot_guess_the_password(house: House) -> None:
    _, owner = await house.owner()
    for _ in range(5):
        with pytest.raises(Invalid):
            await house.account.change_password(owner, "guess", OTHER, OTHER)
    with pytest.raises(Throttled):
        await house.account.change_password(owner, GOOD, OTHER, OTHER)


async def test_one_time_codes_on_and_off(house: House) -> None:
    value, owner = await house.owner()
    with pytest.raises(Conflict, match=r"totp\.not_begun"):
        await house.account.totp_confirm(owner, "123456")
    first = await house.account.totp_begin(owner)
    assert (await house.account.totp_begin(owner)).grouped == first.grouped  # a reload does not spoil the scan
    with pytest.raises(Invalid, match=r"code\.wrong"):
        await house.account.totp_confirm(owner, "000000")
    assert not (await house.account.view(owner)).totp
    app, recovery = await house.enrol(owner)
    assert (await house.account.view(owner)).totp
    assert await house.live(value) is not None
    assert await house.secret(_id(owner)) == app.secret
    house.clock.advance(30)
    renewed = await house.account.recovery_renew(owner, house.code(app))
    assert not set(renewed) & set(recovery)
    with pytest.raises(Invalid, match=r"code\.used"):
        await house.account.totp_remove(owner, GOOD, house.code(app))
    house.clock.advance(30)
    await house.account.totp_remove(owner, GOOD, house.code(app))
    assert not (await house.account.view(owner)).totp
    assert await house.secret(_id(owner)) is None


async def test_a_stolen_session_cannot_guess_codes(house: House) -> None:
    _, owner = await house.owner()
    app, _ = await house.enrol(owner)
    house.clock.advance(30)
    for _ in range(5):
        with pytest.raises(Invalid, match=r"code\.wrong"):
            await house.account.recovery_renew(owner, "000000")
    with pytest.raises(Throttled):
        await house.account.recovery_renew(owner, house.code(app))


async def test_an_old_session_needs_the_password_to_set_codes_up(house: House) -> None:
    _, owner = await house.owner()
    house.clock.advance(16 * 60)
    with pytest.raises(Invalid, match=r"password\.current_empty"):
        await house.account.totp_begin(owner)
    await house.account.totp_begin(owner, GOOD)


async def test_own_sessions_are_listed_and_ended(house: House) -> None:
    value, owner = await house.owner()
    other = await house.sign_in.password("anna", GOOD, ip="198.51.100.7", agent="Firefox")
    rows = await house.account.list_sessions(owner)
    assert {(row.agent, row.current) for row in rows} == {("test", True), ("Firefox", False)}
    handle = next(row.handle for row in rows if not row.current)
    _, bert = await house.user(owner, "bert")
    with pytest.raises(NotFound):
        await house.account.revoke_session(bert, handle)
    for bad in ("", "%", handle[:5], "_" * 16):
        with pytest.raises(NotFound):
            await house.account.revoke_session(owner, bad)
    await house.account.revoke_session(owner, handle)
    assert await house.live(other.value) is None
    await house.sign_in.password("anna", GOOD, ip="::1", agent="")
    await house.account.revoke_others(owner)
    assert [row.current for row in await house.account.list_sessions(owner)] == [True]
    assert await house.live(value) is not None


async def test_language_and_theme_reach_the_session(house: House) -> None:
    value, owner = await house.owner()
    await house.account.set_language(owner, "en")
    await house.account.set_theme(owner, "dark")
    live = await house.live(value)
    assert live is not None
    assert (live.principal("::1", "zh").lang, live.theme) == ("en", "dark")
    await house.account.set_language(owner, "")
    assert live.principal("::1", "zh-CN,zh;q=0.9").lang == "zh_CN"
    assert live.principal("::1", "en-GB").lang == "en"
    with pytest.raises(Invalid):
        await house.account.set_language(owner, "../etc")


async def test_accounts_belong_to_people(house: House) -> None:
    key = principal(id="key:7", name="ci", role="owner")
    with pytest.raises(Denied, match=r"account\.person"):
        await house.account.view(key)


async def test_roles_and_rights(house: House) -> None:
    _, owner = await house.owner()
    _, admin = await house.user(owner, "ada", "admin")
    _, member = await house.user(owner, "mia", "member")

    async def code(act: object) -> str:
        try:
            await act  # type: ignore[misc]
        except AppError as error:
            return error.code
        return "ok"

    people = house.people
    assert await code(people.list(member)) == "right.missing"
    assert await code(people.create(member, name="eve", role="member", password=GOOD)) == "right.missing"
    assert await code(people.create(admin, name="eve", role="owner", password=GOOD)) == "role.too_high"
    assert await code(people.create(admin, name="eve", role="setup", password=GOOD)) == "role.unknown"
    assert await code(people.create(admin, name="eve", role="member", password="short")) == "password.short"
    assert await code(people.create(admin, name="MIA", role="member", password=GOOD)) == "name.taken"
    assert await code(people.set_role(admin, _id(owner), "member")) == "right.missing"
    assert await code(people.disable(admin, _id(owner))) == "right.missing"
    assert await code(people.reset_password(admin, _id(owner), OTHER)) == "right.missing"
    assert await code(people.set_role(admin, _id(admin), "owner")) == "role.too_high"
    assert await code(people.set_role(owner, _id(owner), "member")) == "user.own_role"
    assert await code(people.disable(owner, _id(owner))) == "user.own_role"
    assert await code(people.disable(owner, 999)) == "user.missing"
    assert await code(people.set_role(admin, _id(member), "operator")) == "ok"
    assert {row.name: row.role for row in await people.list(owner)} == {
        "ada": "admin",
        "anna": "owner",
        "mia": "operator",
    }


async def test_one_owner_always_remains(house: House) -> None:
    _, anna = await house.owner()
    _, olga = await house.user(anna, "olga", "owner")
    await house.people.disable(olga, _id(anna))
    with pytest.raises(Conflict, match=r"user\.last_owner"):
        await house.people.set_role(anna, _id(olga), "member")
    await house.people.disable(olga, _id(anna), disabled=False)
    await house.people.set_role(olga, _id(anna), "admin")
