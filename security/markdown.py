"""Foreign text made safe to show: what models, people and pages wrote, as clean HTML.

The source's own HTML is text. Links show where they lead, pictures from outside become links, characters that
cannot be seen are taken out. The result passes nh3 as well, so that a mistake in the renderer is not a hole.
"""

from __future__ import annotations

import re
from collections.abc import MutableMapping, Sequence
from html import escape
from typing import Any
from urllib.parse import urlsplit

import nh3
from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.rules_core import StateCore
from markdown_it.token import Token

LIMIT = 200_000
CODE_LIMIT = 20_000

# What is not seen but is read by models and people's eyes: controls, zero-width and bidi characters, tag and
# variation characters that smuggle text. U+200D stays inside emoji, U+FE0F stays as emoji style.
_HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b\u200c\u200e\u200f"
    "\u202a-\u202e\u2060-\u206f\u3164\ufe00-\ufe0e\ufeff\uffa0\ufff0-\ufffb\ud800-\udfff"
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
    "|(?<![\u2190-\u2bff\ufe0f\U0001f000-\U0001faff])\u200d"
)
_BREAKS = str.maketrans({"\u2028": "\n", "\u2029": "\n", "\x0b": "\n", "\x0c": "\n", "\x85": "\n"})
_BARE = re.compile(r"https?://[^\s<>\"'`\u3000-\u303f\uff00-\uffef\u2018-\u201f]+", re.IGNORECASE)
_LANGUAGE = re.compile(r"[A-Za-z0-9+#._-]{1,20}\Z")
_SCHEMES = ("http", "https", "mailto")

_TAGS = {
    *("p", "br", "hr", "h1", "h2", "h3", "h4", "h5", "h6", "blockquote", "ul", "ol", "li", "strong", "em", "s"),
    *("code", "pre", "a", "span", "div", "table", "thead", "tbody", "tr", "th", "td"),
}
_ATTRIBUTES: dict[str, set[str]] = {"*": set(), "a": {"href"}, "ol": {"start"}}
_VALUES: dict[str, dict[str, set[str]]] = {
    "th": {"style": {"text-align:left", "text-align:center", "text-align:right"}},
    "td": {"style": {"text-align:left", "text-align:center", "text-align:right"}},
}


def visible(text: str) -> str:
    """The text without characters that are not seen. Line ends become newlines. Safe to repeat."""
    return _HIDDEN.sub("", text.translate(_BREAKS))


def host_of(href: str) -> str:
    """Where a link leads, for people: the host, or the address of a mailto. Empty if it leads nowhere we show."""
    try:
        parts = urlsplit(href)
        host = parts.hostname or ""
    except ValueError:
        return ""
    if parts.scheme == "mailto":
        return parts.path
    # user:password@ before the host only serves to look like another host
    return host if parts.scheme in ("http", "https") and parts.username is None else ""


def render(text: str, *, highlight: bool = False) -> str:
    """Markdown (CommonMark and tables) as clean HTML.

    Takes up to half a second of CPU for a hostile text: call it in a thread.

    Args:
        highlight: colour code by CSS classes; for text that has ended.
    """
    source = visible(text[:LIMIT])
    if len(text) > LIMIT:
        source += "\n\n…"
    return _clean(_MARKDOWN.render(source, {"highlight": highlight}))


def words_of(text: str, most: int = 200) -> str:
    """The words of a Markdown text in one line, for lists and previews."""
    said: list[str] = []
    for block in _BLOCKS_AND_WORDS.parse(visible(text[: 8 * most])):
        for token in block.children or ():
            said.append(" " if token.type in ("softbreak", "hardbreak") else token.content)
        said.append(block.content if block.type in ("fence", "code_block") else " ")
    return " ".join("".join(said).split())[:most]


def render_part(source: str, env: dict[str, Any]) -> str:
    """A piece of a text that was already made `visible`; `env` carries link references from piece to piece."""
    return _clean(_MARKDOWN.render(source, env)) if source else ""


def last_block(source: str) -> int:
    """Where the last top-level block begins, judged by whole lines only: half a line may become anything.

    What stands before it can no longer change by what follows.
    """
    end = source.rfind("\n") + 1
    starts = [t.map[0] for t in _BLOCKS.parse(source[:end]) if t.level == 0 and t.map and t.nesting >= 0]
    at = 0
    for _ in range(starts[-1] if len(starts) > 1 else 0):
        at = source.index("\n", at) + 1
    return at


def _clean(html: str) -> str:
    return nh3.clean(
        html,
        tags=_TAGS,
        attributes=_ATTRIBUTES,
        tag_attribute_values=_VALUES,
        allowed_classes=_classes(),
        url_schemes=set(_SCHEMES),
        url_relative="deny",
        link_rel="noopener noreferrer nofollow",
        set_tag_attribute_values={"a": {"target": "_blank"}},
    )


_CLASSES: dict[str, set[str]] = {}


def _classes() -> dict[str, set[str]]:
    """Classes that the renderer itself writes; Pygments is loaded with the first text, not with the program."""
    if not _CLASSES:
        from pygments.token import STANDARD_TYPES  # type: ignore[import-untyped]

        _CLASSES.update(
            span={"host", *(name for name in STANDARD_TYPES.values() if name)},
            div={"code", "code-head", "table"},
            a={"picture"},
        )
    return _CLASSES


# ---- links and pictures: in the token stream, after the inline rules


def _links(state: StateCore) -> None:
    for block in state.tokens:
        if block.type == "inline" and block.children:
            block.children = _walk(block.children)


def _walk(children: list[Token]) -> list[Token]:
    out: list[Token] = []
    inside: list[tuple[str, int] | None] = []
    for token in children:
        if token.type == "link_open":
            href = str(token.attrs.get("href", ""))
            inside.append((href, len(out) + 1) if host_of(href) else None)
            if inside[-1]:
                out.append(token)
        elif token.type == "link_close":
            opened = inside.pop() if inside else None
            if opened:
                out.extend((token, *_host(opened[0], "".join(t.content for t in out[opened[1] :]))))
        elif token.type == "image":
            out.extend(_picture(token, linked=any(inside)))
        elif token.type == "text" and not any(inside):
            out.extend(_bare(token.content))
        else:
            out.append(token)
    return out


def _text(content: str) -> Token:
    token = Token("text", "", 0)
    token.content = content
    return token


def _anchor(href: str, text: str, kind: str = "") -> list[Token]:
    opening = Token("link_open", "a", 1, attrs={"href": href})
    if kind:
        opening.attrs["class"] = kind
    return [opening, _text(text), Token("link_close", "a", -1), *_host(href, text)]


def _host(href: str, text: str) -> list[Token]:
    """The host behind a link, unless its text is the very address or the host."""
    host, said = host_of(href), text.strip()
    if said.lower() == host or said == href or href == f"mailto:{said}" or href.rstrip("/") == said:
        return []
    token = Token("host", "span", 0)
    token.content = host
    return [token]


def _picture(token: Token, *, linked: bool) -> list[Token]:
    source, words = str(token.attrs.get("src", "")), token.content
    host = host_of(source)
    if linked or not host:
        return [_text(words)] if words else []
    return _anchor(source, words or host, "picture")


def _bare(content: str) -> list[Token]:
    """Addresses in running text become links."""
    out, at = [], 0
    for found in _BARE.finditer(content):
        address = found.group().rstrip(".,;:!?*_~|")
        while address.endswith((")", "]", "}")) and address.count("([{"[")]}".index(address[-1])]) < address.count(
            address[-1]
        ):
            address = address[:-1].rstrip(".,;:!?*_~|")
        href = _MARKDOWN.normalizeLink(address)
        if not host_of(href):
            continue
        if found.start() > at:
            out.append(_text(content[at : found.start()]))
        out.extend(_anchor(href, address))
        at = found.start() + len(address)
    if at < len(content) or not out:
        out.append(_text(content[at:]))
    return out


# ---- how some tokens are written


def _write_host(
    self: RendererHTML, tokens: Sequence[Token], n: int, options: Any, env: MutableMapping[str, Any]
) -> str:
    return f'<span class="host">{escape(tokens[n].content)}</span>'


def _write_fence(
    self: RendererHTML, tokens: Sequence[Token], n: int, options: Any, env: MutableMapping[str, Any]
) -> str:
    token = tokens[n]
    words = token.info.split()
    language = words[0] if words and _LANGUAGE.match(words[0]) else ""
    code = _coloured(token.content, language) if env.get("highlight") and language else escape(token.content)
    head = f'<div class="code-head"><span>{escape(language)}</span></div>'
    return f'<div class="code">{head}<pre><code>{code}</code></pre></div>\n'


def _write_table(
    self: RendererHTML, tokens: Sequence[Token], n: int, options: Any, env: MutableMapping[str, Any]
) -> str:
    return '<div class="table"><table>\n' if tokens[n].nesting == 1 else "</table></div>\n"


def _coloured(code: str, language: str) -> str:
    """Code with CSS classes; plain if the language is not known or the code is long."""
    if len(code) > CODE_LIMIT:
        return escape(code)
    from pygments import highlight  # type: ignore[import-untyped]
    from pygments.formatters import HtmlFormatter  # type: ignore[import-untyped]
    from pygments.lexers import get_lexer_by_name  # type: ignore[import-untyped]
    from pygments.util import ClassNotFound  # type: ignore[import-untyped]

    try:
        lexer = get_lexer_by_name(language.lower(), stripnl=False, ensurenl=False)
    except ClassNotFound:
        return escape(code)
    return str(highlight(code, lexer, HtmlFormatter(nowrap=True)))


def _parser() -> MarkdownIt:
    parser = MarkdownIt("commonmark", {"html": False, "breaks": True, "maxNesting": 60})
    return parser.enable(["table", "strikethrough"])


def _renderer() -> MarkdownIt:
    parser = _parser()
    parser.core.ruler.push("zhixing_links", _links)
    parser.add_render_rule("host", _write_host)
    for kind in ("fence", "code_block"):
        parser.add_render_rule(kind, _write_fence)
    for kind in ("table_open", "table_close"):
        parser.add_render_rule(kind, _write_table)
    return parser


_MARKDOWN = _renderer()
_BLOCKS_AND_WORDS = _parser()
_BLOCKS = _parser().disable(["inline", "text_join"])
