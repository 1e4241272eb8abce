"""What a WeCom bot needs to be told. Readable without loading anything of WeCom's."""

from __future__ import annotations

from channels.base import PUSH, FieldSpec, Manifest

API_BASE = "https://qyapi.weixin.qq.com"
SOCKET = "https://openws.work.weixin.qq.com"

MANIFEST = Manifest(
    type="wecom",
    modes=("bot", "app"),
    fields=(
        FieldSpec(name="bot_id", required=True, modes=("bot",)),
        FieldSpec(name="bot_secret", kind="secret", required=True, modes=("bot",)),
        FieldSpec(name="corp_id", required=True, modes=("app",)),
        FieldSpec(name="corp_secret", kind="secret", required=True, modes=("app",)),
        FieldSpec(name="agent_id", required=True, modes=("app",)),
        FieldSpec(name="token", kind="secret", required=True, modes=("app",)),
        FieldSpec(name="aes_key", kind="secret", required=True, modes=("app",)),
        FieldSpec(name="access", kind="choice", default="request", choices=("open", "allowlist", "request")),
        FieldSpec(name="allow", kind="list"),
        FieldSpec(name="group_lane", kind="choice", default="group", choices=("group", "person"), modes=("bot",)),
        FieldSpec(name="api_base", kind="url", default=API_BASE, modes=("app",)),
        FieldSpec(name="socket", kind="url", default=SOCKET, modes=("bot",)),
        *PUSH,
    ),
    runtime="channels.wecom.runtime:build",
)
