"""Word, Excel and PowerPoint files. Runs in the child; macros, links and embedded objects are not looked at."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

from agent.memory.parsers.limits import Block, Limits, Refused

ROWS_TOGETHER = 20
LONGEST_CELL = 2_000
_SLIDE = re.compile(r"ppt/slides/slide(\d+)\.xml$")
_TEXT = "{http://schemas.openxmlformats.org/drawingml/2006/main}t"
_PARAGRAPH = "{http://schemas.openxmlformats.org/drawingml/2006/main}p"


def word(path: Path, limits: Limits) -> Iterator[Block]:
    """Paragraphs under their headings, tables row by row, in the order of the document."""
    import docx
    from docx.oxml.ns import qn
    from docx.table import Table
    from docx.text.paragraph import Paragraph

    document = docx.Document(str(path))
    headings: list[str] = []
    for child in document.element.body.iterchildren():
        if child.tag == qn("w:p"):
            paragraph = Paragraph(child, document)
            text = paragraph.text.strip()
            style = (paragraph.style.name or "") if paragraph.style is not None else ""
            level = re.match(r"(?:heading|标题)\s*(\d)", style, re.IGNORECASE)
            if level and text:
                headings = [*headings[: int(level[1]) - 1], text]
            if text:
                yield Block(text, place=headings[-1] if headings else "", heading=" > ".join(headings))
        elif child.tag == qn("w:tbl"):
            cells = 0
            for row in Table(child, document).rows:
                texts = [cell.text.strip() for cell in row.cells]
                cells += len(texts)
                if cells > limits.cells:
                    raise Refused("cells", most=limits.cells)
                text = " | ".join(dict.fromkeys(t for t in texts if t))
                if text:
                    yield Block(text, place=headings[-1] if headings else "", heading=" > ".join(headings))


def excel(path: Path, limits: Limits) -> Iterator[Block]:
    """Rows of every sheet with the names of their columns, some at a time. Values, not formulas."""
    import openpyxl

    book = openpyxl.load_workbook(str(path), read_only=True, data_only=True, keep_links=False)
    cells = 0
    for number, sheet in enumerate(book.worksheets, 1):
        header: list[str] = []
        held: list[str] = []
        first = 0
        for at, row in enumerate(sheet.iter_rows(values_only=True), 1):
            cells += max(1, len(row))
            if cells > limits.cells:
                raise Refused("cells", most=limits.cells)
            values = ["" if value is None else str(value).strip()[:LONGEST_CELL] for value in row]
            if not any(values):
                continue
            if not header:
                header = values
            line = _line(header, values)
            first = first or at
            held.append(line)
            if len(held) == ROWS_TOGETHER:
                yield Block("\n".join(held), f"{sheet.title} {first}-{at}", sheet.title, number, len(book.worksheets))
                held, first = [], 0
        if held:
            yield Block("\n".join(held), f"{sheet.title} {first}-", sheet.title, number, len(book.worksheets))


def _line(header: list[str], values: list[str]) -> str:
    if values is header:
        return " | ".join(v for v in values if v)
    named = [f"{name}: {value}" if name else value for name, value in zip(header, values, strict=False) if value]
    return " | ".join(named + [v for v in values[len(header) :] if v])


def powerpoint(path: Path, limits: Limits) -> Iterator[Block]:
    """Slides in order, a paragraph a line."""
    from defusedxml.ElementTree import fromstring

    with zipfile.ZipFile(path) as archive:
        slides = sorted((int(m[1]), name) for name in archive.namelist() if (m := _SLIDE.search(name)))
        if len(slides) > limits.pages:
            raise Refused("pages", most=limits.pages)
        for place, (number, name) in enumerate(slides, 1):
            root = fromstring(archive.read(name))
            lines = ["".join(t.text or "" for t in p.iter(_TEXT)).strip() for p in root.iter(_PARAGRAPH)]
            text = "\n".join(line for line in lines if line)
            if text:
                yield Block(text, f"slide {number}", lines[0] if lines else "", place, len(slides))
