"""Pasted addresses: whose they are, and the secret in them."""

from __future__ import annotations

import pytest

from channels.webhook.endpoint import read
from storage.errors import Invalid

DING = "https://oapi.dingtalk.com/robot/send"
LARK = "https://open.feishu.cn/open-apis/bot/v2/hook"
WECOM = "https://qyapi.weixin.qq.com/cgi-bin/webhook/send"


@pytest.mark.parametrize(
    ("text", "vendor", "bare", "token"),
    [
        (DING, "dingtalk", DING, ""),
        (f" {DING}?access_token=abc ", "dingtalk", DING, "abc"),
        (f"{DING}?access_token=abc&timestamp=1&sign=x", "dingtalk", DING, "abc"),
        (f"{LARK}/abc-def", "feishu", LARK, "abc-def"),
        (f"{LARK}/abc/", "feishu", LARK, "abc"),
        (LARK, "feishu", LARK, ""),
        (f"{WECOM}?key=k", "wecom", WECOM, "k"),
        ("https://oapi.dingtalk.com.evil/robot/send?access_token=a", "other", None, ""),
        ("https://ops.example/hook?x=1", "other", None, ""),
        ("http://10.0.0.5:8080/in", "other", None, ""),
        ("http://127.0.0.1:1/robot/send?access_token=a", "other", None, ""),
    ],
)
def test_endpoints_are_told_apart(text: str, vendor: str, bare: str | None, token: str) -> None:
    found = read(text)
    assert (found.vendor, found.bare, found.token) == (vendor, bare or text, token)


def test_on_loopback_a_path_is_the_vendors_in_tests_only() -> None:
    assert read("http://127.0.0.1:1/robot/send?access_token=a", local=True).vendor == "dingtalk"
    assert read("http://10.0.0.1:1/robot/send?access_token=a", local=True).vendor == "other"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ftp://x/",
        "https://",
        "https://u:p@oapi.dingtalk.com/robot/send",
        "https://x/#a",
        "https://x:99999/",
        "https://[::1/",
        "https://x/ y",
        "https://例子/",
        "https://x/" + "a" * 3000,
        "http://oapi.dingtalk.com/robot/send?access_token=a",
        "x",
    ],
)
def test_what_is_no_endpoint_is_refused(text: str) -> None:
    with pytest.raises(Invalid) as error:
        read(text)
    assert error.value.field == "endpoint"
