"""Addresses as people paste them."""

from __future__ import annotations

import pytest

from agent.models.address import chat_url, messages_url, models_url, origin
from storage.errors import Invalid

CHAT = {
    "https://api.example.com/v1/chat": "https://api.example.com/v1/chat/completions",
    "https://api.example.com/v1/chat/": "https://api.example.com/v1/chat/completions",
    "https://api.example.com/v1": "https://api.example.com/v1/chat/completions",
    "https://api.example.com/v1/": "https://api.example.com/v1/chat/completions",
    "https://api.example.com": "https://api.example.com/v1/chat/completions",
    "api.example.com": "https://api.example.com/v1/chat/completions",
    " https://api.example.com/v1/chat/completions ": "https://api.example.com/v1/chat/completions",
    "https://open.bigmodel.cn/api/paas/v4": "https://open.bigmodel.cn/api/paas/v4/chat/completions",
    "https://open.bigmodel.cn/api/paas/v4/chat/completions": "https://open.bigmodel.cn/api/paas/v4/chat/completions",
    "https://open.bigmodel.cn": "https://open.bigmodel.cn/api/paas/v4/chat/completions",
    "https://ark.cn-beijing.volces.com/api/v3": "https://ark.cn-beijing.volces.com/api/v3/chat/completions",
    "https://dashscope.aliyuncs.com/compatible-mode/v1/": (
        "https://dashscope.aliyuncs.com/compatible-mode/v1/chat/completions"
    ),
    "HTTPS://API.Example.com/v1": "https://api.example.com/v1/chat/completions",
    "localhost:11434": "http://localhost:11434/v1/chat/completions",
    "http://127.0.0.1:11434/api": "http://127.0.0.1:11434/v1/chat/completions",
    "http://192.168.1.5:8000/v1": "http://192.168.1.5:8000/v1/chat/completions",
    "http://[::1]:8000": "http://[::1]:8000/v1/chat/completions",
    "https://gw.corp/llm": "https://gw.corp/llm/chat/completions",
    "https://gw.corp/openai/deployments/x?api-version=1": (
        "https://gw.corp/openai/deployments/x/chat/completions?api-version=1"
    ),
}
WRONG = {
    "": "empty",
    "ftp://api.example.com/v1": "scheme",
    "file:///etc/passwd": "scheme",
    "https://user:pw@api.example.com/v1": "credentials",
    "https://api.example.com/v1#x": "fragment",
    "https://": "form",
    "https://api.example.com:99999/v1": "form",
    "https://a b.com": "form",
    "http://[::1": "form",
}


@pytest.mark.parametrize(("given", "url"), CHAT.items())
def test_chat_address_is_completed(given: str, url: str) -> None:
    assert chat_url(given) == url
    assert chat_url(url) == url
    assert (
        models_url(given).removesuffix("/models") == url.split("?")[0].removesuffix("/chat/completions") or "?" in url
    )


@pytest.mark.parametrize(("given", "why"), WRONG.items())
def test_unusable_address_is_refused(given: str, why: str) -> None:
    with pytest.raises(Invalid) as caught:
        chat_url(given)
    assert caught.value.code == f"model.endpoint.{why}"
    assert caught.value.field == "endpoint"


def test_messages_address() -> None:
    url = "https://api.anthropic.com/v1/messages"
    assert messages_url("https://api.anthropic.com") == url
    assert messages_url("https://api.anthropic.com/v1/") == url
    assert messages_url(url) == url
    assert messages_url("https://api.deepseek.com/anthropic") == "https://api.deepseek.com/anthropic/v1/messages"


def test_origin() -> None:
    assert origin("localhost:11434/v1") == "http://localhost:11434"
