"""Attachments: fetched from the vendor once, named safely, kept in the conversation's workspace."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from channels.intake import Intake, WithAttachments, stored
from storage.clock import ManualClock
from storage.database import SqliteDatabase
from storage.envelope import Outgoing, Part, parts_from_json
from storage.ledger import Ending, message_t
from storage.runner import Work
from tests.bot_house import BotHouse
from tests.fakes.feishu_events import FeishuEvents
from tests.fakes.feishu_server import FeishuServer

PATH = "/webhooks/feishu/hr-bot"
PNG = b"\x89PNG\r\n\x1a\n" + b"0" * 50


@pytest.fixture
async def server() -> AsyncIterator[FeishuServer]:
    made = await FeishuServer().start()
    yield made
    await made.stop()


@pytest.fixture
async def house(
    db: SqliteDatabase, clock: ManualClock, server: FeishuServer, tmp_path: Path
) -> AsyncIterator[BotHouse]:
    made = BotHouse(db, clock, tmp_path / "files")

    async def at_once(seconds: float) -> None:
        clock.advance(seconds)

    intake = Intake(db=db, bots=made.bots, files=made.files, sleep=at_once)
    made.runner.handlers["message"] = WithAttachments(intake=intake, inner=made.answers)
    await made.start()
    await made.feishu(server.base)
    yield made
    await made.stop()


async def parts_of(house: BotHouse) -> tuple[Part, ...]:
    from sqlalchemy import select

    query = select(message_t.c.parts).where(message_t.c.direction == "in")
    return parts_from_json(await house.db.read(lambda c: c.execute(query).scalar_one()))


async def send(
    house: BotHouse, server: FeishuServer, kind: str, content: dict[str, str], data: bytes
) -> tuple[Part, ...]:
    events = FeishuEvents(now=house.clock.ms)
    posted = events.message(kind=kind, content=content)
    key = content.get("image_key") or content["file_key"]
    server.resources[(posted.message_id, key)] = ("image" if kind == "image" else "file", data)
    assert (await house.post(PATH, posted.body, posted.headers))[0] == 200
    await house.delivered(1)
    return await parts_of(house)


async def test_a_picture_is_in_the_workspace_before_the_agent_looks(
    house: BotHouse, server: FeishuServer, tmp_path: Path
) -> None:
    seen: list[str] = []

    def say(work: Work) -> Ending:
        folder = tmp_path / "files" / "main" / f"c{work.job.conversation_id}"
        seen.extend(path.name for path in folder.iterdir())
        return Ending(say=(Outgoing(kind="answer", text="ok"),))

    house.answers.say = say
    (part,) = await send(house, server, "image", {"image_key": "img_1"}, PNG)
    assert seen == ["image.png"]
    assert (part.kind, part.key, part.name, part.size) == ("image", "image.png", "image.png", len(PNG))
    assert stored(part)


async def test_a_hostile_name_stays_inside(house: BotHouse, server: FeishuServer, tmp_path: Path) -> None:
    (part,) = await send(
        house, server, "file", {"file_key": "f_1", "file_name": "../../etc/pass\u202ewd.txt"}, b"hello"
    )
    assert part.name == "pass_wd.txt"
    assert [path.name for path in (tmp_path / "files").rglob("*.txt")] == ["pass_wd.txt"]


async def test_programs_stay_out(house: BotHouse, server: FeishuServer, tmp_path: Path) -> None:
    (part,) = await send(house, server, "file", {"file_key": "f_1", "file_name": "report.pdf"}, b"MZ\x90\x00")
    assert not stored(part)
    assert part.name == "report.pdf"
    assert not (tmp_path / "files").exists()


async def test_a_vendor_that_is_busy_is_asked_again(house: BotHouse, server: FeishuServer) -> None:
    server.fail("error", path="/resources/", count=2)
    (part,) = await send(house, server, "image", {"image_key": "img_1"}, PNG)
    assert stored(part)


async def test_what_is_gone_does_not_stop_the_answer(house: BotHouse, server: FeishuServer) -> None:
    server.fail("code", path="/resources/", code=234001, count=9)
    (part,) = await send(house, server, "image", {"image_key": "img_1"}, PNG)
    assert not stored(part)
    assert len(server.messages) == 1


async def test_files_are_not_read_out_of_the_folder(house: BotHouse, tmp_path: Path) -> None:
    root = tmp_path / "files"
    (root / "main" / "c1").mkdir(parents=True)
    (tmp_path / "secret").write_text("s")
    (root / "main" / "c1" / "link").symlink_to(tmp_path / "secret")
    (root / "main" / "c1" / "a.txt").write_text("a")
    assert await house.files.read("main/c1/a.txt") == b"a"
    for path in ("main/c1/../../../secret", "main/c1/link", "/etc/passwd", "main/c1", "main/c1/none"):
        with pytest.raises(FileNotFoundError):
            await house.files.read(path)
