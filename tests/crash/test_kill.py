"""`kill -9` at every stage of a message's way: what was acknowledged is answered once after the restart.

Each point once; `ZHIXING_KILL_ROUNDS=10` kills ten times at each, at another visit every time, and wants the restart
to be ready in time by the clock too. `tool.before` stands before what must not be repeated, and that is done only on a
person's word: it has a test of its own.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest

from storage.crash import POINTS
from tests.crash.kill_house import KillHouse, Question

pytestmark = [pytest.mark.crash, pytest.mark.timeout(180)]

ROUNDS = int(os.environ.get("ZHIXING_KILL_ROUNDS", "1"))
READY_SECONDS = 5.0


@dataclass(frozen=True, kw_only=True)
class Case:
    """Where to kill while how many messages are in flight.

    Attributes:
        first, most: the point's visit at which it happens lies between them; `most` is surely reached.
        pause: seconds between the pieces of a model's answer; with some, answers grow in cards.
    """

    point: str
    most: int
    first: int = 1
    feishu: int = 20
    dingtalk: int = 6
    pause: float = 0.0

    def visit(self, turn: int) -> int:
        """Another one for each point and round."""
        return self.first + (5 * POINTS.index(self.point) + 7 * turn) % (self.most - self.first + 1)


CASES = (
    Case(point="accept.before", most=26),
    Case(point="accept.committed", most=26),
    Case(point="job.claimed", most=26),
    Case(point="model.streaming", first=70, most=120, pause=0.15),
    Case(point="model.answered", most=26),
    Case(point="tool.after", most=6),
    Case(point="reply.before", most=26),
    Case(point="outbox.committed", most=26),
    Case(point="send.before", most=26),
    Case(point="send.before", most=20, feishu=0, dingtalk=20),
    Case(point="send.answered", most=26),
    Case(point="send.answered", most=20, feishu=0, dingtalk=20),
    Case(point="delivered", most=26),
)
PAIRS = [CASES[n : n + 2] for n in range(0, len(CASES), 2)]


def test_no_point_is_forgotten() -> None:
    assert {case.point for case in CASES} == set(POINTS) - {"tool.before"}


@pytest.mark.parametrize("turn", range(ROUNDS))
@pytest.mark.parametrize("cases", PAIRS, ids=lambda cases: "+".join(case.point for case in cases))
async def test_what_was_acknowledged_is_answered_once(cases: tuple[Case, ...], turn: int, tmp_path: Path) -> None:
    """Two at a time: most of it is waiting for a process to start."""
    async with asyncio.TaskGroup() as group:
        for n, case in enumerate(cases):
            (tmp_path / str(n)).mkdir()
            _ = group.create_task(run(case, turn, tmp_path / str(n)), name=f"{case}")


async def run(case: Case, turn: int, folder: Path) -> None:
    async with KillHouse(folder, pause=case.pause) as house:
        house.ask("feishu", case.feishu)
        house.ask("dingtalk", case.dingtalk)
        cut = await kill_and_restart(house, f"{case.point}:{case.visit(turn)}")
        check_answers(house, cut)
        if not case.feishu:  # every send is DingTalk's: what it may have got is unknown, and at least one was cut off
            assert cut
            assert house.unknown() == cut
        if case.pause:
            cards = house.feishu.cards.cards.values()
            assert cards
            assert not any(card.streaming for card in cards if card.sent)
        await check_again(house, house.questions)


async def kill_and_restart(house: KillHouse, crash_at: str) -> set[str]:
    """Post all questions, let the process die at the point, start it again. Tags that DingTalk may have or not."""
    await house.start(crash_at)
    await house.post(house.questions)
    house.model.gate.set()
    assert await house.died() == -signal.SIGKILL, crash_at
    cut = house.sending()
    await house.start()
    assert house.worked < READY_SECONDS, "the restart takes too much work"
    if ROUNDS > 1 and os.getloadavg()[0] < (os.cpu_count() or 1):
        assert house.took < READY_SECONDS, "the restart takes too long"
    await house.post(house.unacknowledged)
    assert not house.unacknowledged
    await house.settled()
    return cut


def check_answers(house: KillHouse, cut: set[str]) -> None:
    """Each question has one answer and nothing else was said; only what was cut off at DingTalk may be unknown."""
    found, unknown = house.answers(), house.unknown()
    assert unknown <= cut
    known = [q.tag for q in house.questions if q.tag not in unknown]
    assert {tag: found[tag] for tag in known} == dict.fromkeys(known, 1)
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
    for renamed in (False, True):
        await house.post(questions, renamed=renamed)
    assert house.look("SELECT count(*) FROM job") == before == [(len(house.questions),)]
    await house.settled()
    assert house.said() == said


async def test_an_act_that_was_cut_off_is_not_done_again_and_the_person_is_told(tmp_path: Path) -> None:
    """Asked, allowed by a typed word, killed as it was about to be done; the question survives a kill too."""
    async with KillHouse(tmp_path) as house:
        house.model.acts = True
        house.model.gate.set()
        (question,) = house.ask("feishu", 1)
        await house.start("delivered:1")  # dies once the question of permission is at the vendor
        await house.post([question])
        assert await house.died() == -signal.SIGKILL
        code = re.findall(r"Approve ([A-Z2-9]{4})", house.feishu.messages[-1].text)[-1]
        await house.start("tool.before")
        assert house.look("SELECT status FROM job") == [("waiting",)]
        await house.type_word(f"Approve {code}", "ou_person0")
        assert await house.died() == -signal.SIGKILL
        await house.start()
        await house.settled()
        assert house.look("SELECT status FROM job") == [("done",)]
        assert house.look("SELECT status FROM step WHERE name = 'post'") == [("started",)]
        told = [m.text for m in house.feishu.messages if "post" in m.text and "Approve" not in m.text]
        assert len(told) == 1
