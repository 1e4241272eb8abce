"""Files to and from DingTalk. Source: protocols.md 2.4."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Annotated

from pydantic import BaseModel, Field, ValidationError

from channels.dingtalk.client import DingTalkClient
from channels.dingtalk.render import Rendered
from security.egress import VENDOR
from storage.errors import AppError, Invalid, OutcomeUnknown, Rejected, TooLarge, Unavailable

MOST_BYTES = 20_000_000
IMAGES = frozenset({"png", "jpg", "jpeg", "gif", "bmp", "webp"})


class _Download(BaseModel):
    downloadUrl: Annotated[str, Field(min_length=8, max_length=8000)]


async def file_message(client: DingTalkClient, path: str, data: bytes) -> Rendered:
    """Upload a file and return the message that shows it. Safe to repeat.

    Raises:
        Rejected: `dingtalk.file_size`, `dingtalk.file_empty`. Throttled, Unavailable: try again.
    """
    if not data:
        raise Rejected("dingtalk.file_empty")
    if len(data) > MOST_BYTES:
        raise Rejected("dingtalk.file_size", most=str(MOST_BYTES // 1_000_000))
    name = PurePosixPath(path).name or "file"
    ending = name.rpartition(".")[2].lower() if "." in name else ""
    if ending in IMAGES:
        media_id = await client.upload("image", name, data)
        return Rendered(key="sampleImageMsg", param=json.dumps({"photoURL": media_id}))
    media_id = await client.upload("file", name, data)
    param = {"mediaId": media_id, "fileName": name, "fileType": ending or "file"}
    return Rendered(key="sampleFile", param=json.dumps(param, ensure_ascii=False))


async def download(client: DingTalkClient, code: str) -> bytes:
    """The bytes behind a download code of a message. Its address is short-lived, signed and on a foreign host.

    Raises:
        Rejected: the code is not valid (any more). TooLarge. Throttled, Unavailable: try again.
    """
    body = {"downloadCode": code, "robotCode": client.settings.robot_code}
    try:
        answer = await client.call("POST", "/v1.0/robot/messageFiles/download", body)
        found = _Download.model_validate(answer)
        file = await client.egress.request(
            "GET", found.downloadUrl, policy=replace(VENDOR, most_bytes=MOST_BYTES, seconds=60)
        )
    except OutcomeUnknown as error:
        raise Unavailable("dingtalk.busy", vendor=error.code, request="") from error
    except (ValidationError, Invalid) as error:
        code_ = error.code if isinstance(error, AppError) else "downloadUrl"
        raise Rejected("dingtalk.file_gone", vendor=code_) from error
    if file.status_code != 200:
        raise Rejected("dingtalk.file_gone", vendor=str(file.status_code))
    return file.content


__all__ = ["MOST_BYTES", "TooLarge", "download", "file_message"]
