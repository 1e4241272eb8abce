"""The archive: age( gzip( tar ) ). Written in one stream, read by a strict reader that believes nothing.

`age -d -i key.txt backup.age | tar xz` opens one without this program.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import tarfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from storage.backup.key import Side, decrypt, encrypt
from storage.backup.manifest import MOST_BYTES, NAME, Manifest, good_name, read_manifest
from storage.errors import Invalid, TooLarge

PIECE = 1 << 18
BLOCK = 512
MOST_FILES = 2_000_000
MOST_NAME = 4096


@dataclass(frozen=True, kw_only=True, slots=True)
class Member:
    """A file to keep: `name` in the archive, and where it is now."""

    name: str
    path: Path


# ---- writing


class _Sealed:
    """A file of a fixed length on its way into the archive. One that shrinks meanwhile is filled up with zeros."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file, self._left, self.sum = file, size, hashlib.sha256()

    def read(self, most: int = -1) -> bytes:
        want = self._left if most < 0 else min(most, self._left)
        data = self._file.read(want)
        data += bytes(want - len(data))
        self._left -= want
        self.sum.update(data)
        return data


def write_archive(target: Path, members: Iterable[Member], manifest: Manifest, recipients: list[str]) -> Manifest:
    """Write an archive; the manifest gets the files as they went in.

    Raises:
        OSError: a file cannot be read, the target not written. What was begun is removed.
    """
    part = target.with_name(target.name + ".part")
    try:
        with _create(part) as out:
            manifest = _through(out, members, manifest, recipients)
            out.flush()
            os.fsync(out.fileno())
        part.replace(target)
        sync(target.parent)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    return manifest


def _create(path: Path) -> BinaryIO:
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb")


def _through(out: BinaryIO, members: Iterable[Member], manifest: Manifest, recipients: list[str]) -> Manifest:
    read_end, write_end = os.pipe()

    def seal() -> None:
        with os.fdopen(read_end, "rb") as plain:
            encrypt(plain, out, recipients)

    side = Side("backup-seal", seal)
    try:
        with os.fdopen(write_end, "wb") as pipe, gzip.GzipFile("", "wb", 1, pipe, mtime=0) as packed:
            manifest = _members(packed, members, manifest)
    except BrokenPipeError:
        side.join()  # says why the other end closed
        raise
    except BaseException:
        side.drop()
        raise
    side.join()
    return manifest


def _members(out: gzip.GzipFile, members: Iterable[Member], manifest: Manifest) -> Manifest:
    files: dict[str, tuple[int, str]] = {}
    with tarfile.open(fileobj=out, mode="w|", format=tarfile.GNU_FORMAT, bufsize=PIECE) as tar:
        for member in members:
            try:
                file = member.path.open("rb")
            except FileNotFoundError:
                continue  # removed since it was listed
            with file:
                size = os.fstat(file.fileno()).st_size
                sealed = _Sealed(file, size)
                tar.addfile(_info(member.name, size, manifest.at), sealed)
                files[member.name] = (size, sealed.sum.hexdigest())
        whole = replace(manifest, files=files)
        data = whole.to_json()
        tar.addfile(_info(NAME, len(data), manifest.at), io.BytesIO(data))
    return whole


def _info(name: str, size: int, at: int) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size, info.mtime, info.mode = size, at // 1000, 0o600
    return info


def sync(path: Path) -> None:
    """Put a file, or the names in a folder, on disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


# ---- reading


def read_archive(
    archive: Path, key: str, into: Path, *, most_bytes: int, reached: Callable[[str], None] = lambda _: None
) -> Manifest:
    """Take an archive apart below `into`, a fresh folder of ours. It counts only once this has returned.

    Args:
        most_bytes: more than this is not written; the disk's free space less what must stay free.

    Raises:
        Invalid: `backup.not_ours`, `backup.wrong_key`, `backup.damaged` (also: cut off), `backup.hostile`,
            `backup.newer`. TooLarge: `backup.large`. OSError: the disk.
    """
    read_end, write_end = os.pipe()

    def open_it() -> None:
        with os.fdopen(write_end, "wb") as pipe, archive.open("rb") as file:
            decrypt(file, pipe, key)

    side = Side("backup-open", open_it)
    wrong: Invalid | TooLarge | None = None
    manifest: Manifest | None = None
    with os.fdopen(read_end, "rb") as pipe:
        try:
            manifest = _Reader(pipe, into, most_bytes, reached).whole()
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            wrong = Invalid("backup.damaged", "file")
            wrong.__cause__ = error
        except (Invalid, TooLarge) as error:
            wrong = error
        except OSError:
            pipe.close()
            side.drop()
            raise
        if isinstance(wrong, Invalid) and wrong.code == "backup.damaged":
            _drain(pipe)  # the other end may know better: a wrong key, a cut file
    side.join()
    if wrong is not None or manifest is None:
        raise wrong or Invalid("backup.damaged", "file")
    return manifest


def _drain(pipe: BinaryIO) -> None:
    while pipe.read(PIECE):
        pass


class _Reader:
    """Reads the plain stream. Only regular files with names of ours are written, each once, none over another."""

    def __init__(self, pipe: BinaryIO, into: Path, most_bytes: int, reached: Callable[[str], None]) -> None:
        self._in = gzip.GzipFile(fileobj=pipe, mode="rb")
        self._into, self._left, self._reached = into, most_bytes, reached
        self._seen: dict[str, tuple[int, str]] = {}

    def whole(self) -> Manifest:
        manifest: Manifest | None = None
        for name, size in self._headers():
            if manifest is not None:
                raise Invalid("backup.hostile", "file", name=name[:100])
            if name == NAME:
                if size > MOST_BYTES:
                    raise Invalid("backup.hostile", "file", name=name)
                manifest = read_manifest(b"".join(self._body(size)))
            else:
                self._write(name, size)
        if manifest is None or dict(manifest.files) != self._seen:
            raise Invalid("backup.damaged", "file")
        return manifest

    def _headers(self) -> Iterator[tuple[str, int]]:
        longer = ""
        for _ in range(MOST_FILES * 2):
            block = self._exactly(BLOCK)
            if not block.strip(b"\0"):
                while self._in.read(PIECE):  # to the end, so that the checksum of the packing is looked at
                    pass
                return
            kind, size = block[156:157], _number(block[124:136])
            if _number(block[148:156]) != sum(block[:148]) + 256 + sum(block[156:]):
                raise Invalid("backup.damaged", "file")
            if kind == b"L":
                if size > MOST_NAME:
                    raise Invalid("backup.hostile", "file", name="…")
                longer = _text(b"".join(self._body(size)))
                continue
            name = longer or _text(block[:100])
            longer = ""
            if kind not in (b"0", b"\0") or (name != NAME and not good_name(name)) or name in self._seen:
                raise Invalid("backup.hostile", "file", name=name[:100])
            yield name, size
        raise TooLarge("backup.large", most=MOST_FILES)

    def _write(self, name: str, size: int) -> None:
        if size > self._left:
            raise TooLarge("backup.large", most=self._left)
        self._left -= size
        path, total = self._into / name, hashlib.sha256()
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        except (FileExistsError, NotADirectoryError) as error:
            raise Invalid("backup.hostile", "file", name=name[:100]) from error
        with os.fdopen(handle, "wb") as file:
            for piece in self._body(size):
                file.write(piece)
                total.update(piece)
                self._reached("restore.extracting")
            file.flush()
            os.fsync(file.fileno())
        self._seen[name] = (size, total.hexdigest())

    def _body(self, size: int) -> Iterator[bytes]:
        left = size
        while left:
            data = self._in.read(min(left, PIECE))
            if not data:
                raise EOFError
            left -= len(data)
            yield data
        self._exactly(-size % BLOCK)

    def _exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            piece = self._in.read(size - len(data))
            if not piece:
                raise EOFError
            data += piece
        return data


def _text(raw: bytes) -> str:
    try:
        return raw.partition(b"\0")[0].decode("utf-8")
    except UnicodeDecodeError as error:
        raise Invalid("backup.hostile", "file", name=repr(raw[:60])) from error


def _number(raw: bytes) -> int:
    """A size: octal, or from eight gigabytes on in base 256."""
    if raw[0] & 0x80:
        value = int.from_bytes(raw[1:], "big")
        if raw[0] != 0x80 or value >= 1 << 50:
            raise Invalid("backup.damaged", "file")
        return value
    try:
        return int(raw.strip(b" \0") or b"0", 8)
    except ValueError as error:
        raise Invalid("backup.damaged", "file") from error
