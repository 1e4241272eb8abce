"""Brings what people attached into the conversation's workspace, before the agent looks at the message."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Protocol, runtime_checkable

from sqlalchemy import Connection, select, update

from channels.files import MOST_BYTES, WorkspaceFiles
from channels.registry import Bots
from storage.database import Database
from storage.envelope import Part, parts_from_json
from storage.errors import AppError, Rejected, Throttled, TooLarge, Unavailable
from storage.ledger import Ending, JobView, message_t
from storage.runner import Handler, Work

log = logging.getLogger(__name__)

KINDS = ("image", "file", "audio", "video")
MOST_FETCHED = 20
TRIES = 3
SECONDS = 60.0
# first bytes of what a browser or a desk would run: kept out, whatever their name says
PROGRAMS = (b"MZ", b"\x7fELF", b"\xcf\xfa\xed\xfe", b"\xca\xfe\xba\xbe", b"#!")
ENDINGS = {
    b"\x89PNG": "png",
    b"\xff\xd8\xff": "jpg",
    b"GIF8": "gif",
    b"BM": "bmp",
    b"RIFF": "webp",
    b"OggS": "opus",
    b"%PDF": "pdf",
}


@runtime_checkable
class Fetches(Protocol):
    """A channel whose people can attach files."""

    async def fetch(self, part: Part) -> bytes:
        """The bytes of an attachment. Raises `Rejected`, `TooLarge`; `Throttled`, `Unavailable`: try again."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Intake:
    """Fetches the attachments of a message from its vendor, once."""

    db: Database
    bots: Bots
    files: WorkspaceFiles
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep

    async def bring(self, job: JobView) -> int:
        """Fetch what the job's message has attached; the message then names files of its workspace.

        Safe to repeat: what is there already is not fetched again. What cannot be fetched stays in the message by its
        name, with the reason in the log; the conversation goes on without it.

        Returns:
            How many files were stored.
        """
        channel = self.bots.channel(job.tenant, job.bot)
        if job.message_id is None or job.conversation_id is None or not isinstance(channel, Fetches):
            return 0
        parts = await self.db.read(lambda c: _parts(c, job))
        wanted = [n for n, part in enumerate(parts) if part.kind in KINDS and part.key and not stored(part)]
        if not wanted:
            return 0
        made = list(parts)
        for n in wanted[:MOST_FETCHED]:
            made[n] = await self._one(channel, job, parts[n])
        if made != list(parts):
            await self.db.write(lambda c: _keep(c, job, made))
        return sum(stored(part) for part in made) - sum(stored(part) for part in parts)

    async def _one(self, channel: Fetches, job: JobView, part: Part) -> Part:
        try:
            data = await self._fetched(channel, part)
            if len(data) > MOST_BYTES:
                raise TooLarge("file.too_large", limit=MOST_BYTES // 1_000_000)
            if data.startswith(PROGRAMS):
                raise Rejected("file.program")
            name = await self.files.keep(job.tenant, job.conversation_id or 0, name_of(part, data), data)
        except AppError as error:
            log.info("an attachment of message %s was not fetched: %s", job.message_id, error)
            return part
        except OSError as error:
            log.warning("an attachment of message %s was not stored: %s", job.message_id, type(error).__name__)
            return part
        return replace(part, key=name, name=name, size=len(data))

    async def _fetched(self, channel: Fetches, part: Part) -> bytes:
        for attempt in range(TRIES):
            try:
                async with asyncio.timeout(SECONDS):
                    return await channel.fetch(part)
            except (Throttled, Unavailable) as error:
                if attempt == TRIES - 1:
                    raise
                await self.sleep(error.retry_after if isinstance(error, Throttled) else 2.0**attempt)
            except TimeoutError as error:
                raise Unavailable("delivery.slow") from error
        raise Unavailable("delivery.slow")


@dataclass(frozen=True, kw_only=True, slots=True)
class WithAttachments:
    """A handler that has attachments fetched before the other one looks at the message."""

    intake: Intake
    inner: Handler

    async def run(self, work: Work) -> Ending:
        await self.intake.bring(work.job)
        return await self.inner.run(work)

    def excuse(self, job: JobView, error: AppError) -> Ending:
        return self.inner.excuse(job, error)


def stored(part: Part) -> bool:
    """True if the part names a file of the workspace: its key is its name there."""
    return bool(part.size) and part.key == part.name


def name_of(part: Part, data: bytes) -> str:
    """The name as sent, or one by kind and first bytes."""
    if part.name and "." in part.name:
        return part.name
    ending = next((ending for start, ending in ENDINGS.items() if data.startswith(start)), "bin")
    return f"{part.name or part.kind}.{ending}"


def _parts(c: Connection, job: JobView) -> Sequence[Part]:
    row = c.execute(select(message_t.c.parts).where(message_t.c.id == job.message_id)).first()
    return () if row is None else parts_from_json(row.parts)


def _keep(c: Connection, job: JobView, parts: Sequence[Part]) -> None:
    text = json.dumps([{k: v for k, v in asdict(part).items() if v} for part in parts], ensure_ascii=False)
    c.execute(update(message_t).where(message_t.c.id == job.message_id).values(parts=text))
