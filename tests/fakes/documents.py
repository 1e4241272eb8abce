"""Small documents of every kind, good and hostile, made in memory."""

from __future__ import annotations

import io
import zipfile
import zlib

CONTENT_TYPES = '<?xml version="1.0"?><Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types"/>'
A = 'xmlns:a="http://schemas.openxmlformats.org/drawingml/2006/main"'
BOMB = (
    '<?xml version="1.0"?><!DOCTYPE z [<!ENTITY a "aaaaaaaaaa">'
    + "".join(f'<!ENTITY {chr(98 + i)} "{f"&{chr(97 + i)};" * 10}">' for i in range(9))
    + "]>"
)


def pdf(pages: list[str], *, kids: str = "", stream: bytes = b"", more: str = "") -> bytes:
    """A PDF of plain pages. `kids` replaces the page tree's children, `stream` the first page's content."""
    objects = [b"<< /Type /Catalog /Pages 2 0 R >>", b""]
    numbers = []
    for n, text in enumerate(pages):
        body = stream if stream and n == 0 else f"BT /F1 12 Tf 50 700 Td ({text}) Tj ET".encode()
        head = b"<< /Filter /FlateDecode " if stream and n == 0 else b"<< "
        content = len(objects) + 1
        objects.append(head + f"/Length {len(body)} >>\nstream\n".encode() + body + b"\nendstream")
        numbers.append(len(objects) + 1)
        font = "<< /Font << /F1 << /Type /Font /Subtype /Type1 /BaseFont /Helvetica >> >> >>"
        page = f"/Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents {content} 0 R /Resources {font}"
        objects.append(f"<< {page} >>".encode())
    children = kids or " ".join(f"{n} 0 R" for n in numbers)
    objects[1] = f"<< /Type /Pages /Kids [{children}] /Count {len(pages)} >>".encode()
    out = bytearray(b"%PDF-1.4\n")
    places = []
    for n, data in enumerate(objects, 1):
        places.append(len(out))
        out += f"{n} 0 obj\n".encode() + data + b"\nendobj\n"
    start = len(out)
    out += f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n".encode()
    for place in places:
        out += f"{place:010} 00000 n \n".encode()
    out += f"trailer << /Size {len(objects) + 1} /Root 1 0 R {more}>>\nstartxref\n{start}\n%%EOF".encode()
    return bytes(out)


def word(paragraphs: list[tuple[str, str]], rows: list[list[str]] | None = None) -> bytes:
    """A Word file of (style, text) paragraphs and a table."""
    import docx

    document = docx.Document()
    for style, text in paragraphs:
        document.add_paragraph(text, style=style or None)
    if rows:
        table = document.add_table(len(rows), len(rows[0]))
        for i, row in enumerate(rows):
            for j, text in enumerate(row):
                table.cell(i, j).text = text
    out = io.BytesIO()
    document.save(out)
    return out.getvalue()


def excel(sheets: dict[str, list[list[object]]]) -> bytes:
    """An Excel file."""
    import openpyxl

    book = openpyxl.Workbook(write_only=True)
    for name, rows in sheets.items():
        sheet = book.create_sheet(name)
        for row in rows:
            sheet.append(row)
    out = io.BytesIO()
    book.save(out)
    return out.getvalue()


def archive(members: dict[str, bytes | str], *, level: int = 9) -> bytes:
    """A zip of these members."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=level) as made:
        for name, data in members.items():
            made.writestr(name, data)
    return out.getvalue()


def powerpoint(slides: list[list[str]], *, head: str = '<?xml version="1.0"?>', end: str = "") -> bytes:
    """A PowerPoint file, as far as its text goes."""
    members: dict[str, bytes | str] = {"[Content_Types].xml": CONTENT_TYPES, "ppt/presentation.xml": "<p/>"}
    for n, lines in enumerate(slides, 1):
        text = "".join(f"<a:p><a:r><a:t>{line}</a:t></a:r></a:p>" for line in lines)
        members[f"ppt/slides/slide{n}.xml"] = f"{head}<p:sld xmlns:p='p' {A}>{text}{end}</p:sld>"
    return archive(members)


def hostile() -> dict[str, bytes]:
    """Files that want to do harm, by name."""
    page = {"[Content_Types].xml": CONTENT_TYPES}
    with_macro = {**page, "word/document.xml": "<w/>", "word/vbaProject.bin": b"x"}
    relations = (
        '<?xml version="1.0"?><Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">'
        '<Relationship Id="r" '
        'Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/officeDocument" '
        'Target="word/document.xml"/></Relationships>'
    )
    types = CONTENT_TYPES.replace(
        "/>",
        '><Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
        '<Override PartName="/word/document.xml" ContentType="application/vnd.openxmlformats-officedocument.'
        'wordprocessingml.document.main+xml"/></Types>',
    )
    entity_word = {
        "[Content_Types].xml": types,
        "_rels/.rels": relations,
        "word/document.xml": BOMB
        + '<w:document xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"><w:body><w:p><w:r>'
        "<w:t>&j;</w:t></w:r></w:p></w:body></w:document>",
    }
    outside = '<?xml version="1.0"?><!DOCTYPE z [<!ENTITY x SYSTEM "file:///etc/passwd">]>'
    return {
        "bomb.docx": archive({**page, "word/document.xml": b"0" * 250_000_000}),
        "many.docx": archive({**page, "word/document.xml": "<w/>", **{f"m{n}": b"" for n in range(4000)}}, level=1),
        "huge.xlsx": archive({**page, "xl/workbook.xml": "<w/>", "xl/s.xml": b"<c/>" * 80_000_000}, level=1),
        "cells.csv": b"a,b,c,d,e,f,g,h,i,j\n" + b"1,2,3,4,5,6,7,8,9,0\n" * 100_000,
        "entities.docx": archive(entity_word),
        "entities.pptx": powerpoint([["hello"]], head=BOMB, end="<a:p><a:r><a:t>&j;</a:t></a:r></a:p>"),
        "outside.pptx": powerpoint([["hello"]], head=outside, end="<a:p><a:r><a:t>&x;</a:t></a:r></a:p>"),
        "tree.pdf": pdf(["one"], kids="2 0 R 2 0 R"),
        "stream.pdf": pdf(["one"], stream=zlib.compress(b"BT (a) Tj ET " * 60_000_000, 9)),
        "macro.docx": archive(with_macro),
        "program.pdf": b"MZ\x90\x00" + bytes(5000),
        "page.txt": pdf(["one"]),
        "old.docx": b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(5000),
        "cut.docx": word([("", "hello")])[:2000],
        "deep.html": b"<div>" * 300_000 + b"text" + b"</div>" * 300_000,
        "zeros.txt": bytes(100_000),
        "empty.md": b"",
        "line.txt": b"x" * 20_000_000,
        "program.exe": b"MZ\x90\x00",
    }
