"""Our messages as WeCom's Markdown. Pure. Source: protocols.md 3.1."""

from __future__ import annotations

import re

from storage.envelope import Outgoing

MOST_BYTES = 4096
IMAGE = re.compile(r"!\[([^\]\n]{0,200})\]\(\s*<?([^)\s>]{1,2000})>?[^)\n]{0,200}\)")


def markdown(out: Outgoing) -> str:
    """Title, text, links for buttons, people who are told."""
    parts = [f"**{out.title[:100]}**"] if out.title else []
    parts += [IMAGE.sub(r"[\1](\2)", out.text)] if out.text else []
    links = [f"[{b.label[:60]}]({b.url})" for b in out.buttons if b.url and len(b.url) < 1000]
    parts += [" | ".join(links[:4])] if links else []
    people = " ".join(f"<@{m}>" for m in out.mentions[:10] if m != "all")
    return "\n\n".join([*parts, people] if people else parts)


def plain(text: str) -> str:
    """Markdown as text for a client that shows it raw: marks that mean nothing there are taken away."""
    text = IMAGE.sub(r"\1 \2", text)
    return re.sub(r"(?m)^#{1,6}\s+|\*\*|^```\w*$", "", text)
