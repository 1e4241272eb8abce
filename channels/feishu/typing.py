"""A reaction under the question while its answer is made: Feishu has no other sign of typing."""

from __future__ import annotations

import asyncio
import logging

from channels.feishu.address import Address
from channels.feishu.client import FeishuClient
from storage.background import Background
from storage.errors import AppError, Rejected

log = logging.getLogger(__name__)

MOST_SIGNS = 50  # at once: the vendor's limits are for answers
LONGEST = 900.0


class TypingSigns:
    """The signs of one bot, by job. Nothing depends on them: what fails is left alone."""

    def __init__(self, client: FeishuClient, background: Background, first: float) -> None:
        self.client, self.background, self.first = client, background, first
        self._ends: dict[int, asyncio.Event] = {}
        self._refused = False

    def begin(self, job: int, to: Address) -> None:
        """Put a sign under the message that is answered, unless the answer is there at once."""
        if not to.message or self._refused or job in self._ends or len(self._ends) >= MOST_SIGNS:
            return
        end = self._ends[job] = asyncio.Event()
        _ = self.background.spawn(f"feishu typing {job}", self._show(job, to.message, end))

    def end(self, job: int) -> None:
        """Take the sign away. Returns at once."""
        if end := self._ends.get(job):
            end.set()

    def stop(self) -> None:
        """Take all signs away."""
        for end in self._ends.values():
            end.set()

    async def _show(self, job: int, message: str, end: asyncio.Event) -> None:
        path = f"/open-apis/im/v1/messages/{message}/reactions"
        try:
            if await _ended(end, self.first):
                return
            made = await self.client.call("POST", path, {"reaction_type": {"emoji_type": "Typing"}})
            await _ended(end, LONGEST)
            reaction = made.get("reaction_id")
            if isinstance(reaction, str) and reaction.replace("-", "").replace("_", "").isalnum():
                await self.client.call("DELETE", f"{path}/{reaction}")
        except Rejected as error:
            self._refused = error.code.startswith("feishu.9999167")  # a permission is missing: ask no more
            log.info("no typing sign: %s", error)
        except AppError as error:
            log.info("no typing sign: %s", error)
        finally:
            self._ends.pop(job, None)


async def _ended(end: asyncio.Event, seconds: float) -> bool:
    try:
        async with asyncio.timeout(seconds):
            await end.wait()
    except TimeoutError:
        return False
    return True
