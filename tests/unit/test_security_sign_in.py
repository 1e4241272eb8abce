"""Signing in and the first run: the same answer for the unknown, single use of codes, limits, resumability."""

from __future__ import annotations

import asyncio

import pytest

from security.guessing import Guessing
from security.sessions import Sessions
from security.sign_in import SignIn
from storage.audit import audit_t
from storage.clock import ManualClock
from storage.database import SqliteDatabase
from storage.errors import AppError, Conflict, Denied, Invalid, Throttled, Unauthenticated
from tests.security_house import GOOD, OTHER, House


@pytest.fixture
def house(db: SqliteDatabase, clock: ManualClock) -> House:
    return House(db, clock)


async def _code(house: House, *args: str, **kwargs: str) -> str:
    try:
        await house.sign_in.password(*args, ip="198.51.100.1", agent="", **kwargs)
    except AppError as error:
        return error.code
    return "ok"


async def test_wrong_unknown_and_disabled_get_the_same_answer(house: House) -> None:
    _, owner = await house.owner()
    _, bert = await house.user(owner, "bert")
    await house.people.disable(owner, int(bert.id[5:]))
    answers = {await _code(house, *pair) for pair in (("anna", OTHER), ("nobody", GOOD), ("bert", GOOD))}
    assert answers == {"login.wrong"}
    assert await _code(house, "Anna ", GOOD) == "ok"
    assert await _code(house, "", GOOD) == "login.name"
    assert await _code(house, "anna", "") == "login.password"


async def test_locked_after_five_also_with_the_right_password_and_for_unknown_names(house: House) -> None:
    await house.owner()
    for name in ("anna", "nobody"):
        assert [await _code(house, name, OTHER) for _ in range(5)] == ["login.wrong"] * 5
        assert await _code(house, name, GOOD) == "login.locked"
    house.clock.advance(30)
    assert await _code(house, "anna", GOOD) == "ok"


async def test_tries_side_by_side_gain_nothing(house: House) -> None:
    await house.owner()
    codes = await asyncio.gather(*(_code(house, "anna", OTHER) for _ in range(15)))
    assert codes.count("login.wrong") == 5
    assert codes.count("login.locked") == 10


async def test_second_factor(house: House) -> None:
    _, owner = await house.owner()
    app, recovery = await house.enrol(owner)
    step = await house.sign_in.password("anna", GOOD, ip="::1", agent="")
    assert not step.done
    assert await house.live(step.value) is None  # a pending step is no session
    with pytest.raises(Unauthenticated, match=r"code\.used"):  # the code that switched it on is spent
        await house.sign_in.code(step.value, house.code(app), ip="::1", agent="")
    with pytest.raises(Unauthenticated, match=r"code\.wrong"):
        await house.sign_in.code(step.value, "000000", ip="::1", agent="")
    with pytest.raises(Invalid, match=r"code\.empty"):
        await house.sign_in.code(step.value, " ", ip="::1", agent="")
    house.clock.advance(30)
    done = await house.sign_in.code(step.value, house.code(app), ip="::1", agent="")
    live = await house.live(done.value)
    assert live is not None
    assert live.verified_at == house.clock.ms()
    with pytest.raises(Conflict, match=r"login\.expired"):  # the step is over
        await house.sign_in.code(step.value, recovery[0], ip="::1", agent="")


async def test_a_used_code_is_refused_also_after_a_restart(house: House) -> None:
    _, owner = await house.owner()
    app, _ = await house.enrol(owner)
    house.clock.advance(30)
    code = house.code(app)
    step = await house.sign_in.password("anna", GOOD, ip="::1", agent="")
    await house.sign_in.code(step.value, code, ip="::1", agent="")
    sessions, guessing = Sessions(house.db, house.clock), Guessing(house.clock)
    again = SignIn(house.db, house.clock, house.vault, house.audit, house.passwords, guessing, sessions)
    step = await again.password("anna", GOOD, ip="::1", agent="")
    with pytest.raises(Unauthenticated, match=r"code\.used"):
        await again.code(step.value, code, ip="::1", agent="")


async def test_one_code_side_by_side_opens_one_session(house: House) -> None:
    _, owner = await house.owner()
    app, _ = await house.enrol(owner)
    house.clock.advance(30)
    steps = [await house.sign_in.password("anna", GOOD, ip="::1", agent="") for _ in range(4)]
    code = house.code(app)
    results = await asyncio.gather(
        *(house.sign_in.code(step.value, code, ip="::1", agent="") for step in steps), return_exceptions=True
    )
    assert sum(not isinstance(result, Exception) for result in results) == 1


async def test_recovery_code_works_once(house: House) -> None:
    _, owner = await house.owner()
    _, recovery = await house.enrol(owner)
    for expected in ("ok", "code.wrong"):
        step = await house.sign_in.password("anna", GOOD, ip="::1", agent="")
        try:
            await house.sign_in.code(step.value, recovery[3].upper(), ip="::1", agent="")
            got = "ok"
        except Unauthenticated as error:
            got = error.code
        assert got == expected
    assert (await house.account.view(owner)).recovery_left == 9


async def test_five_codes_per_challenge_and_the_password_is_no_way_to_more(house: House) -> None:
    _, owner = await house.owner()
    await house.enrol(owner)
    tried = 0
    try:
        for _ in range(20):
            step = await house.sign_in.password("anna", GOOD, ip="198.51.100.1", agent="")
            for _ in range(6):
                try:
                    await house.sign_in.code(step.value, "000000", ip="198.51.100.1", agent="")
                except Unauthenticated:
                    tried += 1
                except Throttled:
                    break
    except Throttled as error:
        locked = error.code
    assert locked == "login.locked"
    assert tried == 25


async def test_a_challenge_ends(house: House) -> None:
    _, owner = await house.owner()
    app, _ = await house.enrol(owner)
    step = await house.sign_in.password("anna", GOOD, ip="::1", agent="")
    house.clock.advance(300)
    with pytest.raises(Conflict, match=r"login\.expired"):
        await house.sign_in.code(step.value, house.code(app), ip="::1", agent="")


async def test_logins_are_audited_without_what_was_typed(house: House) -> None:
    await house.owner()
    await _code(house, "anna", OTHER)
    await _code(house, "typed-my-password-here", OTHER)
    await _code(house, "anna", GOOD)
    rows = await house.db.read(lambda c: c.execute(audit_t.select()).all())
    assert [(r.action, r.target) for r in rows[-3:]] == [
        ("login.fail", "user:1"),
        ("login.fail", "unknown"),
        ("login.ok", "user:1"),
    ]
    text = str(rows)
    assert not any(secret in text for secret in (GOOD, OTHER, "typed-my"))


# --- the first run


async def test_the_code_makes_one_owner_and_then_nothing(house: House) -> None:
    code = await house.setup.start()
    assert len(code) == 14
    value, _ = await house.setup.enter(code.lower().replace("-", " "), ip="::1", agent="")
    who = await house.who(value)
    assert (who.role, who.may("setup.run"), who.may("chat.use")) == ("setup", True, False)
    owner_value, _ = await house.setup.create_admin(
        who, name="Anna", password=GOOD, again=GOOD, ip="::1", agent="", lang="en"
    )
    owner = await house.who(owner_value)
    assert (owner.role, owner.name, owner.lang) == ("owner", "Anna", "en")
    assert await house.live(value) is None
    assert not await house.setup.needed()
    for attempt in (house.setup.enter(code, ip="::1", agent=""), _second(house, who)):
        with pytest.raises(Conflict, match=r"setup\.over"):
            await attempt
    assert await House(house.db, house.clock).setup.start() == ""


async def _second(house: House, who: object) -> None:
    await house.setup.create_admin(who, name="eve", password=GOOD, again=GOOD, ip="::1", agent="")  # type: ignore[arg-type]


async def test_two_at_once_make_one_admin(house: House) -> None:
    code = await house.setup.start()
    whos = [await house.who((await house.setup.enter(code, ip="::1", agent=""))[0]) for _ in range(3)]
    results = await asyncio.gather(
        *(
            house.setup.create_admin(who, name=f"a{n}b", password=GOOD, again=GOOD, ip="::1", agent="")
            for n, who in enumerate(whos)
        ),
        return_exceptions=True,
    )
    assert sum(isinstance(result, Conflict) for result in results) == 2


async def test_setup_code_cannot_be_guessed_and_is_new_at_each_start(house: House) -> None:
    first = await house.setup.start()
    for _ in range(5):
        with pytest.raises(Invalid, match=r"setup\.code\.wrong"):
            await house.setup.enter("WRNG-CODE-HERE", ip="198.51.100.9", agent="")
    with pytest.raises(Throttled, match=r"login\.locked"):
        await house.setup.enter(first, ip="198.51.100.9", agent="")
    await house.setup.enter(first, ip="198.51.100.10", agent="")
    assert await House(house.db, house.clock).setup.start() != first


async def test_a_fixed_code(db: SqliteDatabase, clock: ManualClock) -> None:
    house = House(db, clock, fixed_code="open sesame")
    assert await house.setup.start() == "open sesame"
    with pytest.raises(Invalid, match=r"setup\.code\.empty"):
        await house.setup.enter("", ip="::1", agent="")
    await house.setup.enter("Open-Sesame", ip="::1", agent="")


@pytest.mark.parametrize(
    ("name", "password", "again", "code", "field"),
    [
        ("", GOOD, GOOD, "name.empty", "name"),
        ("a", GOOD, GOOD, "name.length", "name"),
        ("a" * 41, GOOD, GOOD, "name.length", "name"),
        ("an na", GOOD, GOOD, "name.characters", "name"),
        ("<b>anna</b>", GOOD, GOOD, "name.characters", "name"),
        ("anna\u202e", GOOD, GOOD, "name.characters", "name"),
        ("anna", "", "", "password.empty", "password"),
        ("anna", "short", "short", "password.short", "password"),
        ("anna", "password1234", "password1234", "password.common", "password"),
        ("anna", "anna-is-my-name-7", "anna-is-my-name-7", "password.name", "password"),
        ("anna", GOOD, GOOD + "x", "password.differs", "again"),
    ],
)
async def test_bad_input_names_its_field(
    house: House, name: str, password: str, again: str, code: str, field: str
) -> None:
    value, _ = await house.setup.enter(await house.setup.start(), ip="::1", agent="")
    with pytest.raises(Invalid) as caught:
        await house.setup.create_admin(
            await house.who(value), name=name, password=password, again=again, ip="::1", agent=""
        )
    assert (caught.value.code, caught.value.field) == (code, field)


async def test_progress_is_kept_and_only_admins_set_it(house: House) -> None:
    _, owner = await house.owner()
    await house.setup.mark(owner, "model")
    await house.setup.mark(owner, "bot", "skipped")
    again = House(house.db, house.clock)
    progress = await again.setup.progress(owner)
    assert (progress.model, progress.bot, progress.finished) == ("done", "skipped", False)
    await house.setup.mark(owner, "finish")
    assert (await house.setup.progress(owner)).finished
    _, bert = await house.user(owner, "bert")
    with pytest.raises(Denied):
        await house.setup.mark(bert, "finish")


async def test_an_admin_made_beside_the_running_server_ends_the_setup(house: House) -> None:
    from storage.principal import SYSTEM

    await house.setup.start()
    await house.people.create(SYSTEM, name="cli", role="owner", password=GOOD)
    house.clock.advance(3)
    assert not await house.setup.needed()
