"""Files to and from Feishu, and what a quoted message said. Source: protocols.md 1.4."""

from __future__ import annotations

from dataclasses import replace
from pathlib import PurePosixPath

import orjson

from channels.feishu.address import TARGET
from channels.feishu.client import FeishuClient
from channels.feishu.content import parts_of
from channels.feishu.render import Body
from storage.envelope import Part
from storage.errors import OutcomeUnknown, Rejected, Unavailable

MOST_IMAGE = 10_000_000
MOST_FILE = 30_000_000
MOST_QUOTED = 20_000
MOST_FORWARDED = 100
IMAGES = frozenset({"png", "jpg", "jpeg", "gif", "bmp", "webp", "ico", "tiff"})
FILE_TYPES = {"opus": "opus", "mp4": "mp4", "pdf": "pdf", "doc": "doc", "docx": "doc", "xls": "xls", "xlsx": "xls"}
FILE_TYPES |= {"ppt": "ppt", "pptx": "ppt"}


async def file_message(client: FeishuClient, path: str, data: bytes) -> Body:
    """Upload a file and return the message that shows it. Safe to repeat.

    Raises:
        Rejected: `feishu.file_size`, `feishu.file_empty`. Throttled, Unavailable: try again.
    """
    if not data:
        raise Rejected("feishu.file_empty")
    name = PurePosixPath(path).name or "file"
    ending = name.rpartition(".")[2].lower() if "." in name else ""
    if ending in IMAGES and len(data) <= MOST_IMAGE:
        part = {"image": (name, data, "application/octet-stream")}
        key = await _upload(client, "/open-apis/im/v1/images", {"image_type": "message"}, part, "image_key")
        return Body(kind="image", content=orjson.dumps({"image_key": key}).decode())
    if len(data) > MOST_FILE:
        raise Rejected("feishu.file_size", most=str(MOST_FILE // 1_000_000))
    fields = {"file_type": FILE_TYPES.get(ending, "stream"), "file_name": name}
    part = {"file": (name, data, "application/octet-stream")}
    key = await _upload(client, "/open-apis/im/v1/files", fields, part, "file_key")
    kind = {"opus": "audio", "mp4": "media"}.get(ending, "file")
    return Body(kind=kind, content=orjson.dumps({"file_key": key}).decode())


async def _upload(
    client: FeishuClient, path: str, fields: dict[str, str], files: dict[str, tuple[str, bytes, str]], name: str
) -> str:
    try:
        answer = await client.call("POST", path, files=files, data=fields)
    except OutcomeUnknown as error:  # an upload that nobody sees may be repeated
        raise Unavailable("feishu.no_answer", cause=error.code) from error
    key = answer.get(name)
    if not isinstance(key, str) or not key:
        raise Unavailable("feishu.not_json", status=200)
    return key


def located(part: Part, message: str) -> Part:
    """A picture or file with the message that it came with, without which it cannot be fetched."""
    return replace(part, key=f"{message}/{part.key}") if part.key and part.kind not in ("quote", "text") else part


async def download(client: FeishuClient, part: Part) -> bytes:
    """The bytes of a picture or file that somebody sent.

    Raises:
        Rejected: gone, or too old. TooLarge. Throttled, Unavailable: try again.
    """
    message, _, key = part.key.partition("/")
    if not TARGET.fullmatch(message) or not TARGET.fullmatch(key):
        raise Rejected("feishu.file_gone")
    kind = "image" if part.kind == "image" else "file"
    return await client.fetch(f"/open-apis/im/v1/messages/{message}/resources/{key}?type={kind}")


async def quoted(client: FeishuClient, message: str) -> str:
    """What a message said, by its id; all of them for a merged forward. Raises `AppError`."""
    if not TARGET.fullmatch(message):
        return ""
    answer = await client.call("GET", f"/open-apis/im/v1/messages/{message}")
    items = answer.get("items")
    lines: list[str] = []
    for item in items[:MOST_FORWARDED] if isinstance(items, list) else ():
        if isinstance(item, dict):
            lines.append(_said(item))
    return "\n".join(line for line in lines if line)[:MOST_QUOTED]


def _said(item: dict[str, object]) -> str:
    body = item.get("body")
    content = body.get("content") if isinstance(body, dict) else None
    try:
        raw = orjson.loads(content) if isinstance(content, str) else None
    except orjson.JSONDecodeError:
        return ""
    if not isinstance(raw, dict):
        return ""
    names: dict[str, str] = {}
    mentions = item.get("mentions")
    for one in mentions[:100] if isinstance(mentions, list) else ():
        if isinstance(one, dict) and isinstance(one.get("key"), str):
            names[str(one["key"])] = f"@{str(one.get('name', ''))[:100]}"
    parts = parts_of(str(item.get("msg_type", "")), raw, names)
    return "\n".join(part.text or f"[{part.name or part.kind}]" for part in parts)
