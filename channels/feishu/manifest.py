"""Feishu and Lark as a channel type: what a bot needs, readable without loading vendor code."""

from __future__ import annotations

from channels.base import PUSH, FieldSpec, Manifest

DOMESTIC = "https://open.feishu.cn"
INTERNATIONAL = "https://open.larksuite.com"

MANIFEST = Manifest(
    type="feishu",
    modes=("websocket", "webhook"),
    fields=(
        FieldSpec(name="app_id", required=True),
        FieldSpec(name="app_secret", kind="secret", required=True),
        FieldSpec(name="encrypt_key", kind="secret", required=True, modes=("webhook",)),
        FieldSpec(name="verification_token", kind="secret", required=True, modes=("webhook",)),
        FieldSpec(name="api_base", kind="url", default=DOMESTIC),
        FieldSpec(name="access", kind="choice", default="request", choices=("open", "allowlist", "request")),
        FieldSpec(name="allow", kind="list"),
        FieldSpec(name="group_mention", kind="choice", default="on", choices=("on", "off")),
        FieldSpec(name="group_lane", kind="choice", default="thread", choices=("thread", "group", "person")),
        FieldSpec(name="stream", kind="choice", default="on", choices=("on", "off")),
        *PUSH,
    ),
    runtime="channels.feishu.runtime:build",
)
