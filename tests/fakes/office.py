"""The other systems of a company, on loopback: sales figures, a help desk, personnel, accounts, a group's robot."""

from __future__ import annotations

import json
from typing import Any

from tests.fakes.quick_http import QuickServer, Request, Response, answer


class Office:
    """Everything that it was told stands in its fields."""

    def __init__(self) -> None:
        self.server = QuickServer(self._answer)
        self.authorised: dict[str, str] = {}
        self.keys: dict[str, Any] = {}
        self.reports: list[Any] = []
        self.comments: list[tuple[str, str]] = []
        self.tickets: dict[str, dict[str, str]] = {
            "1": {"id": "1", "title": "上不了网", "body": "三楼", "status": "open"},
            "2": {"id": "2", "title": "忘记密码", "body": "ERP", "status": "open"},
        }
        self.accounts: dict[str, Any] = {}
        self.confirmed: dict[str, str] = {}
        self.group: list[str] = []

    @property
    def base(self) -> str:
        return self.server.base

    async def start(self) -> str:
        return await self.server.start()

    async def stop(self) -> None:
        await self.server.stop()

    def reopen(self) -> None:
        """All tickets are open again, as if the desk had forgotten them."""
        for ticket in self.tickets.values():
            ticket["status"] = "open"

    def _answer(self, request: Request) -> Response:
        self.authorised[request.path] = request.headers.get("authorization", "")
        body: Any = json.loads(request.body) if request.body else None
        key = request.headers.get("idempotency-key", "")
        if key and key in self.keys:
            return answer(self.keys[key])
        made, status = self._act(request, body)
        if key and status < 300:
            self.keys[key] = made
        return answer(made, status, x_request_id=f"n{len(self.group)}")

    def _act(self, request: Request, body: Any) -> tuple[Any, int]:
        match request.method, request.path.strip("/").split("/"):
            case "GET", ["sales"]:
                return {"rows": [{"shop": "一店", "sold": 120}, {"shop": "二店", "sold": 98}]}, 200
            case "POST", ["reports"]:
                self.reports.append(body)
                return {"id": len(self.reports)}, 201
            case "GET", ["desk", "tickets"]:
                return {"items": [t for t in self.tickets.values() if t["status"] == request.query.get("status")]}, 200
            case "POST", ["desk", "tickets", number, "comments"]:
                self.comments.append((number, body["text"]))
                return {"ok": True}, 201
            case "PATCH", ["desk", "tickets", number]:
                self.tickets[number] |= body
                return self.tickets[number], 200
            case "GET", ["hr", "new"]:
                people = [("e1", "王小明", "wang@x.example"), ("e2", "李芳", "li@x.example")]
                return {"items": [{"id": i, "name": n, "email": m, "department": "研发"} for i, n, m in people]}, 200
            case "POST", ["it", "accounts"]:
                number = f"acc-{len(self.accounts) + 1}"
                self.accounts[number] = body
                return {"id": number}, 201
            case "POST", ["hr", "confirm"]:
                self.confirmed[body["id"]] = body["account"]
                return {"ok": True}, 200
            case "POST", ["group"]:
                self.group.append(body["text"])
                return {"ok": True}, 200
        return {"error": "no such thing"}, 404
