"""Calls to Feishu's open API. Owns the access token, nothing else; never repeats a message by itself."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

import httpx
import orjson

from channels.feishu.address import Address
from channels.feishu.faults import GONE, KNOWN, TOKEN, fault, wait_of, ws_fault
from channels.feishu.render import Body
from channels.feishu.settings import FeishuSettings
from security.egress import Egress
from storage.background import Background
from storage.clock import Clock
from storage.envelope import Receipt
from storage.errors import AppError, OutcomeUnknown, Rejected, Throttled, Unavailable

EARLY = 600.0  # below 30 minutes the vendor hands out a new token while the old one still works
TOKEN_PATH = "/open-apis/auth/v3/tenant_access_token/internal"  # noqa: S105 - an address
SAME_CALL_MS = 3_000
DOUBTFUL_SECONDS = 10.0
MOST_TRIED = 1_000
LINE_PATH = "/callback/ws/endpoint"
LINE_URL = re.compile(r"wss?://[!-~]{1,2000}", re.ASCII)
JSON = {"content-type": "application/json; charset=utf-8"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Identity:
    """Who the bot is at Feishu."""

    open_id: str
    name: str
    active: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Posted:
    """A message at Feishu. `again`: its key may have been used before, so that perhaps nothing was said now."""

    id: str
    again: bool = False


class FeishuClient:
    """One app's calls."""

    def __init__(self, settings: FeishuSettings, egress: Egress, clock: Clock, background: Background) -> None:
        self.settings, self.egress, self.clock, self.background = settings, egress, clock, background
        self._policy = settings.policy
        self._token, self._renew_at = "", 0.0
        self._renewing: asyncio.Task[str | AppError] | None = None
        self.skew: int | None = None
        """Seconds that the vendor's clock is ahead of ours, by its last answer."""
        self._born = clock.monotonic()
        self._tried: dict[str, None] = {}
        """Uuids of calls whose outcome is not known."""

    # ---- messages

    async def send(self, body: Body, address: Address, key: str, written: Callable[[], None] | None = None) -> Receipt:
        """As `post`, for who needs the receipt only."""
        return Receipt(vendor_id=(await self.post(body, address, key, written)).id)

    async def post(self, body: Body, address: Address, key: str, written: Callable[[], None] | None = None) -> Posted:
        """Reply, or write to a chat or person. `key` makes a repeated call within an hour harmless.

        Raises:
            Throttled, Unavailable, Rejected, OutcomeUnknown: see `channels.base.Channel.send`.
        """
        uuid = uuid_of(key, address)
        raw: dict[str, object] = {"msg_type": body.kind, "content": body.content, "uuid": uuid}
        # just after a start, what the killed process said is not told apart by its age
        doubt = uuid in self._tried or self.clock.monotonic() - self._born < DOUBTFUL_SECONDS
        try:
            posted = await self._post(raw, body, address, written, doubt=doubt)
        except (OutcomeUnknown, Unavailable):
            while len(self._tried) >= MOST_TRIED:
                self._tried.pop(next(iter(self._tried)))
            self._tried[uuid] = None
            raise
        self._tried.pop(uuid, None)
        return posted

    async def _post(
        self, raw: dict[str, object], body: Body, address: Address, written: Callable[[], None] | None, *, doubt: bool
    ) -> Posted:
        began = self.clock.ms()
        if address.message:
            if address.thread:
                raw["reply_in_thread"] = True
            path = f"/open-apis/im/v1/messages/{address.message}/reply"
            try:
                return self._posted(await self.call("POST", path, raw, written=written), body, began, doubt)
            except Rejected as error:
                if error.code not in GONE or not address.to:
                    raise
                raw.pop("reply_in_thread", None)
        path = f"/open-apis/im/v1/messages?receive_id_type={address.id_type}"
        raw = {"receive_id": address.to, **raw}
        return self._posted(await self.call("POST", path, raw, written=written), body, began, doubt)

    def _posted(self, data: Mapping[str, object], body: Body, began: int, doubt: bool) -> Posted:
        message = data.get("message_id")
        if not isinstance(message, str) or not message:
            raise OutcomeUnknown("feishu.no_receipt")
        kind, created = data.get("msg_type"), str(data.get("create_time", ""))
        again = doubt or (isinstance(kind, str) and kind != body.kind)
        if created.isascii() and created.isdigit():
            again = again or int(created) < began + (self.skew or 0) * 1000 - SAME_CALL_MS
        return Posted(id=message, again=again)

    async def identity(self) -> Identity:
        """Ask who we are; needs no scope."""
        answer = await self.call("GET", "/open-apis/bot/v3/info", top="bot")
        return Identity(
            open_id=str(answer.get("open_id", "")),
            name=str(answer.get("app_name", "")),
            active=answer.get("activate_status") in (None, 2),
        )

    async def line_address(self) -> tuple[str, dict[str, object]]:
        """Where the long connection is to be opened now, and how often it wants a sign of life.

        The address holds an access key: never log it.

        Raises:
            Rejected: credentials are wrong, or the long connection is not switched on. Unavailable: try again.
        """
        body = {"AppID": self.settings.app_id, "AppSecret": self.settings.app_secret}
        headers = dict(JSON) | {"locale": "zh"}
        try:
            answer = await self._exchange("POST", LINE_PATH, headers, orjson.dumps(body), None, None, None)
        except OutcomeUnknown as error:
            raise Unavailable("feishu.no_answer", cause=error.code) from error
        code, raw = judged(answer)
        if code != 0:
            raise ws_fault(code, str(raw.get("msg") or ""))
        data = raw.get("data")
        url = data.get("URL") if isinstance(data, dict) else None
        if not isinstance(data, dict) or not isinstance(url, str) or not LINE_URL.fullmatch(url):
            raise Unavailable("feishu.ws_address")
        config = data.get("ClientConfig")
        return url, config if isinstance(config, dict) else {}

    # ---- any call

    async def call(
        self,
        method: str,
        path: str,
        body: Mapping[str, object] | None = None,
        *,
        top: str = "data",
        files: Mapping[str, object] | None = None,
        data: Mapping[str, str] | None = None,
        written: Callable[[], None] | None = None,
    ) -> dict[str, object]:
        """One call with the token, repeated once if only the token was refused. Returns the object under `top`."""
        content = None if body is None else orjson.dumps(body)
        for attempt in (1, 2):
            token = await self.token()
            headers = {"authorization": f"Bearer {token}"}
            if content is not None:
                headers |= JSON
            answer = await self._exchange(method, path, headers, content, files, data, written)
            code, raw = judged(answer)
            if code == 0:
                inner = raw.get(top)
                return inner if isinstance(inner, dict) else {}
            if code in TOKEN and attempt == 1:
                self._forget(token)
                continue
            raise fault_of(code, raw, answer)
        raise Unavailable("feishu.busy")

    async def fetch(self, path: str) -> bytes:
        """The bytes of a picture or file that was sent to us."""
        for attempt in (1, 2):
            token = await self.token()
            answer = await self._exchange("GET", path, {"authorization": f"Bearer {token}"}, None, None, None, None)
            if answer.status_code == 200 and "content-disposition" in answer.headers:
                return answer.content
            if answer.status_code == 200 and "json" not in answer.headers.get("content-type", ""):
                return answer.content
            code, raw = judged(answer)
            if code in TOKEN and attempt == 1:
                self._forget(token)
                continue
            raise fault_of(code, raw, answer)
        raise Unavailable("feishu.busy")

    async def token(self, *, fresh: bool = False) -> str:
        """The app's access token: renewed early, by one call for all who wait.

        Args:
            fresh: ask the vendor even if the kept one is good, as a test of the credentials.

        Raises:
            Unavailable: also if id or secret is wrong: an admin mends that, and nothing is lost meanwhile.
        """
        if self._token and self.clock.monotonic() < self._renew_at and not fresh:
            return self._token
        if self._renewing is None or self._renewing.done():
            self._renewing = self.background.spawn("feishu token", self._renewed())
        token = await asyncio.shield(self._renewing)
        if isinstance(token, AppError):
            raise token
        return token

    def _forget(self, token: str) -> None:
        if token == self._token:  # another call may have renewed it meanwhile
            self._token = ""

    async def _renewed(self) -> str | AppError:
        """The new token or why there is none: a value, since several wait for the same one."""
        try:
            return await self._renew()
        except OutcomeUnknown as error:
            return Unavailable("feishu.no_answer", cause=error.code)  # nothing was said to anybody
        except AppError as error:
            return error

    async def _renew(self) -> str:
        body = {"app_id": self.settings.app_id, "app_secret": self.settings.app_secret}
        answer = await self._exchange("POST", TOKEN_PATH, dict(JSON), orjson.dumps(body), None, None, None)
        code, raw = judged(answer)
        token, expire = raw.get("tenant_access_token"), raw.get("expire")
        if code != 0:
            raise fault_of(code, raw, answer)
        if not isinstance(token, str) or not token or not isinstance(expire, int):
            raise Unavailable("feishu.not_json", status=answer.status_code)
        self._token = token
        self._renew_at = self.clock.monotonic() + max(expire - EARLY, expire / 2)
        return token

    async def _exchange(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str],
        content: bytes | None,
        files: Mapping[str, object] | None,
        data: Mapping[str, str] | None,
        written: Callable[[], None] | None,
    ) -> httpx.Response:
        left = False

        def on_written() -> None:
            nonlocal left
            left = True
            if written is not None:
                written()

        try:
            answer = await self.egress.request(
                method,
                self.settings.api_base + path,
                policy=self._policy,
                headers=headers,
                content=content,
                files=files,
                data=data,
                written=on_written,
            )
        except Unavailable as error:
            if left and method != "GET":
                raise OutcomeUnknown("feishu.no_answer", cause=error.code) from error
            raise
        if path == TOKEN_PATH:
            self.skew = _skew(answer.headers.get("date", ""), self.clock)
        return answer


def _skew(date: str, clock: Clock) -> int | None:
    try:
        return round(parsedate_to_datetime(date).timestamp() - clock.ms() / 1000)
    except ValueError:
        return None


def judged(answer: httpx.Response) -> tuple[int, dict[str, object]]:
    """The body's code and the body.

    Raises:
        Throttled: HTTP 429 without a code. Unavailable: anything that is not Feishu's JSON.
    """
    try:
        raw = orjson.loads(answer.content)
    except orjson.JSONDecodeError:
        raw = None
    code = raw.get("code", raw.get("StatusCode")) if isinstance(raw, dict) else None
    if not isinstance(raw, dict) or not isinstance(code, int) or isinstance(code, bool):
        if answer.status_code == 429:
            raise Throttled("feishu.99991400", retry_after=wait_of(answer.headers))
        raise Unavailable("feishu.not_json", status=answer.status_code)
    if code == 0 and answer.status_code >= 400:
        raise Unavailable("feishu.not_json", status=answer.status_code)
    return code, raw


def fault_of(code: int, raw: Mapping[str, object], answer: httpx.Response) -> AppError:
    if answer.status_code >= 500 and code not in KNOWN:
        return Unavailable("feishu.busy", vendor_code=str(code))
    return fault(code, str(raw.get("msg") or raw.get("StatusMessage") or ""), answer.headers)


def uuid_of(key: str, address: Address) -> str:
    """The vendor's idempotency key, 50 characters at most.

    It also names who is written to: another installation with the same app may count its jobs from one as well.
    """
    place = f"{address.message}\n{address.to}"
    if len(key) > 30:
        return hashlib.sha256(f"{key}\n{place}".encode()).hexdigest()[:48]
    return f"{key}.{hashlib.sha256(place.encode()).hexdigest()[:12]}"
