"""The app's API over the one egress client. Owns the access token; never repeats a send. Source: protocols.md 3.2."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import urlencode

import orjson

from channels.exchange import send_once
from channels.token import Grant, TokenCache
from channels.wecom.faults import TOKEN, Answer, fault, parse, read_answer
from channels.wecom.settings import WeComSettings
from security.egress import Egress
from storage.clock import Clock
from storage.errors import Invalid, OutcomeUnknown, Rejected, Unavailable

JSON = {"content-type": "application/json"}


class WeComClient:
    """Calls WeCom for one app."""

    def __init__(self, settings: WeComSettings, egress: Egress, clock: Clock) -> None:
        self.settings, self.egress = settings, egress
        self.policy = settings.policy(settings.api_base)
        self.token = TokenCache(self._grant, clock)

    async def send(self, to: str, content: str, written: Callable[[], None] | None = None) -> str:
        """Send Markdown to one person and return the vendor's id of the message.

        Raises:
            Throttled, Unavailable, Rejected, OutcomeUnknown: as `Channel.send`.
        """
        body = {
            "touser": to,
            "msgtype": "markdown",
            "agentid": self.settings.agent_id,
            "markdown": {"content": content},
        }
        token = await self.token.get()
        answer = Answer()
        for renewed in (False, True):
            url = f"{self.settings.api_base}/cgi-bin/message/send?{urlencode({'access_token': token})}"
            tell = None if renewed else written
            raw = await send_once(
                self.egress, "POST", url, policy=self.policy, content=orjson.dumps(body), headers=JSON, written=tell
            )
            answer = parse(raw)
            if answer.errcode == 0:
                break
            if renewed or answer.errcode not in TOKEN:
                raise fault(raw.status_code, answer.errcode, answer.errmsg)
            token = await self.token.get(stale=token)
        if answer.invaliduser:
            raise Rejected("wecom.person", vendor="invaliduser")
        if not answer.msgid:
            raise OutcomeUnknown("wecom.no_answer", vendor="msgid")
        return answer.msgid

    async def _grant(self) -> Grant:
        query = urlencode({"corpid": self.settings.corp_id, "corpsecret": self.settings.corp_secret})
        try:
            raw = await self.egress.request(
                "GET", f"{self.settings.api_base}/cgi-bin/gettoken?{query}", policy=self.policy
            )
        except OutcomeUnknown as error:
            raise Unavailable("wecom.busy", vendor=error.code) from error
        except Invalid as error:
            raise Rejected(error.code, str(error.params.get("host", ""))) from error
        answer = read_answer(raw)
        if not answer.access_token:
            raise Unavailable("wecom.busy", vendor="gettoken")
        return Grant(token=answer.access_token, seconds=answer.expires_in)
