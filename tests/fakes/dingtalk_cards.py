"""The AI card side of the fake DingTalk: instances, delivery, streaming, final state."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from aiohttp import web

if TYPE_CHECKING:
    from tests.fakes.dingtalk_server import FakeDingTalk

FAULT: web.RequestKey[dict[str, Any]] = web.RequestKey("fault", dict)


@dataclass
class Card:
    """One card as people see it."""

    track: str
    space: str
    params: dict[str, str]
    content: str = ""
    frames: list[str] = field(default_factory=list)
    finalized: bool = False
    failed: bool = False
    guids: set[str] = field(default_factory=set)

    @property
    def state(self) -> str:
        return self.params.get("flowStatus", "")


class Cards:
    """All cards by outTrackId."""

    def __init__(self, fake: FakeDingTalk) -> None:
        self.fake = fake
        self.templates = {"tpl.schema"}
        self.all: dict[str, Card] = {}

    def routes(self) -> list[web.RouteDef]:
        return [
            web.post("/v1.0/card/instances/createAndDeliver", self._create),
            web.post("/v1.0/card/instances", self._make),
            web.put("/v1.0/card/instances", self._update),
            web.put("/v1.0/card/streaming", self._stream),
        ]

    async def _create(self, request: web.Request) -> web.StreamResponse:
        from tests.fakes.dingtalk_server import error

        body, bad = await self.fake.opened("card", request)
        if bad is not None:
            return bad
        track, space = body.get("outTrackId", ""), body.get("openSpaceId", "")
        params = body.get("cardData", {}).get("cardParamMap", {})
        if body.get("cardTemplateId") not in self.templates:
            return error(400, "param.cardTemplateIdInvalid", "cardTemplateId")
        if not track or track in self.all:
            return error(400, "param.outTrackIdInvalid", "outTrackId")
        if not all(isinstance(value, str) for value in params.values()):
            return error(400, "param.cardParamMapInvalid", "values must be strings")
        kind = space.removeprefix("dtv1.card//").partition(".")[0]
        target = space.partition(f"{kind}.")[2]
        model: Any = body.get("imGroupOpenDeliverModel" if kind == "IM_GROUP" else "imRobotOpenDeliverModel")
        fault = request[FAULT]["kind"]
        ok = kind in ("IM_GROUP", "IM_ROBOT") and bool(target) and isinstance(model, dict) and fault != "undelivered"
        if kind == "IM_GROUP" and ok and model.get("robotCode") != self.fake.robot_code:
            ok = False
        if kind == "IM_ROBOT" and ok and model.get("spaceType") != "IM_ROBOT":
            ok = False
        if ok:
            self.all[track] = Card(track, f"{kind}.{target}", dict(params))
            await self.fake.dropped(request)
        result = {"spaceId": target, "spaceType": kind, "success": ok, "errorMsg": "" if ok else "no such space"}
        return web.json_response({"success": True, "result": {"outTrackId": track, "deliverResults": [result]}})

    async def _make(self, request: web.Request) -> web.StreamResponse:
        """A card that is delivered to nobody."""
        from tests.fakes.dingtalk_server import error

        body, bad = await self.fake.opened("card", request)
        if bad is not None:
            return bad
        if body.get("cardTemplateId") not in self.templates:
            return error(400, "param.cardTemplateIdInvalid", "cardTemplateId")
        return web.json_response({"success": True, "result": body.get("outTrackId")})

    async def _update(self, request: web.Request) -> web.StreamResponse:
        from tests.fakes.dingtalk_server import error

        body, bad = await self.fake.opened("card", request)
        if bad is not None:
            return bad
        card = self.all.get(body.get("outTrackId", ""))
        params = body.get("cardData", {}).get("cardParamMap", {})
        if card is None or not all(isinstance(value, str) for value in params.values()):
            return error(400, "param.outTrackIdInvalid", "outTrackId")
        if not body.get("cardUpdateOptions", {}).get("updateCardDataByKey"):
            card.params = {}
        card.params.update(params)
        return web.json_response({"success": True, "result": True})

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        from tests.fakes.dingtalk_server import error

        body, bad = await self.fake.opened("streaming", request)
        if bad is not None:
            return bad
        card = self.all.get(body.get("outTrackId", ""))
        guid = body.get("guid", "")
        if card is None or not guid or guid in card.guids or not isinstance(body.get("content"), str):
            return error(400, "param.invalid", "outTrackId, guid or content")
        if card.finalized:
            return error(400, "param.cardFinalized", "the card is final")
        card.guids.add(guid)
        card.content = body["content"] if body.get("isFull") else card.content + body["content"]
        card.frames.append(card.content)
        card.finalized, card.failed = bool(body.get("isFinalize")), bool(body.get("isError"))
        return web.json_response({"success": True, "result": True})
