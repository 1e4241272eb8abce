"""Bots that only push: a group's robot at DingTalk, Feishu or WeCom, or any other system's address."""

from __future__ import annotations

from channels.base import PUSH_LANG, FieldSpec, Manifest

MANIFEST = Manifest(
    type="webhook",
    modes=("push",),
    fields=(
        FieldSpec(name="endpoint", kind="url", required=True),
        FieldSpec(name="token", kind="secret"),
        FieldSpec(name="secret", kind="secret"),
        FieldSpec(name="keyword"),
        PUSH_LANG,
    ),
    runtime="channels.webhook.runtime:build",
    receives=False,
)
