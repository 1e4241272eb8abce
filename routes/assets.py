"""The panel's own static files: read once, compressed once, addressed by their content's hash."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

PREFIX = "/assets/"
_TYPES = {".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}
_FOREVER = "public, max-age=31536000, immutable"


@dataclass(frozen=True, kw_only=True, slots=True)
class Asset:
    """One file in memory."""

    body: bytes
    zipped: bytes
    kind: str
    digest: str


class Assets:
    """Serves `/assets/<name>`; anonymous, as the login page needs its style too.

    `assets/css/*.css` and `assets/js/*.js` by their file names, `icons.css` made from `assets/icons/*.svg`
    (a class `ic-<name>` for each), `favicon.svg`.
    """

    def __init__(self, folder: Path) -> None:
        self._files: dict[str, Asset] = {}
        for path in sorted([*(folder / "css").glob("*.css"), *(folder / "js").glob("*.js")]):
            self._add(path.name, path.read_bytes())
        self._add("icons.css", _icon_sheet(folder / "icons").encode())
        self._add("favicon.svg", (folder / "icons" / "favicon.svg").read_bytes())

    def _add(self, name: str, body: bytes) -> None:
        kind = _TYPES[Path(name).suffix]
        digest = hashlib.sha256(body).hexdigest()[:12]
        self._files[name] = Asset(body=body, zipped=gzip.compress(body, 9, mtime=0), kind=kind, digest=digest)

    def has(self, name: str) -> bool:
        """True if there is such a file."""
        return name in self._files

    def url(self, name: str) -> str:
        """The address of a file, with its content's hash, so that it may be cached for ever."""
        return f"{PREFIX}{name}?v={self._files[name].digest}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer GET and HEAD; anything else is not here."""
        name = str(scope["path"]).removeprefix(PREFIX)
        asset = self._files.get(name)
        if asset is None or scope["method"] not in ("GET", "HEAD"):
            await Response("", 404)(scope, receive, send)
            return
        await _answer(asset, dict(scope["headers"]), scope)(scope, receive, send)


def _answer(asset: Asset, headers: Mapping[bytes, bytes], scope: Scope) -> Response:
    etag = f'"{asset.digest}"'
    fresh = asset.digest.encode() in scope.get("query_string", b"")
    out = {
        "etag": etag,
        "vary": "accept-encoding",
        "x-content-type-options": "nosniff",
        "cache-control": _FOREVER if fresh else "no-cache",
    }
    if headers.get(b"if-none-match", b"").decode("latin-1") == etag:
        return Response(status_code=304, headers=out)
    body = asset.body
    if b"gzip" in headers.get(b"accept-encoding", b""):
        body, out["content-encoding"] = asset.zipped, "gzip"
    return Response(body, headers=out, media_type=asset.kind)


def _icon_sheet(folder: Path) -> str:
    rows = []
    for path in sorted(folder.glob("*.svg")):
        picture = quote(path.read_text(encoding="utf-8").strip(), safe=" =:/'(),;")
        rows.append(f'.ic-{path.stem}{{--ic:url("data:image/svg+xml,{picture}")}}')
    return "\n".join(rows)
