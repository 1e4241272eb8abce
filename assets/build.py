"""Merge the area catalogues of each language into one compiled catalogue: `python -m assets.build [--check]`.

A development step (Babel is a development dependency); the compiled files are committed.
"""

from __future__ import annotations

import io
import sys
from datetime import UTC, datetime
from pathlib import Path

LOCALE = Path(__file__).resolve().parent / "locale"
FIXED = datetime(2026, 1, 1, tzinfo=UTC)  # Babel writes the hour of the build where it is given none


def compiled(lang: str) -> bytes:
    """The compiled catalogue of one language, from all its area files in name order. Deterministic.

    Raises:
        ValueError: an id stands in two areas.
    """
    from babel.messages.catalog import Catalog
    from babel.messages.mofile import write_mo
    from babel.messages.pofile import read_po

    whole = Catalog(locale=lang, creation_date=FIXED, revision_date=FIXED, charset="utf-8", fuzzy=False)
    whole.mime_headers = [("Content-Type", "text/plain; charset=utf-8")]
    owner: dict[str, str] = {}
    for path in sorted((LOCALE / lang).glob("*.po")):
        with path.open("rb") as file:
            for message in read_po(file, locale=lang, charset="utf-8"):
                if not message.id or not message.string:
                    continue
                key = str(message.id)
                if key in owner:
                    raise ValueError(f"{lang}: {key} stands in {owner[key]} and {path.name}")
                owner[key] = path.name
                whole.add(key, string=message.string)
    out = io.BytesIO()
    write_mo(out, whole)
    return out.getvalue()


def main() -> int:
    """Write the catalogues; with --check only compare, and fail on a difference."""
    check, stale = "--check" in sys.argv, 0
    for lang in ("zh_CN", "en"):
        target = LOCALE / lang / "LC_MESSAGES" / "zhixing.mo"
        data = compiled(lang)
        if check:
            if not target.is_file() or target.read_bytes() != data:
                sys.stderr.write(f"{target.relative_to(LOCALE)} is older than its areas: python -m assets.build\n")
                stale += 1
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
