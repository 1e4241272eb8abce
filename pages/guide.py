"""What to click at the vendor, step by step, in the words of the vendor's own buttons."""

from __future__ import annotations

import json
from dataclasses import dataclass

CALLBACK = "callback"

FEISHU_SCOPES = json.dumps(
    {
        "scopes": {
            "tenant": [
                "im:message",
                "im:message:send_as_bot",
                "im:message.p2p_msg:readonly",
                "im:message.group_at_msg:readonly",
                "im:message.reactions:write_only",
                "im:resource",
                "cardkit:card:write",
            ],
            "user": [],
        }
    }
)
DINGTALK_SCOPES = "qyapi_robot_sendmsg Card.Instance.Write Card.Streaming.Write"


@dataclass(frozen=True, kw_only=True, slots=True)
class GuideStep:
    """One step at the vendor. Texts: `guide.<key>` and `guide.<key>.where`.

    Attributes:
        fields: settings of the bot that are found there.
        paste: text to paste there; `CALLBACK` stands for the bot's own callback address.
        proof: names of probe results that show that this step is done.
    """

    key: str
    fields: tuple[str, ...] = ()
    paste: str = ""
    proof: tuple[str, ...] = ()


_FEISHU_APP = GuideStep(key="feishu.app", fields=("app_id", "app_secret"), proof=("token",))
_FEISHU_SCOPES = GuideStep(key="feishu.scopes", paste=FEISHU_SCOPES, proof=("identity", "scopes"))
_FEISHU_RELEASE = GuideStep(key="feishu.release", proof=("message",))
_DINGTALK_APP = GuideStep(key="dingtalk.app", fields=("client_id", "client_secret"), proof=("token",))
_DINGTALK_SCOPES = GuideStep(key="dingtalk.scopes", paste=DINGTALK_SCOPES, proof=("scopes",))
_DINGTALK_RELEASE = GuideStep(key="dingtalk.release", proof=("message",))

GUIDES: dict[tuple[str, str], tuple[GuideStep, ...]] = {
    ("feishu", "websocket"): (
        _FEISHU_APP,
        _FEISHU_SCOPES,
        GuideStep(key="feishu.websocket", proof=("connection", "inbound")),
        _FEISHU_RELEASE,
    ),
    ("feishu", "webhook"): (
        _FEISHU_APP,
        _FEISHU_SCOPES,
        GuideStep(key="feishu.encrypt", fields=("encrypt_key", "verification_token")),
        GuideStep(key="feishu.callback", paste=CALLBACK, proof=("connection", "inbound")),
        _FEISHU_RELEASE,
    ),
    ("dingtalk", "stream"): (
        _DINGTALK_APP,
        GuideStep(key="dingtalk.stream", proof=("connection",)),
        _DINGTALK_SCOPES,
        _DINGTALK_RELEASE,
    ),
    ("dingtalk", "http"): (
        _DINGTALK_APP,
        GuideStep(key="dingtalk.callback", paste=CALLBACK, proof=("connection", "inbound")),
        _DINGTALK_SCOPES,
        _DINGTALK_RELEASE,
    ),
}


def guide_of(type: str, mode: str) -> tuple[GuideStep, ...]:
    """The steps for a channel type and mode; empty where there is nothing to tell."""
    return GUIDES.get((type, mode), ())
