"""Files that people add: names tamed, sizes bounded, nobody else's conversation."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.attachments import Attachments, clean_name
from agent.tools.files import MOST_BYTES
from storage.database import SqliteDatabase
from storage.errors import Invalid, NotFound, TooLarge
from storage.principal import Principal, principal
from tests.pages.chat_house import House

ME = principal(id="user:1", name="甲", role="member")
OTHER = principal(id="user:2", name="乙", role="owner")


@pytest.mark.parametrize(
    ("hostile", "plain"),
    [
        ("报价 2026.xlsx", "报价 2026.xlsx"),
        ("../../etc/passwd", "passwd"),
        ("C:\\Windows\\x.txt", "x.txt"),
        ("..", "file"),
        ("", "file"),
        (".ssh", "ssh"),
        ("a\u202etxt.exe", "a_txt.exe"),
        ("a\x00b:c*.md", "a_b_c_.md"),
    ],
)
def test_names_are_tamed(hostile: str, plain: str) -> None:
    assert clean_name(hostile) == plain


def test_long_names_keep_their_ending() -> None:
    assert clean_name("字" * 300 + ".pdf").endswith("字.pdf")
    assert len(clean_name("字" * 300 + ".pdf")) <= 80


async def made(db: SqliteDatabase, folder: Path) -> tuple[Attachments, int]:
    house = House(db)
    return Attachments(chat=house.chat, files_dir=folder), await house.chat.create(ME)


async def test_a_file_is_kept_and_found_again_and_never_over_another(db: SqliteDatabase, tmp_path: Path) -> None:
    files, conversation = await made(db, tmp_path)
    first = await files.keep(ME, conversation, "a.txt", b"1")
    second = await files.keep(ME, conversation, "a.txt", b"22")
    assert (first.name, second.name) == ("a.txt", "a (2).txt")
    found = await files.parts(ME, conversation, ["a.txt", "a (2).txt"])
    assert [(part.name, part.size) for part in found] == [("a.txt", 1), ("a (2).txt", 2)]


async def test_a_link_is_not_followed(db: SqliteDatabase, tmp_path: Path) -> None:
    files, conversation = await made(db, tmp_path)
    workspace = tmp_path / ME.tenant / f"c{conversation}"
    workspace.mkdir(parents=True)
    (workspace / "a.txt").symlink_to(tmp_path / "secret")
    with pytest.raises(Invalid):
        await files.keep(ME, conversation, "a.txt", b"1")
    assert not (tmp_path / "secret").exists()


@pytest.mark.parametrize("who", [OTHER])
async def test_only_in_ones_own_conversation(db: SqliteDatabase, tmp_path: Path, who: Principal) -> None:
    files, conversation = await made(db, tmp_path)
    await files.keep(ME, conversation, "a.txt", b"1")
    with pytest.raises(NotFound):
        await files.keep(who, conversation, "b.txt", b"1")
    with pytest.raises(NotFound):
        await files.parts(who, conversation, ["a.txt"])


async def test_sizes_and_missing_files_are_refused(db: SqliteDatabase, tmp_path: Path) -> None:
    files, conversation = await made(db, tmp_path)
    with pytest.raises(TooLarge):
        await files.keep(ME, conversation, "a.txt", b"x" * (MOST_BYTES + 1))
    for name in ("no.txt", "../../x", "/etc/passwd", ".hidden"):
        with pytest.raises(Invalid):
            await files.parts(ME, conversation, [name])
