"""AWS Signature Version 4, as all S3-compatible stores take it. Pure.

Source: Amazon S3 API reference, "Signature Calculations for the Authorization Header" (single chunk).
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from urllib.parse import quote, urlsplit

ALGORITHM = "AWS4-HMAC-SHA256"


@dataclass(frozen=True, kw_only=True, slots=True)
class Credentials:
    """Who asks, and where."""

    access_key: str
    secret_key: str = field(repr=False)
    region: str


def sign(
    credentials: Credentials,
    method: str,
    url: str,
    *,
    query: Mapping[str, str] | None = None,
    headers: Mapping[str, str] | None = None,
    body: bytes = b"",
    now: datetime,
) -> tuple[str, dict[str, str]]:
    """The address with its query, and the headers to send.

    Args:
        url: without a query; its path may hold anything, it is encoded here.
        headers: further ones, signed too.
        now: in UTC; a server refuses what is more than 15 minutes away.
    """
    parts = urlsplit(url)
    path = quote(parts.path or "/", safe="/-_.~")
    params = "&".join(f"{_quoted(k)}={_quoted(v)}" for k, v in sorted((query or {}).items()))
    digest = hashlib.sha256(body).hexdigest()
    stamp = now.strftime("%Y%m%dT%H%M%SZ")
    sent = {
        **{k.lower(): v.strip() for k, v in (headers or {}).items()},
        "host": parts.netloc,
        "x-amz-content-sha256": digest,
        "x-amz-date": stamp,
    }
    names = ";".join(sorted(sent))
    canonical = "\n".join([method, path, params, *(f"{name}:{sent[name]}" for name in sorted(sent)), "", names, digest])
    scope = f"{stamp[:8]}/{credentials.region}/s3/aws4_request"
    text = "\n".join([ALGORITHM, stamp, scope, hashlib.sha256(canonical.encode()).hexdigest()])
    key = b"AWS4" + credentials.secret_key.encode()
    for part in (stamp[:8], credentials.region, "s3", "aws4_request", text):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    sent["authorization"] = (
        f"{ALGORITHM} Credential={credentials.access_key}/{scope}, SignedHeaders={names}, Signature={key.hex()}"
    )
    address = f"{parts.scheme}://{parts.netloc}{path}" + (f"?{params}" if params else "")
    return address, {k: v for k, v in sent.items() if k != "host"}


def _quoted(text: str) -> str:
    return quote(text, safe="-_.~")
