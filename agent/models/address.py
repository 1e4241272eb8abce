"""Addresses of model services, completed: people paste a host, a base address or half a path."""

from __future__ import annotations

import re
from urllib.parse import urlsplit, urlunsplit

from storage.errors import Invalid

VERSIONED = re.compile(r"/v\d+[a-z0-9]*$")
BASES = {
    "open.bigmodel.cn": "/api/paas/v4",
    "ark.cn-beijing.volces.com": "/api/v3",
    "dashscope.aliyuncs.com": "/compatible-mode/v1",
    "dashscope-intl.aliyuncs.com": "/compatible-mode/v1",
    "generativelanguage.googleapis.com": "/v1beta/openai",
    "api.groq.com": "/openai/v1",
    "openrouter.ai": "/api/v1",
}
CHAT = "/chat/completions"
MESSAGES = "/messages"


def checked(endpoint: str) -> tuple[str, str, str, str]:
    """Scheme, host with port, path and query of an address that can be used.

    Raises:
        Invalid: `model.endpoint.<why>` at field `endpoint`.
    """
    text = endpoint.strip()
    if not text:
        raise _wrong("empty")
    if "://" not in text:
        local = re.match(r"(localhost|127\.|\[::1\]|10\.|192\.168\.|172\.(1[6-9]|2\d|3[01])\.|[\w.-]+:\d+)", text)
        text = f"{'http' if local else 'https'}://{text}"
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as error:
        raise _wrong("form") from error
    if parts.scheme.lower() not in ("http", "https"):
        raise _wrong("scheme")
    if parts.username is not None or parts.password is not None:
        raise _wrong("credentials")
    if parts.fragment:
        raise _wrong("fragment")
    host = parts.hostname or ""
    if not host or any(ch.isspace() or ord(ch) < 32 or ch in "\\<>\"'`{}|^" for ch in text):
        raise _wrong("form")
    name = f"[{host}]" if ":" in host else host
    return parts.scheme.lower(), f"{name}:{port}" if port else name, parts.path.rstrip("/"), parts.query


def _wrong(why: str) -> Invalid:
    return Invalid(f"model.endpoint.{why}", field="endpoint")


def _joined(endpoint: str, ending: str) -> str:
    """The base address without a known ending, then `ending`."""
    scheme, host, path, query = checked(endpoint)
    for known in (CHAT, MESSAGES, "/chat", "/completions", "/models"):
        if path.endswith(known):
            path = path.removesuffix(known)
            break
    if not path or (path == "/api" and host.endswith(":11434")):
        path = BASES.get(host, "/v1")
    return urlunsplit((scheme, host, path + ending, query, ""))


def chat_url(endpoint: str) -> str:
    """Where an OpenAI-compatible API takes chats.

    `https://h` and `https://h/v1/chat` become `https://h/v1/chat/completions`; a base such as `/api/paas/v4` is kept.
    """
    return _joined(endpoint, CHAT)


def messages_url(endpoint: str) -> str:
    """Where an Anthropic-compatible API takes messages; a base without a version gets `/v1`."""
    scheme, host, path, query = checked(endpoint)
    path = path.removesuffix(MESSAGES)
    if not VERSIONED.search(path):
        path += "/v1"
    return urlunsplit((scheme, host, path + MESSAGES, query, ""))


def models_url(endpoint: str) -> str:
    """Where the same service lists its models."""
    return _joined(endpoint, "/models")


def origin(endpoint: str) -> str:
    """Scheme and host only, e.g. for Ollama's own API."""
    scheme, host, _, _ = checked(endpoint)
    return f"{scheme}://{host}"
