"""PDF, Markdown, HTML, CSV and text. Runs in the child."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from pathlib import Path

from agent.memory.parsers.limits import Block, Limits, Refused

_HEADING = re.compile(r"^(#{1,6})\s+(.+?)\s*#*$")
_DROP = "script, style, noscript, template, nav, aside, footer, header, form, iframe, object, svg, [hidden]"
_HIDDEN = re.compile(r"display\s*:\s*none|visibility\s*:\s*hidden|font-size\s*:\s*0", re.IGNORECASE)
ROWS_TOGETHER = 20


def pdf(path: Path, limits: Limits) -> Iterator[Block]:
    """Pages in order."""
    import pypdf

    reader = pypdf.PdfReader(str(path))
    if reader.is_encrypted and not reader.decrypt(""):
        raise Refused("encrypted")
    pages = len(reader.pages)
    if pages > limits.pages:
        raise Refused("pages", most=limits.pages)
    for number, page in enumerate(reader.pages, 1):
        text = page.extract_text() or ""
        yield Block(_unbroken(text), f"p. {number}", "", number, pages)


def _unbroken(text: str) -> str:
    """Lines of a column put together again: a Chinese line break is none, a hyphen at a line's end neither."""
    text = re.sub(r"(?<=[\u3400-\u9fff，、；：])\n(?=[\u3400-\u9fff])", "", text)
    text = re.sub(r"(?<=[a-z])-\n(?=[a-z])", "", text)
    return re.sub(r"(?<![.!?。！？:：])\n(?=\S)", " ", text)


def decoded(path: Path) -> str:
    """A text file as text: marked encodings, UTF-8, GB18030, and only then a guess."""
    data = path.read_bytes()
    for mark, encoding in ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16")):
        if data.startswith(mark):
            return data.decode(encoding, "replace")
    for encoding in ("utf-8", "gb18030"):
        try:
            return data.decode(encoding)
        except UnicodeDecodeError:
            continue
    from charset_normalizer import from_bytes

    best = from_bytes(data[:200_000]).best()
    return data.decode(best.encoding if best is not None else "latin-1", "replace")


def markdown(path: Path, limits: Limits) -> Iterator[Block]:
    """Paragraphs under their headings."""
    headings: list[str] = []
    held: list[str] = []
    fenced = False
    for line in [*decoded(path).splitlines(), ""]:
        fenced ^= line.lstrip().startswith("```")
        found = None if fenced else _HEADING.match(line)
        if (found or not line.strip()) and held and not fenced:
            yield _under(held, headings)
            held = []
        if found:
            headings = [*headings[: len(found[1]) - 1], found[2]]
            held = [found[2]]
        elif line.strip():
            held.append(line.strip())
    if held:
        yield _under(held, headings)


def _under(held: list[str], headings: list[str]) -> Block:
    return Block("\n".join(held), headings[-1] if headings else "", " > ".join(headings))


def html(path: Path, limits: Limits) -> Iterator[Block]:
    """The text that a reader sees, under its headings; scripts and what is hidden are dropped."""
    from selectolax.lexbor import LexborHTMLParser

    tree = LexborHTMLParser(decoded(path))
    for node in tree.css(_DROP):
        node.decompose()
    for node in tree.css("[style]"):
        if _HIDDEN.search(node.attributes.get("style") or ""):
            node.decompose()
    root = tree.css_first("article") or tree.css_first("main") or tree.body
    if root is None:
        return
    headings: list[str] = []
    for node in root.css("h1, h2, h3, h4, h5, h6, p, li, pre, td, th, dt, dd, blockquote, figcaption"):
        text = " ".join(node.text(separator=" ").split())
        tag = node.tag or ""
        if not text:
            continue
        if re.fullmatch(r"h[1-6]", tag):
            headings = [*headings[: int(tag[1]) - 1], text]
        yield Block(text, headings[-1] if headings else "", " > ".join(headings))
    if not root.css_first("p, li, pre, td, blockquote"):
        text = " ".join(root.text(separator=" ").split())
        if text:
            yield Block(text)


def table(path: Path, limits: Limits) -> Iterator[Block]:
    """Rows with the names of their columns, some at a time."""
    text = decoded(path)
    try:
        dialect: type[csv.Dialect] | csv.Dialect = csv.Sniffer().sniff(text[:8192], delimiters=",;\t|")
    except csv.Error:
        dialect = csv.excel
    csv.field_size_limit(100_000)
    header: list[str] = []
    held: list[str] = []
    first = cells = 0
    try:
        for at, row in enumerate(csv.reader(io.StringIO(text), dialect), 1):
            cells += max(1, len(row))
            if cells > limits.cells:
                raise Refused("cells", most=limits.cells)
            values = [value.strip() for value in row]
            if not any(values):
                continue
            if not header:
                header = values
                continue
            named = [f"{n}: {v}" if n else v for n, v in zip(header, values, strict=False) if v]
            first = first or at
            held.append(" | ".join(named + [v for v in values[len(header) :] if v]))
            if len(held) == ROWS_TOGETHER:
                yield Block("\n".join(held), f"rows {first}-{at}")
                held, first = [], 0
    except csv.Error:
        raise Refused("damaged") from None
    if held:
        yield Block("\n".join(held), f"rows {first}-")
    elif header and not cells - len(header):
        yield Block(" | ".join(header), "rows 1-")


def text(path: Path, limits: Limits) -> Iterator[Block]:
    """Paragraphs, with the line at which each begins."""
    held: list[str] = []
    first = 0
    for number, line in enumerate([*decoded(path).splitlines(), ""], 1):
        if line.strip():
            first = first or number
            held.append(line.strip())
        elif held:
            yield Block("\n".join(held), f"line {first}")
            held, first = [], 0
