"""Three processes on one PostgreSQL: one is killed under load, then the database itself. Nothing is lost or doubled.

Once in the suite; `ZHIXING_KILL_ROUNDS=10` does it ten times, and then wants the work to go on in time by the clock.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Iterator
from pathlib import Path

import pytest

from tests.crash.shared_house import SharedHouse
from tests.crash.test_kill import check_answers
from tests.postgres import Cluster, cluster

pytestmark = [pytest.mark.crash, pytest.mark.pg, pytest.mark.timeout(300)]

ROUNDS = int(os.environ.get("ZHIXING_KILL_ROUNDS", "1"))
RESUMED_SECONDS = 15.0


@pytest.fixture(scope="module")
def server() -> Iterator[Cluster]:
    """A PostgreSQL of its own: it is restarted."""
    try:
        with cluster() as made:
            yield made
    except LookupError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("turn", range(ROUNDS))
async def test_one_of_three_and_then_the_database(server: Cluster, turn: int, tmp_path: Path) -> None:
    async with SharedHouse(tmp_path, server, pause=0.02) as house:
        await house.start_all()
        await house.settled()
        # a process: the one that holds the bots every second time, for it also sends
        home = house.home()
        victim = home if turn % 2 == 0 else (home + 1) % 3
        took = await under_load(house, kill(house, victim), sends=victim == home)
        print(f"taken over after {took:.1f} s")
        await house.start_one(victim)
        # the database, for a moment longer than a vendor waits
        took = await under_load(house, asyncio.to_thread(server.restart, pause=1.0), sends=False)
        print(f"went on after {took:.1f} s")
        await check_once_more(house)


async def kill(house: SharedHouse, victim: int) -> None:
    await house.kill(victim)


async def under_load(house: SharedHouse, blow: Awaitable[None], *, sends: bool) -> float:
    """Strike in the middle of sixty questions; seconds from then until all is answered and sent.

    Args:
        sends: the blow hits who sends: what DingTalk, which has no keys, may have got or not is shown as unknown.
    """
    known = len(house.answers())
    questions = [*house.ask("feishu", 48), *house.ask("dingtalk", 12)]
    unknown = house.unknown()
    house.model.gate.clear()
    await house.insist(questions[:40])
    house.model.gate.set()
    rest = asyncio.ensure_future(house.insist(questions))
    await house.answered(known + 10)
    await blow
    if sends:
        unknown |= house.sending()
    took = await house.settled(90)
    await rest
    took += await house.settled(90)
    check_answers(house, unknown)
    if ROUNDS > 1:
        assert took < RESUMED_SECONDS
    return took


async def check_once_more(house: SharedHouse) -> None:
    """The same events to all processes change nothing."""
    before, said = house.look("SELECT count(*) FROM job"), house.said()
    for _ in range(3):
        await house.post(house.questions)
    await house.settled()
    assert house.look("SELECT count(*) FROM job") == before == [(len(house.questions),)]
    assert house.said() == said
