"""`kill -9` at every stage of a message's way: what was acknowledged is answered once after the restart.

Each point once; `ZHIXING_KILL_ROUNDS=10` kills ten times at each, at another visit every time, and wants the restart
to be ready in time by the clock too. `tool.before` is not reached by a real process yet: it stands before tools that
must not be repeated, and the product has none; tests/flow/test_ledger.py stops there.
"""

from __future__ import annotations

import os
import signal
from collections import Counter
from pathlib import Path

import pytest

from storage.crash import POINTS
from tests.crash.kill_house import KillHouse, Question

pytestmark = [pytest.mark.crash, pytest.mark.timeout(120)]

ROUNDS = int(os.environ.get("ZHIXING_KILL_ROUNDS", "1"))
READY_SECONDS = 5.0
UNREACHED = {"tool.before"}
VISITS = {"tool.after": 6}  # how often a point is surely visited, where not once a message
FEISHU, DINGTALK = 20, 6
REACHED = [point for point in POINTS if point not in (UNREACHED | {"model.streaming"})]


def visit(point: str, turn: int, most: int) -> int:
    """Which visit of the point is the last one: another for each point and round."""
    return 1 + (5 * POINTS.index(point) + 7 * turn) % VISITS.get(point, most)


async def kill_and_restart(house: KillHouse, point: str, n: int) -> set[str]:
    """Post all questions, let the process die at the point, start it again. Tags that DingTalk may have or not."""
    await house.start(f"{point}:{n}")
    await house.post(house.questions)
    house.model.gate.set()
    assert await house.died() == -signal.SIGKILL
    cut = house.sending()
    await house.start()
    assert house.worked < READY_SECONDS, "the restart takes too much work"
    if ROUNDS > 1:
        assert house.took < READY_SECONDS, "the restart takes too long"
    await house.post(house.unacknowledged)
    assert not house.unacknowledged
    await house.settled()
    return cut


def check_answers(house: KillHouse, cut: set[str]) -> None:
    """Each question has one answer and nothing else was said; only what was cut off at DingTalk may be unknown."""
    found, unknown = house.answers(), house.unknown()
    assert unknown <= cut
    assert {q.tag: found[q.tag] for q in house.questions if q.tag not in unknown} == {
        q.tag: 1 for q in house.questions if q.tag not in unknown
    }
    assert all(found[tag] <= 1 for tag in unknown)
    assert house.said() == sum(found.values())
    asked = {q.id: q for q in house.questions if q.vendor == "feishu"}
    assert Counter(m.to for m in house.feishu.messages) == Counter(dict.fromkeys(asked, 1))
    assert all(asked[m.to].answer in m.text for m in house.feishu.messages)
    receipts = {row[0] for row in house.look("SELECT vendor_id FROM delivery WHERE channel = 'feishu'")}
    assert receipts == {m.id for m in house.feishu.messages}


async def check_again(house: KillHouse, questions: list[Question]) -> None:
    """The same events, and the same messages under other event ids, change nothing."""
    before, said = house.look("SELECT count(*) FROM job"), house.said()
    await house.post(questions)
    await house.post(questions, renamed=True)
    assert house.look("SELECT count(*) FROM job") == before == [(len(house.questions),)]
    await house.settled()
    assert house.said() == said


@pytest.mark.parametrize("turn", range(ROUNDS))
@pytest.mark.parametrize("point", REACHED)
async def test_kill_at(point: str, turn: int, tmp_path: Path) -> None:
    async with KillHouse(tmp_path) as house:
        house.ask("feishu", FEISHU)
        house.ask("dingtalk", DINGTALK)
        cut = await kill_and_restart(house, point, visit(point, turn, FEISHU + DINGTALK))
        check_answers(house, cut)
        await check_again(house, house.questions)


@pytest.mark.parametrize("turn", range(ROUNDS))
@pytest.mark.parametrize("point", ["send.before", "send.answered"])
async def test_kill_where_the_vendor_has_no_key(point: str, turn: int, tmp_path: Path) -> None:
    """What DingTalk may have got is listed as unknown and not said again; everything else is said once."""
    async with KillHouse(tmp_path) as house:
        house.ask("dingtalk", FEISHU)
        cut = await kill_and_restart(house, point, visit(point, turn, FEISHU))
        assert cut
        assert house.unknown() == cut
        check_answers(house, cut)
        await check_again(house, house.questions)


@pytest.mark.parametrize("turn", range(ROUNDS))
async def test_kill_while_cards_grow(turn: int, tmp_path: Path) -> None:
    """`model.streaming`: a card that was being written is the one message that gets the whole answer."""
    async with KillHouse(tmp_path, pause=0.15) as house:
        house.ask("feishu", FEISHU)
        house.ask("dingtalk", DINGTALK)
        cut = await kill_and_restart(house, "model.streaming", 90 + 3 * turn)
        assert house.feishu.cards.cards
        check_answers(house, cut)
        assert not any(card.streaming for card in house.feishu.cards.cards.values() if card.sent)
        await check_again(house, house.questions)
