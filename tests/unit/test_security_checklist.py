"""The checklist itself: unknown is never green, age, declarations and setting aside expire, rights, words."""

from __future__ import annotations

import ast
import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from assets.build import LOCALE
from security.checklist import Check, ChecklistActions, Finding, fail, ok, unknown, warn
from security.probes.layers import CHECKS
from storage.audit import audit_t
from storage.clock import ManualClock
from storage.database import SqliteDatabase
from storage.errors import Conflict, Denied, Invalid, NotFound, Unavailable
from storage.principal import Principal, principal
from storage.settings import ROOT
from tests.rules.words import placeholders, read
from tests.security_house import House

OWNER = principal(id="user:1", name="anna", role="owner")
AUDITOR = principal(id="user:2", name="olga", role="auditor")
MEMBER = principal(id="user:3", name="mia", role="member")


class World:
    """Facts of these tests: what each probe shall find."""

    def __init__(self) -> None:
        self.found: dict[str, Finding | Exception] = {}
        self.fixed: list[str] = []

    def probe(self, name: str) -> Callable[[World], Awaitable[Finding]]:
        async def look(world: World) -> Finding:
            found = world.found.get(name, ok("good"))
            if isinstance(found, Exception):
                raise found
            return found

        return look


async def mend(world: World) -> None:
    world.fixed.append("data.b")
    world.found["data.b"] = ok("good")


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def actions(db: SqliteDatabase, clock: ManualClock, world: World) -> ChecklistActions[World]:
    return make(db, clock, world)


def make(db: SqliteDatabase, clock: ManualClock, world: World) -> ChecklistActions[World]:
    checks = (
        Check(id="network.a", probe=world.probe("network.a"), critical=True),
        Check(id="data.b", probe=world.probe("data.b"), fix=mend),
        Check(id="data.c", probe=world.probe("data.c"), attest=90),
        Check(id="operations.d", probe=world.probe("operations.d"), deep=True),
    )
    return ChecklistActions(db, House(db, clock).audit, clock, checks, world)


async def test_never_seen_is_unknown(actions: ChecklistActions[World]) -> None:
    assert {row.status for row in await actions.list(OWNER)} == {"unknown"}
    assert set(actions.snapshot().values()) == {"unknown"}


@pytest.mark.parametrize(
    "error",
    [OSError("x"), Unavailable("db.busy"), TimeoutError(), ValueError("x"), LookupError("x"), RuntimeError("x")],
)
async def test_a_probe_that_cannot_look_is_unknown(
    actions: ChecklistActions[World], world: World, error: Exception
) -> None:
    world.found["network.a"] = error
    rows = {row.id: row for row in await actions.run(OWNER)}
    assert rows["network.a"].status == "unknown"
    assert rows["network.a"].evidence in ("check.any.error", "check.any.time")
    assert rows["data.b"].status == "pass"
    assert rows["operations.d"].status == "unknown"  # takes long: not looked at


async def test_a_mistake_in_a_probe_is_not_hidden(actions: ChecklistActions[World], world: World) -> None:
    world.found["network.a"] = TypeError("a mistake of ours")
    with pytest.raises(TypeError):
        await actions.run(OWNER)


async def test_green_grows_old(actions: ChecklistActions[World], world: World, clock: ManualClock) -> None:
    world.found["data.b"] = fail("bad")
    await actions.nightly()
    assert actions.snapshot() == {"network.a": "pass", "data.b": "fail", "data.c": "pass", "operations.d": "pass"}
    clock.advance(37 * 3600)
    assert actions.snapshot() == {
        "network.a": "unknown",
        "data.b": "fail",
        "data.c": "unknown",
        "operations.d": "unknown",
    }


async def test_worst_first_within_layers(actions: ChecklistActions[World], world: World) -> None:
    world.found |= {"data.b": warn("meh"), "data.c": fail("bad")}
    rows = await actions.run(OWNER)
    assert [row.id for row in rows] == ["network.a", "data.c", "data.b", "operations.d"]


async def test_results_and_marks_survive_a_restart(
    actions: ChecklistActions[World], db: SqliteDatabase, clock: ManualClock, world: World
) -> None:
    world.found["network.a"] = fail("bad", address="0.0.0.0")
    await actions.run(OWNER)
    await actions.hide(OWNER, "network.a", "lab machine", 7)
    again = make(db, clock, world)
    await again.load()
    row = next(row for row in await again.list(OWNER) if row.id == "network.a")
    assert (row.status, row.params, row.remedy) == ("fail", {"address": "0.0.0.0"}, "check.network.a.remedy")
    assert (row.hidden, row.hidden_by, row.hidden_reason) == (True, "anna", "lab machine")
    assert again.critical_failures() == []
    clock.advance(8 * 86_400)
    assert again.critical_failures() == ["network.a"]


async def test_declaring_is_no_green_and_ends(
    actions: ChecklistActions[World], world: World, clock: ManualClock
) -> None:
    world.found["data.c"] = unknown("unseen")
    row = await actions.attest(OWNER, "data.c", "LUKS, seen by me")
    assert (row.status, row.attested_by) == ("unknown", "anna")
    assert actions.attested("data.c")
    clock.advance(91 * 86_400)
    assert not actions.attested("data.c")
    with pytest.raises(Conflict, match=r"check\.no_attest"):
        await actions.attest(OWNER, "data.b")


async def test_fix_mends_and_looks_again(actions: ChecklistActions[World], world: World) -> None:
    world.found["data.b"] = fail("bad")
    rows = {row.id: row for row in await actions.run(OWNER)}
    assert rows["data.b"].fixable
    row = await actions.fix(OWNER, "data.b")
    assert (row.status, row.fixable, world.fixed) == ("pass", False, ["data.b"])
    with pytest.raises(Conflict, match=r"check\.no_fix"):
        await actions.fix(OWNER, "data.c")


async def test_rights_and_bad_input(actions: ChecklistActions[World]) -> None:
    await actions.run(AUDITOR)
    calls: list[Callable[[Principal], Awaitable[object]]] = [
        lambda who: actions.fix(who, "data.b"),
        lambda who: actions.attest(who, "data.c"),
        lambda who: actions.hide(who, "data.b", "reason enough", 1),
    ]
    for call in calls:
        for who in (AUDITOR, MEMBER):
            with pytest.raises(Denied):
                await call(who)
    with pytest.raises(Denied):
        await actions.list(MEMBER)
    with pytest.raises(NotFound, match=r"check\.missing"):
        await actions.run(OWNER, ["nothing.here"])
    with pytest.raises(Invalid, match=r"check\.reason"):
        await actions.hide(OWNER, "data.b", " ", 1)
    with pytest.raises(Invalid, match=r"check\.days"):
        await actions.hide(OWNER, "data.b", "reason enough", 9999)


async def test_acts_are_audited_and_setting_aside_can_be_taken_back(
    actions: ChecklistActions[World], db: SqliteDatabase
) -> None:
    await actions.hide(OWNER, "data.b", "until the move", 5)
    await actions.hide(OWNER, "data.b", "", 0)
    await actions.attest(OWNER, "data.c")
    await actions.fix(OWNER, "data.b")
    rows = await db.read(lambda c: c.execute(audit_t.select()).all())
    assert [row.action for row in rows] == ["security.hide", "security.hide", "security.attest", "security.fix"]
    assert not any(row.hidden for row in await actions.list(OWNER))


async def test_changes_are_told_once(actions: ChecklistActions[World], world: World) -> None:
    told: list[tuple[str, str, str]] = []
    await actions.run(OWNER)
    actions.on_change(lambda row, before: told.append((row.id, before, row.status)))
    world.found["network.a"] = fail("bad")
    await actions.run(OWNER)
    await actions.run(OWNER)
    assert told == [("network.a", "pass", "fail")]


async def test_one_run_at_a_time(actions: ChecklistActions[World], world: World) -> None:
    gate = asyncio.Event()
    real = actions.checks["network.a"]

    async def slow(_: World) -> Finding:
        await gate.wait()
        return ok("good")

    actions.checks["network.a"] = Check(id="network.a", probe=slow)
    task = asyncio.create_task(actions.run(OWNER))
    while not actions._running.locked():
        await asyncio.sleep(0)
    with pytest.raises(Conflict, match=r"check\.running"):
        await actions.run(OWNER)
    gate.set()
    await task
    actions.checks["network.a"] = real
    await actions.run(OWNER)


async def test_unreadable_results_are_seen_anew(
    actions: ChecklistActions[World], db: SqliteDatabase, clock: ManualClock, world: World
) -> None:
    await actions.run(OWNER)
    await db.write(lambda c: c.exec_driver_sql("UPDATE setting SET value = '[1' WHERE key = 'security.checklist'"))
    again = make(db, clock, world)
    await again.load()
    assert set(again.snapshot().values()) == {"unknown"}


# --- words


def evidence() -> dict[str, set[str] | None]:
    """Keys of all evidence that probes may give, with the parameters that they fill."""
    found: dict[str, set[str]] = {}
    ids = {check.probe.__name__ + check.layer: check.id for check in CHECKS}
    for path in sorted((ROOT / "security" / "probes").glob("*.py")):
        tree = ast.parse(Path(path).read_text(encoding="utf-8"))
        helpers = {n.name: n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name.startswith("_")}
        for node in tree.body:
            name = ids.get(getattr(node, "name", "") + path.stem)
            if name is None:
                continue
            called = {n.func.id for n in ast.walk(node) if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)}
            called |= {
                a.id for n in ast.walk(node) if isinstance(n, ast.Call) for a in n.args if isinstance(a, ast.Name)
            }
            for part in (node, *(helpers[c] for c in called if c in helpers)):
                for call in ast.walk(part):
                    _collect(call, name, found)
    return dict(found)


def _collect(call: ast.AST, name: str, found: dict[str, set[str]]) -> None:
    if not (isinstance(call, ast.Call) and getattr(call.func, "id", "") in ("ok", "warn", "fail", "unknown")):
        return
    params = {str(keyword.arg) for keyword in call.keywords}
    for constant in ast.walk(call.args[0]):
        if isinstance(constant, ast.Constant) and isinstance(constant.value, str):
            key = f"check.{name}.{constant.value}"
            found[key] = found[key] & params if key in found else params


@pytest.mark.parametrize("lang", ["zh_CN", "en"])
def test_every_check_has_its_words(lang: str) -> None:
    texts = read(LOCALE / lang)
    keys = evidence()
    assert len(keys) > 100
    lacking = [key for key in keys if not texts.get(key)]
    lacking += [f"check.{c.id}{end}" for c in CHECKS for end in ("", ".remedy") if not texts.get(f"check.{c.id}{end}")]
    assert lacking == []
    unfilled = [key for key, params in keys.items() if placeholders(texts[key]) - (params or set())]
    assert unfilled == []
    mine = {f"check.{c.id}" for c in CHECKS} | {f"check.{c.id}.remedy" for c in CHECKS} | set(keys)
    left = [k for k in texts if k.startswith("check.") and not k.startswith("check.any.") and k not in mine]
    assert left == []
    assert all(not placeholders(texts[f"check.{c.id}.remedy"]) for c in CHECKS)
