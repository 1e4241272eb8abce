"""DingTalk's API over the one egress client. Owns the access token, nothing else; never repeats a send."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime
from typing import Any

import httpx
from pydantic import BaseModel, ConfigDict, ValidationError

from channels.dingtalk.address import trusted
from channels.dingtalk.faults import fault, is_token, scopes
from channels.dingtalk.render import Rendered
from channels.dingtalk.settings import DingTalkSettings
from channels.exchange import send_once
from channels.token import Grant, TokenCache
from security.egress import Egress
from storage.clock import Clock
from storage.errors import AppError, OutcomeUnknown, Rejected, Throttled, Unavailable

Written = Callable[[], None]
TOKEN_HEADER = "x-acs-dingtalk-access-token"  # noqa: S105 - a header's name


class _Answer(BaseModel):
    model_config = ConfigDict(extra="ignore", coerce_numbers_to_str=True)


class TokenAnswer(_Answer):
    accessToken: str
    expireIn: float = 7200


class SendAnswer(_Answer):
    """HTTP 200 with a name in one of the lists is not delivered."""

    processQueryKey: str = ""
    invalidStaffIdList: list[str] | None = None
    flowControlledStaffIdList: list[str] | None = None
    filteredStaffIdList: list[str] | None = None


class Fault(_Answer):
    code: str = ""
    message: str = ""
    requestid: str = ""
    accessdenieddetail: dict[str, Any] | None = None


class OldAnswer(_Answer):
    """The old API answers 200 to everything; without an `errcode` it is a failure."""

    errcode: int | None = None
    errmsg: str = ""
    request_id: str = ""
    media_id: str = ""


class DingTalkClient:
    """Calls DingTalk. One per bot."""

    def __init__(self, settings: DingTalkSettings, egress: Egress, clock: Clock) -> None:
        self.settings, self.egress, self.clock = settings, egress, clock
        self.token = TokenCache(self._grant, clock)
        self.skew_ms: int | None = None
        """Vendor's clock minus ours, from the last answer."""

    # ---- sending

    async def direct(self, staff: str, message: Rendered, written: Written | None = None) -> str:
        """Send to one person and return the vendor's id of the message.

        Raises:
            Throttled, Unavailable, Rejected, OutcomeUnknown: see `Channel.send`.
        """
        body: dict[str, object] = {"robotCode": self.settings.robot_code, "userIds": [staff]}
        return await self._message("/v1.0/robot/oToMessages/batchSend", body, message, written)

    async def group(self, conversation: str, message: Rendered, written: Written | None = None) -> str:
        """Send to a group that the robot is in and return the vendor's id of the message. Raises like `direct`."""
        body: dict[str, object] = {"robotCode": self.settings.robot_code, "openConversationId": conversation}
        return await self._message("/v1.0/robot/groupMessages/send", body, message, written)

    async def session(self, url: str, body: Mapping[str, object], written: Written | None = None) -> str:
        """Answer through a session webhook of this bot's own addresses; anything else is refused before it leaves.

        Raises:
            Rejected: `dingtalk.session_host`; else like `direct`.
        """
        if not trusted(url, self.settings):
            raise Rejected("dingtalk.session_host")
        answer = await self._exchange("POST", url, dict(body), {}, written)
        old = _old(answer)
        if old.errcode != 0:
            raise fault(answer.status_code, str(old.errcode or ""), old.errmsg, request=old.request_id)
        return "errcode=0"

    async def _message(self, path: str, body: dict[str, object], message: Rendered, written: Written | None) -> str:
        answer = await self.call("POST", path, body | {"msgKey": message.key, "msgParam": message.param}, written)
        try:
            sent = SendAnswer.model_validate(answer)
        except ValidationError as error:
            raise OutcomeUnknown("dingtalk.no_receipt") from error
        if sent.invalidStaffIdList:
            raise Rejected("dingtalk.person")
        if sent.flowControlledStaffIdList:
            raise Throttled("dingtalk.too_fast", 60.0, scope="lane", vendor="flowControlledStaffIdList", request="")
        if sent.filteredStaffIdList:
            raise Rejected("dingtalk.filtered")
        if not sent.processQueryKey:
            raise OutcomeUnknown("dingtalk.no_receipt")
        return sent.processQueryKey

    # ---- any call

    async def call(
        self, method: str, path: str, body: Mapping[str, object], written: Written | None = None
    ) -> dict[str, Any]:
        """Call the v1.0 API. A refused token is renewed once: the vendor had done nothing.

        Raises:
            Throttled, Unavailable, Rejected, OutcomeUnknown.
        """
        token = await self.token.get()
        for renewed in (False, True):
            url, headers = self.settings.api_base + path, {TOKEN_HEADER: token}
            answer = await self._exchange(method, url, dict(body), headers, None if renewed else written)
            data = _json(answer)
            if answer.status_code < 300 and data is not None:
                return data
            found = _fault(answer, data)
            if renewed or not is_token(found.code):
                raise self._typed(answer, found)
            token = await self.token.get(stale=token)
        raise AssertionError("unreachable")

    async def open_call(self, path: str, body: Mapping[str, object]) -> dict[str, Any]:
        """Call the v1.0 API without a token: the calls that take the app's secret, which may be repeated.

        Raises:
            Throttled, Unavailable, Rejected.
        """
        try:
            answer = await self._exchange("POST", self.settings.api_base + path, dict(body), {}, None)
        except OutcomeUnknown as error:
            raise Unavailable("dingtalk.busy", vendor=error.code, request="") from error
        data = _json(answer)
        if answer.status_code < 300 and data is not None:
            return data
        raise self._typed(answer, _fault(answer, data))

    async def upload(self, kind: str, name: str, data: bytes) -> str:
        """Upload a file and return its media id.

        Args:
            kind: `image`, `voice`, `video` or `file`.

        Raises:
            Throttled, Unavailable, Rejected.
        """
        token = await self.token.get()
        for renewed in (False, True):
            url = f"{self.settings.oapi_base}/media/upload?access_token={token}&type={kind}"
            try:
                answer = await self.egress.request(
                    "POST", url, policy=self.settings.policy, files={"media": (name, data)}
                )
            except OutcomeUnknown as error:
                raise Unavailable("dingtalk.busy", vendor="", request="") from error  # an upload may be repeated
            old = _old(answer)
            if old.errcode == 0 and old.media_id:
                return old.media_id
            code = "" if old.errcode is None else str(old.errcode)
            if renewed or not is_token(code):
                raise fault(answer.status_code, code, old.errmsg, request=old.request_id)
            token = await self.token.get(stale=token)
        raise AssertionError("unreachable")

    async def _grant(self) -> Grant:
        data = await self.open_call(
            "/v1.0/oauth2/accessToken",
            {"appKey": self.settings.client_id, "appSecret": self.settings.client_secret},
        )
        try:
            answer = TokenAnswer.model_validate(data)
        except ValidationError as error:
            raise Unavailable("dingtalk.busy", vendor="accessToken", request="") from error
        return Grant(token=answer.accessToken, seconds=answer.expireIn)

    async def _exchange(
        self, method: str, url: str, body: dict[str, object], headers: dict[str, str], written: Written | None
    ) -> httpx.Response:
        policy = self.settings.policy
        answer = await send_once(self.egress, method, url, policy=policy, headers=headers, json=body, written=written)
        self._note_time(answer)
        return answer

    def _note_time(self, answer: httpx.Response) -> None:
        try:
            there = parsedate_to_datetime(answer.headers["date"])
        except (KeyError, ValueError):
            return
        self.skew_ms = int(there.timestamp() * 1000) - self.clock.ms()

    @staticmethod
    def _typed(answer: httpx.Response, found: Fault) -> AppError:
        error = fault(
            answer.status_code,
            found.code,
            found.message,
            request=found.requestid,
            retry_after=_seconds(answer.headers.get("retry-after", "")),
        )
        if error.code == "dingtalk.scope":
            error.params["scopes"] = scopes(found.accessdenieddetail) or found.message[:200]
        return error


def _json(answer: httpx.Response) -> dict[str, Any] | None:
    try:
        data = json.loads(answer.content)
    except (ValueError, RecursionError):
        return None
    return data if isinstance(data, dict) else None


def _fault(answer: httpx.Response, data: dict[str, Any] | None) -> Fault:
    try:
        return Fault.model_validate(data or {})
    except ValidationError:
        return Fault(message=answer.reason_phrase)


def _old(answer: httpx.Response) -> OldAnswer:
    try:
        return OldAnswer.model_validate(_json(answer) or {})
    except ValidationError:
        return OldAnswer()


def _seconds(text: str) -> float:
    return min(float(text), 3600.0) if text.isascii() and text.isdigit() else 0.0
