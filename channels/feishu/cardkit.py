"""CardKit calls of one app: cards whose text grows. Source: protocols.md 1.4, CardKit streaming."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import orjson

from channels.feishu.client import FeishuClient
from channels.feishu.render import card, summary
from storage.clock import Clock
from storage.envelope import Outgoing
from storage.errors import Rejected

ROOT = "/open-apis/cardkit/v1/cards"
ELEMENT = "answer"
START_2026 = 1_767_225_600_000


class CardKit:
    """Makes and changes cards. Every change of a card carries a number that only grows, also over a restart."""

    def __init__(self, client: FeishuClient, clock: Clock) -> None:
        self.client, self.clock = client, clock

    def number(self, last: int) -> int:
        """The next number of a card: tenths of seconds since 2026, so that no memory of the last one is needed."""
        return max(last + 1, (self.clock.ms() - START_2026) // 100)

    async def create(self, text: str) -> str:
        """A card that is being written. Returns its id."""
        out = Outgoing(kind="answer", text=text)
        whole: dict[str, object] = {
            "schema": "2.0",
            "config": {"streaming_mode": True, "update_multi": True, "summary": {"content": summary(out)}},
            "body": {"elements": [{"tag": "markdown", "content": text, "element_id": ELEMENT}]},
        }
        body = {"type": "card_json", "data": orjson.dumps(whole).decode()}
        return _card_id(await self.client.call("POST", ROOT, body))

    async def of_message(self, message: str) -> str:
        """The id of the card in a message. Raises `Rejected` if there is none."""
        return _card_id(await self.client.call("POST", f"{ROOT}/id_convert", {"message_id": message}))

    async def write(self, card_id: str, text: str, number: int) -> None:
        """Replace the text by the whole text so far."""
        path = f"{ROOT}/{card_id}/elements/{ELEMENT}/content"
        await self.client.call("PUT", path, {"content": text, "sequence": number})

    async def streaming(self, card_id: str, number: int, *, on: bool) -> None:
        """Open the card for writing again, or close it."""
        settings = orjson.dumps({"config": {"streaming_mode": on}}).decode()
        await self.client.call("PATCH", f"{ROOT}/{card_id}/settings", {"settings": settings, "sequence": number})

    async def replace(
        self, card_id: str, out: Outgoing, number: int, written: Callable[[], None] | None = None
    ) -> None:
        """The card as it stays: title, text, buttons."""
        whole = card(replace(out, files=()))
        body = {"card": {"type": "card_json", "data": orjson.dumps(whole).decode()}, "sequence": number}
        await self.client.call("PUT", f"{ROOT}/{card_id}", body, written=written)

    async def recall(self, message: str) -> None:
        """Take a message back."""
        await self.client.call("DELETE", f"/open-apis/im/v1/messages/{message}")


def _card_id(data: dict[str, object]) -> str:
    found = data.get("card_id")
    if not isinstance(found, str) or not found or not found.isalnum():
        raise Rejected("feishu.230099", "no card_id")
    return found
