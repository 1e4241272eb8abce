"""What leaves for DingTalk: forms, line breaks, buttons, limits, and the reading of refusals."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from channels.dingtalk.faults import fault, scopes, security_code
from channels.dingtalk.render import MOST_BYTES, markdown, render, robot_body, split, title_of
from storage.envelope import Button, Outgoing
from storage.errors import OutcomeUnknown, Rejected, Throttled, Unavailable


def answer(text: str, **more: object) -> Outgoing:
    return Outgoing(kind="answer", text=text, **more)  # type: ignore[arg-type]


def test_an_answer_is_markdown_with_a_title() -> None:
    made = render(answer("## 天气\n今天**晴**"))
    assert made.key == "sampleMarkdown"
    assert json.loads(made.param) == {"title": "天气", "text": "## 天气\n今天**晴**"}


def test_a_button_says_what_decides_in_the_persons_name() -> None:
    made = render(answer("x", buttons=(Button(label="同意", value="approval:1:yes", say="同意 A2B3"),)))
    assert json.loads(made.param)["singleURL"].endswith("sendMessage?content=%E5%90%8C%E6%84%8F%20A2B3")


def test_a_short_notice_is_plain_text() -> None:
    assert render(Outgoing(kind="notice", text="已停止")).key == "sampleText"
    assert render(Outgoing(kind="notice", text="**已停止**")).key == "sampleMarkdown"


def test_single_line_breaks_survive() -> None:
    assert markdown("a\nb\n\nc\n- d\n- e\n# f\ng") == "a  \nb\n\nc\n- d\n- e\n# f\ng"
    code = "```py\na = 1\nb = 2\n```"
    assert markdown(code) == code


def test_images_from_elsewhere_become_links_except_in_code() -> None:
    assert markdown("![x](https://evil/?q=secret)") == "[x](https://evil/?q=secret)"
    assert markdown("`a`\n```\n![x](y)\n```") == "`a`  \n```\n![x](y)\n```"


def test_buttons() -> None:
    one = render(answer("好吗？", buttons=(Button(label="打开", url="https://x.example/"),)))
    assert (one.key, json.loads(one.param)["singleURL"]) == ("sampleActionCard", "https://x.example/")
    two = render(answer("好吗？", buttons=(Button(label="同意", value="y"), Button(label="拒绝", value="n"))))
    assert two.key == "sampleActionCard2"
    assert json.loads(two.param)["actionURL1"] == "dtmd://dingtalkclient/sendMessage?content=%E5%90%8C%E6%84%8F"


def test_a_group_robots_message_tells_people() -> None:
    body = robot_body(Outgoing(kind="push", text="done", title="日报", mentions=("staff1", "all")))
    assert body["at"] == {"atUserIds": ["staff1"], "isAtAll": True}
    assert "@staff1" in json.dumps(body["markdown"])
    card = robot_body(answer("x", buttons=(Button(label="a", url="https://a/"), Button(label="b", url="https://b/"))))
    assert card["msgtype"] == "actionCard"


def test_a_long_answer_is_split_with_buttons_last_and_files_apart() -> None:
    out = answer("段落。\n\n" * 3000, buttons=(Button(label="a", value="a"),), files=("a.pdf", "b.png"))
    made = split(out)
    texts = [m for m in made if m.text]
    assert len(texts) > 2
    assert [bool(m.buttons) for m in texts] == [False] * (len(texts) - 1) + [True]
    assert [m.files for m in made[-2:]] == [("a.pdf",), ("b.png",)]
    assert split(answer("short"))[0].text == "short"


@settings(max_examples=80, deadline=None)
@given(st.text(alphabet=st.sampled_from('长文a "\\\n`#|🙂'), max_size=3000), st.integers(1, 12))
def test_no_piece_is_over_the_vendors_limit(text: str, times: int) -> None:
    for piece in split(answer(text * times)):
        assert len(render(piece).param.encode()) <= MOST_BYTES
        assert len(piece.text) <= 3800


def test_a_title_is_never_empty() -> None:
    assert title_of(answer("```\n```")) == "…"
    assert title_of(answer("", title="T")) == "T"


@pytest.mark.parametrize(
    ("status", "code", "kind", "ours"),
    [
        (403, "Forbidden.AccessDenied.QpsLimitForAppkeyAndApi", Throttled, "dingtalk.too_fast"),
        (429, "", Throttled, "dingtalk.too_fast"),
        (200, "130101", Throttled, "dingtalk.too_fast"),
        (400, "invalidClientIdOrSecret", Rejected, "dingtalk.credentials"),
        (401, "authFailed", Rejected, "dingtalk.credentials"),
        (403, "Forbidden.AccessDenied.AccessTokenPermissionDenied", Rejected, "dingtalk.scope"),
        (403, "Forbidden.AccessDenied.IpNotInWhiteList", Rejected, "dingtalk.ip"),
        (400, "invalidParameter.robotCode.notExsit", Rejected, "dingtalk.robot_code"),
        (400, "invalidParameter.userIds.invalid", Rejected, "dingtalk.person"),
        (400, "invalidParameter.openConversationId.invalid", Rejected, "dingtalk.group"),
        (400, "invalidParameter.msgParam.invalid", Rejected, "dingtalk.content"),
        (200, "300001", Rejected, "dingtalk.session_expired"),
        (200, "460101", Rejected, "dingtalk.too_long"),
        (400, "somethingNew", Rejected, "dingtalk.refused"),
        (200, "4000", Rejected, "dingtalk.refused"),
        (500, "systemError", Unavailable, "dingtalk.busy"),
        (502, "", Unavailable, "dingtalk.busy"),
        (200, "", Unavailable, "dingtalk.busy"),
        (200, "-1", Unavailable, "dingtalk.busy"),
        (504, "", OutcomeUnknown, "dingtalk.no_answer"),
    ],
)
def test_the_vendors_errors_are_typed(status: int, code: str, kind: type[Exception], ours: str) -> None:
    error = fault(status, code, "words")
    assert isinstance(error, kind)
    assert error.code == ours


@pytest.mark.parametrize(
    ("words", "ours"),
    [
        ("keywords not in content", "dingtalk.keyword"),
        ("关键词不匹配", "dingtalk.keyword"),
        ("sign not match", "dingtalk.robot_sign"),
        ("签名不匹配", "dingtalk.robot_sign"),
        ("invalid timestamp", "dingtalk.clock"),
        ("ip 1.2.3.4 not in whitelist", "dingtalk.robot_ip"),
    ],
)
def test_the_three_protections_are_told_apart(words: str, ours: str) -> None:
    assert security_code(words) == ours
    assert fault(200, "310000", words).code == ours


def test_scope_names_are_read_with_care() -> None:
    assert scopes({"requiredScopes": ["a", "b"]}) == "a, b"
    assert scopes({"requiredScopes": "a"}) == scopes(None) == scopes([1]) == ""
