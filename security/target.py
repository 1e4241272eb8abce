"""Addresses and requests of the egress client: read strictly, written as bytes, carried over a redirect."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, cast

import httpx

from security.ranges import parse
from storage.errors import Invalid
from storage.settings import VERSION

KEPT_ON_REDIRECT = frozenset({"accept", "accept-language", "accept-encoding", "user-agent"})
_AGENT = f"zhixing/{VERSION}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """One parsed address; the same value is checked and connected to, so no second parser can disagree."""

    url: httpx.URL
    tls: bool
    host: str
    port: int
    path: bytes
    header: bytes


@lru_cache(maxsize=256)
def read_url(text: str) -> Target:
    """Parse an address strictly.

    Raises:
        Invalid: `egress.url`.
    """
    if len(text) > 8192 or any(ch in "\\" or ord(ch) <= 32 or ord(ch) == 127 for ch in text):
        raise Invalid("egress.url")
    try:
        url = httpx.URL(text)
        host, port = url.raw_host.decode("ascii").lower().rstrip("."), url.port
    except (httpx.InvalidURL, UnicodeError, ValueError) as error:
        raise Invalid("egress.url") from error
    if url.scheme not in ("http", "https") or not host or url.userinfo or "%" in host:
        raise Invalid("egress.url")
    if port is not None and not 0 < port < 65536:
        raise Invalid("egress.url")
    last = host.rpartition(".")[2]
    if (last.isdigit() or last.startswith("0x")) and parse(host) is None:
        raise Invalid("egress.url")  # 2130706433, 0x7f.1, 127.1: numbers that only some readers take for addresses
    tls = url.scheme == "https"
    return Target(
        url=url,
        tls=tls,
        host=host,
        port=port or (443 if tls else 80),
        path=url.raw_path,
        header=url.netloc.rpartition(b"@")[2],
    )


def build(
    method: str,
    url: str,
    headers: Mapping[str, str] | None,
    *,
    content: bytes | None = None,
    json: object = None,
    files: Mapping[str, object] | None = None,
    data: Mapping[str, str] | None = None,
) -> httpx.Request:
    target = read_url(url)
    all_headers = httpx.Headers({"Accept": "*/*", "Accept-Encoding": "identity", "User-Agent": _AGENT})
    all_headers.update(dict(headers or {}))
    request = httpx.Request(
        method.upper(),
        target.url,
        headers=all_headers,
        content=content,
        json=json,
        files=cast(Any, files),
        data=data,
    )
    request.read()
    return request


def head_of(method: str, target: Target, request: httpx.Request) -> bytes:
    """The request line and headers as bytes.

    Raises:
        Invalid: `egress.header` where a value would end its line.
    """
    if not method.isalpha():
        raise Invalid("egress.url")
    lines = [method.encode() + b" " + target.path + b" HTTP/1.1", b"Host: " + target.header]
    for name, value in request.headers.raw:
        if name.lower() in (b"host", b"transfer-encoding", b"connection"):
            continue
        if any(bad in name + value for bad in (b"\r", b"\n", b"\0")):
            raise Invalid("egress.header", name=name.decode("latin-1"))
        lines.append(name + b": " + value)
    return b"\r\n".join(lines) + b"\r\n\r\n"


def redirected(request: httpx.Request, answer: httpx.Response) -> httpx.Request:
    """The request to follow a redirect with. Elsewhere nothing goes along that could be a secret."""
    try:
        url = request.url.join(answer.headers["location"])
    except (httpx.InvalidURL, UnicodeError, ValueError) as error:
        raise Invalid("egress.url") from error
    target = read_url(str(url))
    before = read_url(str(request.url))
    same = (target.tls, target.host, target.port) == (before.tls, before.host, before.port)
    headers = {k: v for k, v in request.headers.items() if same or k.lower() in KEPT_ON_REDIRECT}
    for name in ("host", "content-length"):
        headers.pop(name, None)
    method, content = request.method, request.content
    if answer.status_code == 303 or (answer.status_code in (301, 302) and method == "POST"):
        method, content = ("HEAD" if method == "HEAD" else "GET"), b""
        headers.pop("content-type", None)
    elif not same:
        content = b""
    follow = httpx.Request(method, target.url, headers=headers, content=content or None)
    follow.read()
    return follow
