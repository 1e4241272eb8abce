"""What a DingTalk app robot needs to be told. Readable without loading anything of DingTalk's."""

from __future__ import annotations

from channels.base import PUSH, FieldSpec, Manifest

API_BASE = "https://api.dingtalk.com"
OAPI_BASE = "https://oapi.dingtalk.com"

MANIFEST = Manifest(
    type="dingtalk",
    modes=("stream", "http"),
    fields=(
        FieldSpec(name="client_id", required=True),
        FieldSpec(name="client_secret", kind="secret", required=True),
        FieldSpec(name="robot_code"),
        FieldSpec(name="corp_id"),
        FieldSpec(name="access", kind="choice", default="request", choices=("open", "allowlist", "request")),
        FieldSpec(name="allow", kind="list"),
        FieldSpec(name="group_lane", kind="choice", default="group", choices=("group", "person")),
        FieldSpec(name="card_template_id"),
        FieldSpec(name="card_key", default="content"),
        FieldSpec(name="api_base", kind="url", default=API_BASE),
        FieldSpec(name="oapi_base", kind="url", default=OAPI_BASE),
        *PUSH,
    ),
    runtime="channels.dingtalk.runtime:build",
)
