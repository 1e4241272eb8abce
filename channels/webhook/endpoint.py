"""Whose address an endpoint is, and the secret that some addresses carry. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit

from storage.errors import Invalid

# whose address it is: by host and start of the path, and the name of the secret in its query
VENDORS = (
    ("dingtalk", ("oapi.dingtalk.com", "oapi.dingtalk.io"), "/robot/send", "access_token"),
    ("feishu", ("open.feishu.cn", "open.larksuite.com"), "/open-apis/bot/v2/hook", ""),
    ("wecom", ("qyapi.weixin.qq.com",), "/cgi-bin/webhook/send", "key"),
)
LOOPBACK = ("127.0.0.1", "localhost", "::1")
LONGEST = 2048


@dataclass(frozen=True, kw_only=True, slots=True)
class Endpoint:
    """An address taken apart.

    Attributes:
        vendor: `dingtalk`, `feishu`, `wecom`, or `other`.
        bare: the address without the secret.
        token: the secret that stood in it, or empty.
    """

    vendor: str
    bare: str
    token: str = field(default="", repr=False)


def read(text: str, *, local: bool = False) -> Endpoint:
    """Take an address apart.

    Args:
        local: tests only: a vendor's path on loopback counts as the vendor's.

    Raises:
        Invalid: `webhook.endpoint`.
    """
    text = text.strip()
    if not text or len(text) > LONGEST or not text.isascii() or any(c in text for c in " \\\r\n\t"):
        raise Invalid("webhook.endpoint", field="endpoint")
    try:
        parts = urlsplit(text)
        host, _ = (parts.hostname or "").lower(), parts.port
    except ValueError as error:
        raise Invalid("webhook.endpoint", field="endpoint") from error
    if parts.scheme not in ("http", "https") or not host or "@" in parts.netloc or parts.fragment:
        raise Invalid("webhook.endpoint", field="endpoint")
    for vendor, hosts, path, name in VENDORS:
        theirs = host in hosts or (local and host in LOOPBACK)
        if not theirs or not (parts.path == path or parts.path.startswith(f"{path}/")):
            continue
        if parts.scheme != "https" and not local:
            raise Invalid("webhook.endpoint_plain", field="endpoint")
        origin = f"{parts.scheme}://{parts.netloc.lower()}{path}"
        if name:
            return Endpoint(vendor=vendor, bare=origin, token=parse_qs(parts.query).get(name, [""])[0])
        return Endpoint(vendor=vendor, bare=origin, token=parts.path.removeprefix(path).strip("/"))
    return Endpoint(vendor="other", bare=text)
