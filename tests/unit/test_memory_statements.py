"""What a sentence states, and what it must not be taken to state."""

from __future__ import annotations

import pytest

from agent.memory.statements import Statement, read_statement


@pytest.mark.parametrize(
    ("text", "subject", "attribute", "value"),
    [
        ("记住我的生日是5月3日", "self", "birthday", "5月3日"),
        ("我住在北京", "self", "home", "北京"),
        ("我上个月搬到上海了", "self", "home", "上海"),
        ("我在阿里巴巴工作", "self", "work", "阿里巴巴"),
        ("我不再吃辣", "self", "taste:辣", "no"),
        ("我喜欢吃辣", "self", "taste:辣", "yes"),
        ("我戒烟了", "self", "taste:烟", "no"),
        ("研发部小王的电话是123", "研发部小王", "phone", "123"),
        ("销售部的小王的电话是456", "销售部的小王", "phone", "456"),
        ("项目截止日期改到12月5日", "项目", "截止日期", "12月5日"),
        ("我妈妈的生日是6月1日", "我妈妈", "birthday", "6月1日"),
        ("I moved to Paris", "self", "home", "Paris"),
        ("I no longer eat meat", "self", "taste:meat", "no"),
        ("My birthday is May 3", "self", "birthday", "May 3"),
        ("my dog's name is Rex", "my dog", "name", "Rex"),
        ("Actually, my phone number is 123", "self", "phone", "123"),
        ("The launch date is now Dec 5", "the", "launch date", "Dec 5"),
    ],
)
def test_plain_statements(text: str, subject: str, attribute: str, value: str) -> None:
    assert read_statement(text) == Statement(subject, attribute, value)


def test_the_past_is_marked() -> None:
    stated = read_statement("我以前住在北京")
    assert stated is not None
    assert stated.past
    stated = read_statement("I used to live in Oslo")
    assert stated is not None
    assert stated.past


@pytest.mark.parametrize(
    "text",
    [
        "你住在哪里？",
        "我想搬到上海",
        "如果我住在北京就好了",
        "小王说我住在北京",
        "我吃饭了",
        "我明天要开会",
        "今天天气不错",
        "I might move to Paris",
        "Do I live in Berlin?",
        "She said my birthday is May 3",
        "我住在北京。我喜欢吃辣。我在阿里巴巴工作。",
        "我" + "很" * 100 + "喜欢吃辣",
    ],
)
def test_what_is_doubtful_states_nothing(text: str) -> None:
    assert read_statement(text) is None
