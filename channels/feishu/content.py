"""What a received Feishu message says, by its type. Values may be of any JSON type: nothing is trusted."""

from __future__ import annotations

import re
from collections.abc import Mapping

from storage.envelope import Part

KEY = re.compile(r"@_(?:user_\d+|all)")
MOST_TEXT = 100_000
MOST_PIECES = 500


def parts_of(kind: str, content: Mapping[str, object], names: Mapping[str, str]) -> tuple[Part, ...]:
    """The parts of a message; none for a type that we do not know.

    Args:
        names: what stands for each mention key in the text; empty for the bot itself.
    """
    if kind == "text":
        return _text(_named(_str(content, "text"), names))
    if kind == "post":
        return _post(content, names)
    if kind == "image":
        return _media("image", _str(content, "image_key"))
    if kind == "file":
        return _media("file", _str(content, "file_key"), _str(content, "file_name"))
    if kind == "audio":
        return _media("audio", _str(content, "file_key"), "audio.opus")
    if kind == "media":
        return _media("video", _str(content, "file_key"), _str(content, "file_name") or "video.mp4")
    return ()


def _str(raw: Mapping[str, object], name: str) -> str:
    value = raw.get(name)
    return value[:MOST_TEXT] if isinstance(value, str) else ""


def _text(text: str) -> tuple[Part, ...]:
    text = text.strip()
    return (Part(kind="text", text=text),) if text else ()


def _media(kind: str, key: str, name: str = "") -> tuple[Part, ...]:
    return (Part(kind=kind, key=key[:256], name=name[:255]),) if key else ()


def _named(text: str, names: Mapping[str, str]) -> str:
    """Put names in the place of mention keys."""
    if "@_" not in text:
        return text
    return KEY.sub(lambda found: names.get(found[0], "@all" if found[0] == "@_all" else found[0]), text)


def _post(content: Mapping[str, object], names: Mapping[str, str]) -> tuple[Part, ...]:
    """Rich text: paragraphs of tagged pieces become Markdown; pictures and videos become parts of their own."""
    lines: list[str] = []
    extra: list[Part] = []
    title = _str(content, "title").strip()
    if title:
        lines.append(f"**{title}**")
    paragraphs = content.get("content")
    for paragraph in paragraphs[:MOST_PIECES] if isinstance(paragraphs, list) else ():
        line = ""
        for piece in paragraph[:MOST_PIECES] if isinstance(paragraph, list) else ():
            if isinstance(piece, dict):
                line += _piece(piece, names, extra)
        lines.append(line.rstrip())
    return (*_text("\n".join(lines)[:MOST_TEXT]), *extra[:50])


def _piece(piece: Mapping[str, object], names: Mapping[str, str], extra: list[Part]) -> str:
    tag, text = _str(piece, "tag"), _str(piece, "text")
    if tag == "a":
        href = _str(piece, "href")
        return f"[{text}]({href})" if href else text
    if tag == "at":
        key = _str(piece, "user_id")
        return names.get(key, f"@{_str(piece, 'user_name') or key}" if key != "@_all" else "@all")
    if tag == "img":
        extra.extend(_media("image", _str(piece, "image_key")))
    elif tag == "media":
        extra.extend(_media("video", _str(piece, "file_key"), "video.mp4"))
    elif tag == "emotion":
        return f":{_str(piece, 'emoji_type')}:"
    elif tag == "code_block":
        return f"\n```{_str(piece, 'language').lower()}\n{text.rstrip()}\n```"
    elif tag == "hr":
        return "\n---"
    else:
        return _named(text, names)
    return ""
