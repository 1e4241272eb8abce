"""The sender: order, pace, outages, unknown outcomes, restarts. The vendor is scripted; the outbox is the real one."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator

import pytest
from sqlalchemy import select

from channels.base import Pace
from channels.desk import Window
from channels.sender import GIVE_UP_AFTER
from storage.clock import ManualClock
from storage.database import SqliteDatabase
from storage.envelope import Outgoing
from storage.errors import OutcomeUnknown, Rejected, Throttled, Unavailable
from storage.ledger import delivery_t
from tests.sender_house import House, Said, Vendor, fails, vendor_of


@pytest.fixture
async def house(db: SqliteDatabase, clock: ManualClock) -> AsyncIterator[House]:
    made = House(db, clock, Vendor(clock))
    yield made
    await made.sender.stop(0.1)
    await made.background.stop(1)


async def test_delivered_means_that_the_vendor_said_so(house: House) -> None:
    told: list[tuple[str, int]] = []
    house.sender.on_sent.append(lambda row, vendor_id, at: told.append((vendor_id, at)))
    await house.push("hello")
    await house.settled()
    row = (await house.db.read(lambda c: c.execute(select(delivery_t)).all()))[0]
    assert (row.status, row.vendor_id, row.attempts) == ("delivered", "om_1", 1)
    assert row.written_at == house.clock.ms()
    assert told == [("om_1", house.clock.ms())]
    assert house.rests == []


async def test_a_conversation_stays_in_order_and_others_do_not_wait(house: House) -> None:
    vendor = vendor_of(house)
    vendor.gate.clear()
    for n in range(60):
        await house.push(str(n), lane=f"c{n % 6}")
    async with asyncio.timeout(5):
        while vendor.now < 6:
            await asyncio.sleep(0)
    vendor.gate.set()
    await house.settled()
    by_lane: dict[str, list[int]] = defaultdict(list)
    for said in vendor.shown:
        by_lane[said.lane].append(int(said.text))
    assert by_lane == {f"c{k}": list(range(k, 60, 6)) for k in range(6)}
    assert vendor.most == 6


async def test_conversations_side_by_side_are_bounded(db: SqliteDatabase, clock: ManualClock) -> None:
    house = House(db, clock, Vendor(clock), most_at_once=4)
    vendor = vendor_of(house)
    vendor.gate.clear()
    for n in range(30):
        await house.push("x", lane=f"c{n}")
    for _ in range(50):
        await asyncio.sleep(0)
    vendor.gate.set()
    await house.settled()
    assert vendor.most <= 4
    assert len(vendor.shown) == 30


async def test_a_long_answer_becomes_parts_in_order_each_with_a_receipt(house: House) -> None:
    await house.push("a|b|c", key="k")
    await house.push("after")
    await house.settled()
    assert vendor_of(house).texts() == ["a", "b", "c", "after"]
    states = await house.states()
    assert states["k"] == ("split", "")
    assert [states[f"k.{n}"][0] for n in range(3)] == ["delivered"] * 3


async def test_a_refusal_is_a_dead_letter_and_the_next_goes_on(house: House) -> None:
    vendor_of(house).plan = [fails(Rejected("feishu.230002", "out of the chat"))]
    first = await house.push("refused")
    await house.push("next")
    await house.settled()
    assert await house.states() == {"c1:refused": ("failed", "feishu.230002"), "c1:next": ("delivered", "")}
    assert await house.outbox.again("main", first)
    await house.settled()
    assert vendor_of(house).texts() == ["next", "refused"]


async def test_a_person_may_send_again_after_any_time(house: House) -> None:
    vendor_of(house).plan = [fails(Rejected("feishu.230002"))]
    first = await house.push("old")
    await house.settled()
    house.clock.advance(GIVE_UP_AFTER / 1000 + 60)
    assert await house.outbox.again("main", first)
    await house.settled()
    assert vendor_of(house).texts() == ["old"]


async def test_the_vendors_wait_is_kept_and_holds_the_whole_bot(house: House) -> None:
    vendor = vendor_of(house)
    vendor.plan = [fails(Throttled("feishu.99991400", retry_after=7, scope="bot"))]
    await house.push("1", lane="c1")
    await house.settled()
    began = vendor.shown[0].at
    assert began >= 7
    assert house.rests == [7]
    vendor.plan = [fails(Throttled("feishu.230020", retry_after=100, scope="lane"))]
    await house.push("2", lane="c1")
    await house.push("3", lane="c2")
    await house.settled()
    at = {said.text: said.at - began for said in vendor.shown}
    assert at["2"] >= 100
    assert vendor.texts().index("3") < vendor.texts().index("2")


async def test_the_vendors_limits_are_never_passed(db: SqliteDatabase, clock: ManualClock) -> None:
    pace = Pace(count=10, seconds=2, per_lane_count=3, per_lane_seconds=4)
    house = House(db, clock, Vendor(clock, pace=pace))

    async def sending(row: object, *, durable: bool) -> None:
        """Takes no time: what others wait for meanwhile would count as the vendor's distance."""

    house.outbox.sending = sending  # type: ignore[method-assign]
    for n in range(60):
        await house.push(str(n), lane=f"c{n % 7}")
    await house.settled()
    shown = vendor_of(house).shown
    assert len(shown) == 60
    times = sorted(said.at for said in shown)
    assert all(late - early >= 2 - 1e-6 for early, late in zip(times, times[10:], strict=False))
    for lane in {said.lane for said in shown}:
        times = [said.at for said in shown if said.lane == lane]
        assert all(late - early >= 4 - 1e-6 for early, late in zip(times, times[3:], strict=False))


def test_a_window_counts_any_stretch_of_its_length() -> None:
    window = Window(2, 10.0)
    for now, wait in ((0.0, 0.0), (9.0, 0.0), (9.5, 0.5), (10.0, 0.0), (10.0, 9.0), (100.0, 0.0)):
        assert window.wait(now) == wait
        if not wait:
            window.take(now)


async def test_ten_minutes_of_outage_lose_nothing_and_change_no_order(house: House) -> None:
    vendor = vendor_of(house)
    over = house.clock.monotonic() + 600
    vendor.down = lambda: house.clock.monotonic() < over
    for n in range(100):
        await house.push(str(n), lane=f"c{n % 10}")
    await house.settled()
    by_lane: dict[str, list[int]] = defaultdict(list)
    for said in vendor.shown:
        by_lane[said.lane].append(int(said.text))
    assert by_lane == {f"c{k}": list(range(k, 100, 10)) for k in range(10)}
    assert house.clock.monotonic() - over < 60
    assert vendor.tries < 400  # while it is down one tries for all
    assert {state for state, _ in (await house.states()).values()} == {"delivered"}


async def test_one_bad_message_does_not_stop_other_conversations(house: House) -> None:
    vendor = vendor_of(house)

    def poison(said: Said) -> None:
        vendor.plan.append(poison)
        if said.text == "poison":
            raise Unavailable("feishu.busy")

    vendor.plan = [poison]
    await house.push("poison", lane="c0")
    for n in range(20):
        await house.push(str(n), lane=f"c{n + 1}")
    async with asyncio.timeout(5):
        while len(vendor.shown) < 20:
            await asyncio.sleep(0)
    vendor.plan = []
    await house.settled()
    assert vendor.texts()[-1] == "poison"


async def test_after_a_day_it_is_given_up_and_says_so(house: House) -> None:
    vendor = vendor_of(house)

    def down() -> bool:
        house.clock.advance(1800)
        return True

    vendor.down = down
    ended: list[str] = []
    house.sender.on_ended.append(lambda row, status, at: ended.append(status))
    await house.push("x")
    await house.settled()
    assert await house.states() == {"c1:x": ("failed", "delivery.gave_up")}
    assert ended == ["failed"]


async def test_a_lost_answer_is_sent_again_with_the_same_key(house: House) -> None:
    vendor = vendor_of(house)

    def lost(said: Said) -> None:
        vendor.keep(said)
        raise OutcomeUnknown("feishu.no_answer")

    vendor.plan = [lost, fails(Unavailable("feishu.busy")), lost]
    await house.push("once")
    await house.push("next")
    await house.settled()
    assert vendor.texts() == ["once", "next"]
    assert vendor.tries == 5
    assert {state for state, _ in (await house.states()).values()} == {"delivered"}


async def test_without_a_key_a_lost_answer_is_shown_as_unknown(db: SqliteDatabase, clock: ManualClock) -> None:
    house = House(db, clock, Vendor(clock, idempotent=False))
    vendor = vendor_of(house)

    def lost(said: Said) -> None:
        vendor.keep(said)
        raise OutcomeUnknown("egress.cut")

    vendor.plan = [lost]
    await house.push("once")
    await house.push("next")
    await house.settled()
    assert vendor.texts() == ["once", "next"]
    assert await house.states() == {"c1:once": ("unknown", "egress.cut"), "c1:next": ("delivered", "")}


async def test_the_same_key_is_not_used_for_ever(house: House) -> None:
    vendor = vendor_of(house)
    vendor.plan = [fails(OutcomeUnknown("feishu.no_answer"))]
    vendor.down = lambda: vendor.tries > 1
    await house.push("x")
    await house.settled()
    assert await house.states() == {"c1:x": ("unknown", "delivery.cut")}
    assert house.clock.monotonic() < 3600  # the vendor forgets keys after an hour


@pytest.mark.parametrize(
    ("idempotent", "late", "state"),
    [
        (True, False, "delivered"),
        (True, True, "unknown"),
        (False, False, "unknown"),
    ],
)
async def test_what_was_being_sent_when_the_process_ended(
    db: SqliteDatabase, clock: ManualClock, idempotent: bool, late: bool, state: str
) -> None:
    dead = House(db, clock, None)
    dead.ledger.on_deliveries = lambda rows: None
    for text in ("cut", "open"):
        await dead.push(text)
    row = (await dead.outbox.open())[0]
    await dead.outbox.sending(row, durable=True)
    if late:
        clock.advance(3601)
    house = House(db, clock, Vendor(clock, idempotent=idempotent))
    if idempotent:
        vendor_of(house).keep(Said("cut", "c1", row.key, 0.0))  # it had arrived
    await house.sender.start()
    await house.settled()
    states = await house.states()
    assert states["c1:cut"][0] == state
    assert states["c1:open"][0] == "delivered"
    assert vendor_of(house).texts().count("cut") == (1 if idempotent else 0)


async def test_start_takes_up_in_order_with_what_comes_meanwhile(db: SqliteDatabase, clock: ManualClock) -> None:
    dead = House(db, clock, None)
    dead.ledger.on_deliveries = lambda rows: None
    for n in range(20):
        await dead.push(str(n))
    house = House(db, clock, Vendor(clock))
    await asyncio.gather(house.sender.start(), *(house.push(str(n)) for n in range(20, 30)))
    await house.settled()
    assert vendor_of(house).texts() == [str(n) for n in range(30)]


async def test_messages_wait_for_a_bot_that_cannot_start(db: SqliteDatabase, clock: ManualClock) -> None:
    house = House(db, clock, None)
    await house.push("x")
    for _ in range(20):
        await asyncio.sleep(0)
    assert await house.states() == {"c1:x": ("pending", "")}
    house.vendor = house.bots.vendor = Vendor(clock)
    house.bots.changed()
    await house.settled()
    assert house.vendor.texts() == ["x"]


async def test_messages_of_a_removed_bot_end_with_that_reason(db: SqliteDatabase, clock: ManualClock) -> None:
    house = House(db, clock, None)
    house.bots.known = False
    await house.push("x")
    await house.settled()
    assert await house.states() == {"c1:x": ("failed", "delivery.no_bot")}


async def test_an_admins_change_ends_the_waiting(house: House) -> None:
    vendor = vendor_of(house)
    napping = asyncio.Event()

    async def nap(seconds: float, woken: asyncio.Event) -> None:
        napping.set()
        await woken.wait()

    house.sender._nap = nap
    vendor.plan = [fails(Unavailable("feishu.10014"))]
    await house.push("x")
    async with asyncio.timeout(5):
        await napping.wait()
    house.bots.changed()
    await house.settled()
    assert vendor.texts() == ["x"]


async def test_a_receipt_that_cannot_be_written_is_not_sent_again(house: House) -> None:
    vendor, left, write = vendor_of(house), [3], house.db.write

    async def failing(fn: object, *, durable: bool = True, **more: bool) -> object:
        if vendor.shown and left[0]:
            left[0] -= 1
            raise Unavailable("db.full")
        return await write(fn, durable=durable, **more)  # type: ignore[arg-type]

    house.db.write = failing  # type: ignore[method-assign, assignment]
    await house.push("x")
    await house.settled()
    assert (vendor.tries, left) == (1, [0])
    assert await house.states() == {"c1:x": ("delivered", "")}


async def test_without_a_key_nothing_is_sent_that_could_not_be_marked(db: SqliteDatabase, clock: ManualClock) -> None:
    house = House(db, clock, Vendor(clock, idempotent=False))
    vendor, left, write = vendor_of(house), [2], house.db.write
    await house.push("warm")
    await house.settled()

    async def failing(fn: object, *, durable: bool = True, **more: bool) -> object:
        if left[0] and "name='mark " in str(asyncio.current_task()):
            left[0] -= 1
            assert durable
            raise Unavailable("db.full")
        return await write(fn, durable=durable, **more)  # type: ignore[arg-type]

    house.db.write = failing  # type: ignore[method-assign, assignment]
    await house.push("x")
    await house.settled()
    assert vendor.texts() == ["warm", "x"]
    assert vendor.tries == 2


async def test_a_defect_ends_one_delivery_only(house: House) -> None:
    def defect(said: Said) -> None:
        raise KeyError("oops")

    vendor_of(house).plan = [defect]
    await house.push("x")
    await house.push("y")
    await house.settled()
    assert await house.states() == {"c1:x": ("failed", "delivery.defect"), "c1:y": ("delivered", "")}


async def test_stopping_waits_for_what_is_under_way_and_begins_no_more(house: House) -> None:
    vendor = vendor_of(house)
    vendor.gate.clear()
    await house.push("1")
    await house.push("2")
    async with asyncio.timeout(5):
        while not vendor.now:
            await asyncio.sleep(0)
    stopping = asyncio.ensure_future(house.sender.stop(5))
    await asyncio.sleep(0)
    vendor.gate.set()
    await stopping
    assert {key: state for key, (state, _) in (await house.states()).items()} == {
        "c1:1": "delivered",
        "c1:2": "pending",
    }


async def test_who_watches_a_conversation_sees_its_deliveries(db: SqliteDatabase, clock: ManualClock) -> None:
    house = House(db, clock, Vendor(clock))
    seen: list[dict[str, object]] = []
    house.live.watch(7, lambda event: seen.append(event.data))
    await house.outbox.push(
        tenant="main",
        bot="b",
        channel="feishu",
        lane="l",
        key="k",
        address="{}",
        out=Outgoing(kind="push", text="x"),
        conversation_id=7,
    )
    await house.settled()
    assert [data["status"] for data in seen] == ["delivered"]
