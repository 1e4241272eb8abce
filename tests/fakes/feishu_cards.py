"""CardKit, cards, media and reactions of the fake Feishu."""

from __future__ import annotations

import itertools
import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.fakes.quick_http import Request, Response, answer

if TYPE_CHECKING:
    from tests.fakes.feishu_server import FeishuServer, Sent

TABLE = re.compile(r"^ {0,3}\|?\s*:?-+:?\s*(\|\s*:?-+:?\s*)+\|?\s*$", re.MULTILINE)
CARDS = "/open-apis/cardkit/v1/cards"
CARD = re.compile(CARDS + r"/([a-z0-9]+)(/settings|/elements/([^/]+)/content)?")
REACTIONS = re.compile(r"/open-apis/im/v1/messages/([^/]+)/reactions(?:/([^/]+))?")
MESSAGE = re.compile(r"/open-apis/im/v1/messages/([^/]+)")
RESOURCE = re.compile(r"/open-apis/im/v1/messages/([^/]+)/resources/([^/]+)")
OPEN_SECONDS = 600


@dataclass
class Card:
    """A card entity. `writes` are the texts that were shown while it was written."""

    id: str
    whole: dict[str, Any]
    opened: float
    sequence: int = 0
    sent: Sent | None = None
    writes: list[str] = field(default_factory=list)

    @property
    def streaming(self) -> bool:
        return bool(self.whole.get("config", {}).get("streaming_mode"))


class Cards:
    """What the platform keeps about cards."""

    def __init__(self, server: FeishuServer) -> None:
        self.server = server
        self.cards: dict[str, Card] = {}
        self.recalled: list[str] = []
        self.reacted: dict[str, tuple[str, str]] = {}
        self.reactions: list[tuple[str, str]] = []
        self.allowed = True
        self._numbers = itertools.count(1)

    def check(self, content: dict[str, Any]) -> int:
        """0, or the code that the platform would answer to this card."""
        if content.get("type") == "card":
            card = self.cards.get(str(content.get("data", {}).get("card_id")))
            return 0 if card is not None and card.sent is None else 230099
        elements = content.get("body", {}).get("elements") if content.get("schema") == "2.0" else None
        if not isinstance(elements, list) or not elements:
            return 230099
        for element in elements:
            if element.get("tag") == "markdown" and not element.get("content"):
                return 230099
        text = "\n".join(e.get("content", "") for e in elements if e.get("tag") == "markdown")
        if len(TABLE.findall(text)) > 3 or "](img_" in text or re.search(r"!\[[^\]]*\]\(http", text):
            return 230099
        return 0

    def shown(self, sent: Sent) -> None:
        """A message was sent: if it carries a card entity, people see that card."""
        if sent.kind == "interactive" and sent.content.get("type") == "card":
            card = self.cards[sent.content["data"]["card_id"]]
            card.sent, sent.content = sent, card.whole

    def handle(self, app: str, request: Request) -> Response:
        if not self.allowed:
            return answer({"code": 99991672, "msg": "Access denied. [cardkit:card:write]"}, 400)
        raw = json.loads(request.body)
        if request.path == CARDS and request.method == "POST":
            return self._create(raw)
        if request.path == f"{CARDS}/id_convert":
            sent = next((m for m in self.server.messages if m.id == raw.get("message_id")), None)
            if sent is None or sent.kind != "interactive":
                return self._refuse(request, 230099, "not a card")
            found = next((c for c in self.cards.values() if c.sent is sent), None)
            return answer({"code": 0, "data": {"card_id": (found or self._keep(sent.content, sent)).id}})
        match = CARD.fullmatch(request.path)
        card = self.cards.get(match[1]) if match else None
        if match is None or card is None:
            return self._refuse(request, 230099, "card not found")
        sequence = raw.get("sequence")
        if not isinstance(sequence, int) or not card.sequence < sequence < 2**31:
            return self._refuse(request, 300317, "sequence number compare failed")
        card.sequence = sequence
        if match[3]:
            return self._write(request, card, match[3], raw.get("content"))
        if match[2]:
            card.whole["config"] |= json.loads(raw["settings"])["config"]
            card.opened = self.server.clock()
            return answer({"code": 0, "msg": "success", "data": {}})
        return self._replace(request, card, raw["card"])

    def _create(self, raw: Any) -> Response:
        if raw.get("type") != "card_json" or len(raw.get("data", "")) > 30_000:
            return answer({"code": 230099, "msg": "bad card"}, 400)
        whole = json.loads(raw["data"])
        if self.check(whole):
            return answer({"code": 230099, "msg": "bad card"}, 400)
        return answer({"code": 0, "msg": "success", "data": {"card_id": self._keep(whole, None).id}})

    def _keep(self, whole: dict[str, Any], sent: Sent | None) -> Card:
        card = Card(f"7{next(self._numbers)}", whole, self.server.clock(), sent=sent)
        self.cards[card.id] = card
        return card

    def _write(self, request: Request, card: Card, element: str, text: Any) -> Response:
        if not card.streaming or self.server.clock() - card.opened > OPEN_SECONDS:
            return self._refuse(request, 300309, "streaming mode is closed")
        found = next((e for e in card.whole["body"]["elements"] if e.get("element_id") == element), None)
        if found is None or not isinstance(text, str) or not text or len(TABLE.findall(text)) > 3:
            return self._refuse(request, 230099, "bad content")
        found["content"] = text
        card.writes.append(text)
        return answer({"code": 0, "msg": "success", "data": {}})

    def _replace(self, request: Request, card: Card, raw: Any) -> Response:
        whole = json.loads(raw["data"])
        if self.check(whole) or len(raw["data"]) > 30_000:
            return self._refuse(request, 230099, "bad card")
        card.whole = whole
        if card.sent is not None:
            card.sent.content = whole
        return answer({"code": 0, "msg": "success", "data": {}})

    # ---- reactions, files

    def media(self, app: str, request: Request) -> Response:
        path = request.path
        if match := REACTIONS.fullmatch(path):
            return self._reaction(request, match)
        if (match := RESOURCE.fullmatch(path)) and request.method == "GET":
            found = self.server.resources.get((match[1], match[2]))
            if found is None or request.query.get("type") not in ("image", "file"):
                return self._refuse(request, 234003, "file not in msg")
            headers = {"content-type": "application/octet-stream"}
            return Response(200, found[1], headers | {"content-disposition": 'attachment; filename="x"'})
        if (match := MESSAGE.fullmatch(path)) and request.method == "GET":
            items = self.server.quoted.get(match[1])
            return answer({"code": 0, "data": {"items": items}}) if items else self._refuse(request, 230011, "gone")
        if match and request.method == "DELETE":
            self.recalled.append(match[1])
            self.server.messages[:] = [m for m in self.server.messages if m.id != match[1]]
            return answer({"code": 0, "msg": "success", "data": {}})
        if path in ("/open-apis/im/v1/images", "/open-apis/im/v1/files") and request.method == "POST":
            return self._upload(request)
        return answer({"code": 404, "msg": "not found"}, 404)

    def _reaction(self, request: Request, match: re.Match[str]) -> Response:
        if request.method == "POST":
            kind = json.loads(request.body)["reaction_type"]["emoji_type"]
            number = f"ZCaCIjUBVVWSrm5L-{next(self._numbers)}"
            self.reacted[number] = (match[1], kind)
            self.reactions.append((match[1], kind))
            return answer({"code": 0, "data": {"reaction_id": number}})
        if self.reacted.pop(match[2] or "", None) is None:
            return self._refuse(request, 231003, "no such reaction")
        return answer({"code": 0, "data": {}})

    def _upload(self, request: Request) -> Response:
        kind, _, boundary = request.headers.get("content-type", "").partition("; boundary=")
        if kind != "multipart/form-data":
            return self._refuse(request, 234001, "invalid param")
        fields: dict[str, bytes] = {}
        names: dict[str, str] = {}
        for part in request.body.split(b"--" + boundary.strip('"').encode())[1:-1]:
            head, _, body = part.strip(b"\r\n").partition(b"\r\n\r\n")
            name = re.search(rb'[; ]name="([^"]*)"', head)
            file = re.search(rb'filename="([^"]*)"', head)
            assert name is not None
            fields[name[1].decode()] = body
            names[name[1].decode()] = file[1].decode() if file else ""
        image = request.path.endswith("/images")
        data = fields.get("image" if image else "file", b"")
        good = fields.get("image_type") == b"message" if image else fields.get("file_name") and fields.get("file_type")
        if not good:
            return self._refuse(request, 234001, "invalid param")
        if not data:
            return self._refuse(request, 234010, "file is empty")
        key = f"{'img' if image else 'file'}_v3_{next(self._numbers)}"
        self.server.uploads[key] = data
        return answer({"code": 0, "data": {"image_key" if image else "file_key": key}})

    def _refuse(self, request: Request, code: int, message: str) -> Response:
        return self.server._refuse(request.path, code, message)
