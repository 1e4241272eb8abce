"""What a file really is, by its content. Its name only says what it claims to be."""

from __future__ import annotations

import zipfile
from pathlib import Path

from agent.memory.parsers.limits import Limits, Refused

SUFFIXES = {
    ".pdf": "pdf", ".docx": "word", ".xlsx": "excel", ".pptx": "powerpoint", ".md": "markdown", ".markdown": "markdown",
    ".html": "html", ".htm": "html", ".csv": "csv", ".tsv": "csv", ".txt": "text", ".text": "text", ".log": "text",
}  # fmt: skip
_PARTS = {"word/document.xml": "word", "xl/workbook.xml": "excel", "ppt/presentation.xml": "powerpoint"}
_TEXTS = ("markdown", "html", "csv", "text")
_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
BIG_MEMBER = 1_000_000  # below this a high ratio is harmless


def kind_of(path: Path, name: str, limits: Limits) -> str:
    """The kind of a document: pdf, word, excel, powerpoint, markdown, html, csv or text.

    Raises:
        Refused: not a kind that is read, content and name disagree, macros, or an archive beyond the limits.
    """
    claimed = SUFFIXES.get(Path(name).suffix.lower())
    with path.open("rb") as file:
        head = file.read(4096)
    if not head:
        raise Refused("empty")
    if claimed is None:
        raise Refused("kind", name=Path(name).suffix or name)
    found = _by_content(path, head, limits)
    if found == "text" and claimed in _TEXTS:
        return claimed
    if found != claimed:
        raise Refused("disagree", claimed=claimed, found=found)
    return found


def _by_content(path: Path, head: bytes, limits: Limits) -> str:
    if b"%PDF-" in head[:1024]:
        return "pdf"
    if head.startswith(b"PK"):
        return _archive(path, limits)
    if head.startswith(_OLE):
        raise Refused("old_office")
    if b"\x00" in head and not head.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise Refused("binary")
    return "text"


def _archive(path: Path, limits: Limits) -> str:
    """The kind of an Office file, its members checked before anything is unpacked."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        raise Refused("damaged") from None
    if len(members) > limits.members:
        raise Refused("archive", why="members")
    if sum(m.file_size for m in members) > limits.unpacked:
        raise Refused("archive", why="size")
    for member in members:
        if member.flag_bits & 1:
            raise Refused("encrypted")
        if member.file_size > BIG_MEMBER and member.file_size > limits.ratio * max(1, member.compress_size):
            raise Refused("archive", why="ratio")
        if member.filename.lower().endswith("vbaproject.bin"):
            raise Refused("macro")
    names = {m.filename for m in members}
    for part, kind in _PARTS.items():
        if part in names:
            return kind
    raise Refused("kind", name="zip")
