"""The other place for backups: a folder on another disk, or an S3-compatible store."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import httpx

from security.egress import ADMIN, Egress
from security.sigv4 import Credentials, sign
from storage.backup.archive import sync
from storage.clock import Clock
from storage.errors import AppError, Invalid, Unavailable

PART = 16 * 1024 * 1024
POLICY = replace(ADMIN, seconds=900, most_bytes=4_000_000)
NAME = re.compile(r"zhixing-\d{8}-\d{6}(-\d+)?\.age")
BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
KINDS = ("none", "folder", "s3")


@dataclass(frozen=True, kw_only=True, slots=True)
class TargetSettings:
    """Where else backups go. The secret key of a store is in the vault."""

    kind: str = "none"
    path: str = ""
    endpoint: str = ""
    region: str = ""
    bucket: str = ""
    prefix: str = ""
    access_key: str = ""

    def checked(self) -> TargetSettings:
        """The same, if it can be used.

        Raises:
            Invalid: `backup.target`, `backup.path`, `backup.endpoint`, `backup.bucket`, `backup.prefix`,
                `backup.access_key`.
        """
        if self.kind not in KINDS:
            raise Invalid("backup.target", "kind")
        if self.kind == "folder" and not (self.path.startswith("/") and ".." not in Path(self.path).parts):
            raise Invalid("backup.path", "path")
        if self.kind == "s3":
            if not re.fullmatch(r"https?://[^/?#@\s]+", self.endpoint):
                raise Invalid("backup.endpoint", "endpoint")
            if not BUCKET.fullmatch(self.bucket):
                raise Invalid("backup.bucket", "bucket")
            if self.prefix and not re.fullmatch(r"\w[\w.-]*(/\w[\w.-]*)*", self.prefix):
                raise Invalid("backup.prefix", "prefix")
            if not self.access_key:
                raise Invalid("backup.access_key", "access_key")
        return self


class Target(Protocol):
    """Keeps finished backups."""

    async def put(self, path: Path) -> None:
        """Copy a file there, whole or not at all, and see that it arrived."""

    async def remove(self, name: str) -> None:
        """Remove one. Safe to repeat."""

    async def names(self) -> list[str]:
        """Backups that are there."""


class Folder:
    """A folder, on another disk or a mounted share."""

    def __init__(self, path: Path, data: Path) -> None:
        self.path, self.data = path, data

    async def put(self, path: Path) -> None:
        await asyncio.to_thread(self._put, path)

    def _put(self, path: Path) -> None:
        part = self.path / f"{path.name}.part"
        try:
            if not self.path.is_dir():
                raise Unavailable("backup.folder_missing", path=str(self.path))
            with path.open("rb") as source, os.fdopen(_open(part), "wb") as target:
                shutil.copyfileobj(source, target, 1 << 20)
                target.flush()
                os.fsync(target.fileno())
            part.replace(self.path / path.name)
            sync(self.path)
            if self.path.stat().st_dev == self.data.stat().st_dev:
                raise Unavailable("backup.same_disk", path=str(self.path))  # copied, but it would be lost together
        except OSError as error:
            part.unlink(missing_ok=True)
            raise Unavailable("backup.folder", path=str(self.path), reason=error.strerror or "") from error

    async def remove(self, name: str) -> None:
        await asyncio.to_thread((self.path / name).unlink, missing_ok=True)

    async def names(self) -> list[str]:
        found = await asyncio.to_thread(lambda: [entry.name for entry in os.scandir(self.path)])
        return sorted(name for name in found if NAME.fullmatch(name))


def _open(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)


class S3:
    """A bucket of an S3-compatible store, addressed by path."""

    def __init__(self, settings: TargetSettings, secret: str, egress: Egress, clock: Clock) -> None:
        self.settings, self.egress, self.clock = settings, egress, clock
        self._credentials = Credentials(
            access_key=settings.access_key, secret_key=secret, region=settings.region or "us-east-1"
        )

    async def put(self, path: Path) -> None:
        size = (await asyncio.to_thread(path.stat)).st_size
        if size <= PART:
            await self._ask("PUT", path.name, body=await asyncio.to_thread(path.read_bytes))
        else:
            await self._in_parts(path)
        # one byte back: it is there, it can be read, and the store tells how long it is
        found = await self._ask("GET", path.name, headers={"range": "bytes=0-0"})
        if found.headers.get("content-range", "").rpartition("/")[2] != str(size):
            raise Unavailable("backup.store_size", name=path.name)

    async def _in_parts(self, path: Path) -> None:
        begun = await self._ask("POST", path.name, {"uploads": ""})
        upload = _tag(begun.text, "UploadId")
        try:
            tags: list[str] = []
            file = await asyncio.to_thread(path.open, "rb")
            with file:
                while data := await asyncio.to_thread(file.read, PART):
                    query = {"partNumber": str(len(tags) + 1), "uploadId": upload}
                    tags.append((await self._ask("PUT", path.name, query, body=data)).headers.get("etag", ""))
            body = "".join(
                f"<Part><PartNumber>{n}</PartNumber><ETag>{tag}</ETag></Part>" for n, tag in enumerate(tags, 1)
            )
            whole = f"<CompleteMultipartUpload>{body}</CompleteMultipartUpload>".encode()
            ended = await self._ask("POST", path.name, {"uploadId": upload}, body=whole)
            if "<Error>" in ended.text:  # the answer begins before the work is done
                raise Unavailable("backup.store", status=200, reason=_tag(ended.text, "Code"))
        except BaseException:
            # nobody pays for the parts of an upload that came to nothing
            await asyncio.shield(self._abort(path.name, upload))
            raise

    async def _abort(self, name: str, upload: str) -> None:
        try:
            await self._ask("DELETE", name, {"uploadId": upload})
        except AppError:
            return

    async def remove(self, name: str) -> None:
        await self._ask("DELETE", name)

    async def names(self) -> list[str]:
        start = f"{self.settings.prefix}/" if self.settings.prefix else ""
        query = {"list-type": "2", "prefix": f"{start}zhixing-", "max-keys": "1000"}
        answer = await self._ask("GET", "", query)
        keys = re.findall(r"<Key>([^<]*)</Key>", answer.text)
        return sorted(key.removeprefix(start) for key in keys if NAME.fullmatch(key.removeprefix(start)))

    async def _ask(
        self,
        method: str,
        name: str,
        query: Mapping[str, str] | None = None,
        *,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
    ) -> httpx.Response:
        s = self.settings
        place = "/".join(part for part in (s.bucket, s.prefix if name else "", name) if part)
        address, now = f"{s.endpoint}/{place}", self.clock.now()
        url, signed = sign(self._credentials, method, address, query=query, headers=headers, body=body, now=now)
        answer = await self.egress.request(method, url, policy=POLICY, headers=signed, content=body or None)
        if answer.status_code >= 300:
            reason = _tag(answer.text, "Code") or _tag(answer.text, "Message")
            raise Unavailable("backup.store", status=answer.status_code, reason=reason)
        return answer


def place_of(target: TargetSettings, secret: str, *, data: Path, egress: Egress, clock: Clock) -> Target | None:
    """The other place that the settings mean; None if there is none."""
    if target.kind == "folder":
        return Folder(Path(target.path), data)
    return S3(target, secret, egress, clock) if target.kind == "s3" else None


def _tag(text: str, name: str) -> str:
    """The text of the first element of a name, for errors and ids: no parser for what strangers send."""
    return text.partition(f"<{name}>")[2].partition(f"</{name}>")[0][:300]
