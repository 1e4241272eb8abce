"""CardKit, cards, media and reactions of the fake Feishu."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from tests.fakes.quick_http import Request, Response, answer

if TYPE_CHECKING:
    from tests.fakes.feishu_server import FeishuServer

TABLE = re.compile(r"^ {0,3}\|?\s*:?-+:?\s*(\|\s*:?-+:?\s*)+\|?\s*$", re.MULTILINE)


class Cards:
    """What the platform keeps about cards."""

    def __init__(self, server: FeishuServer) -> None:
        self.server = server

    def check(self, content: dict[str, Any]) -> int:
        """0, or the code that the platform would answer to this card."""
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

    def handle(self, app: str, request: Request) -> Response:
        return answer({"code": 99991672, "msg": "Access denied. [cardkit:card:write]"}, 400)

    def media(self, app: str, request: Request) -> Response:
        return answer({"code": 404, "msg": "not found"}, 404)


__all__ = ["Cards", "json"]
