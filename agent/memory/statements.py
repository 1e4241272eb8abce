"""What a sentence states about whom: (subject, attribute), so that a newer statement takes the older one's place.

Only plain, short, first-hand statements are read; what is doubtful is kept as it was said and replaces nothing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

LONGEST = 80
SELF = "self"

_LEAD = re.compile(
    r"^(?:(?:记住|记一下|记下|请记住|帮我记住?|其实|不对|不是|对了|哦|嗯|顺便说一下|更正一下?|现在|从现在起|最近|目前"
    r"|please remember(?: that)?|remember(?: that)?|actually|no|well|by the way|also|now|note(?: that)?|so)"
    r"[，,、:：.!！\s]*)+",
    re.IGNORECASE,
)
_DOUBT = re.compile(
    r"如果|假如|要是|假设|据说|听说|好像|可能|也许|打算|准备|想要?|希望|应该|觉得|认为|他说|她说|说我|吗|呢$|是不是|以为"
    r"|\b(?:if|maybe|perhaps|might|would|could|should|want|plan|hope|wish|suppose|imagine|said|says|think|heard)\b",
    re.IGNORECASE,
)
_PAST = re.compile(r"以前|曾经|过去|小时候|当年|那时|\b(?:used to|once|formerly|back then|as a child)\b", re.IGNORECASE)
_ASKS = re.compile(r"[?？]")

_NAMES_TEXT = """
birthday 生日 出生日期 birthday|phone 电话 手机 手机号 电话号码 手机号码 phone number|email 邮箱 邮件地址 电子邮件 email
home 住址 地址 家 address home|work 公司 单位 company employer|job 工作 职业 职位 job|name 名字 姓名 name|age 年龄 age
"""
_NAMES = {word: line.split()[0] for line in re.split(r"[|\n]", _NAMES_TEXT.strip()) for word in line.split()[1:]}
_NAMES |= {"phone number": "phone", "email address": "email", "home address": "home"}
_NEGATED = re.compile(
    r"不|没|戒|讨厌|别|怕|过敏"
    r"|\b(?:not|no longer|never|stopped|quit|hate|hating|dislike|can't|cannot|don't|allergic)\b",
    re.IGNORECASE,
)
_WHEN = r"(?:现在|目前|已经|刚刚?|最近|今年|去年|前年|上个?月|上周|昨天|今天|\d{1,2}月(?:份|初|底)?|\d{4}年)*"

# (pattern, attribute or "" for the group `a`); the subject is the group `s`, or the speaker
_RULES: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(rf"^我(?:们家|家)?{_WHEN}(?:住在|住到|住进了?|搬家?到了?|搬去了?|搬回了?|定居在?)(?P<v>.+)$"), "home"),
    (re.compile(rf"^我{_WHEN}在(?P<v>.+?)(?:工作|上班|任职)(?:了)?$"), "work"),
    (re.compile(rf"^我{_WHEN}(?:入职了?|跳槽到了?|加入了|换到了?|调到了?)(?P<v>.+)$"), "work"),
    (re.compile(rf"^我{_WHEN}(?P<v>\d{{1,3}})岁了?$"), "age"),
    (re.compile(r"^我(?:叫|的名字叫)(?P<v>.{1,20})$"), "name"),
    (re.compile(r"^我对(?P<v>.+?)(?:不)?过敏了?$"), "taste"),
    (
        re.compile(
            rf"^我{_WHEN}(?:也|就|很|最|特别|非常|比较|一直|还是|都|再也|已经|从来|现在|不再|不太|不怎么|不那么|不|又|开始)*"
            r"(?:喜欢|爱|讨厌|偏爱|怕)(?:上了?)?(?:吃|喝|抽|用|听|看|玩)?(?P<v>.{1,10}?)了?$"
        ),
        "taste",
    ),
    (
        re.compile(
            rf"^我{_WHEN}(?:也|还|一直|经常|平时|每天)*(?:抽|吸|喝|吃)(?P<v>[^了过着完个一两几杯顿饭药]{{1,4}})$"
        ),
        "taste",
    ),
    (
        re.compile(
            rf"^我{_WHEN}(?:也|就|已经|现在|再也|从来)*(?:不再|不能再?|不可以|不|没再|戒掉?了?|开始|又开始|不敢)"
            r"(?:能|会|碰)?(?:吃|喝|抽|玩)?(?P<v>[^吃喝抽玩在是有去来到叫把被给对的知想要觉得明]{1,6})了?$"
        ),
        "taste",
    ),
    (
        re.compile(
            r"^(?P<s>我|我们|(?:[^\s，,的]{1,8}的)?[^\s，,的]{1,12}?)(?:新)?的(?:新)?(?P<a>[^\s，,是的]{1,8}?)(?:现在|已经|应该)?"
            r"(?:是|叫|为|改成|改为|改到|改在|变成|换成|定在|推迟到|提前到)(?:了)?(?P<v>.+)$"
        ),
        "",
    ),
    (
        re.compile(
            r"^(?P<s>[^\s，,我你他她的]{1,12}?)(?P<a>截止日期|截止日|日期|时间|地点|价格|预算|负责人|版本号?|电话|邮箱|地址|密码提示)"
            r"(?:现在|已经)?(?:是|为|改成|改为|改到|改在|变成|换成|定在|推迟到|提前到)(?:了)?(?P<v>.+)$"
        ),
        "",
    ),
    (
        re.compile(
            r"^i(?: have|'ve| just| recently| now)*(?:'m| am)?(?: now| currently| just)?"
            r" (?:live|living|moved|relocated)(?: back)? (?:in|to|at)\s+(?P<v>.+)$",
            re.IGNORECASE,
        ),
        "home",
    ),
    (
        re.compile(
            r"^i(?:'m| am| have| 've)?(?: now| currently| just| recently)?"
            r" (?:work|working|joined|moved on to)(?: at| for| with)?\s+(?P<v>.+)$",
            re.IGNORECASE,
        ),
        "work",
    ),
    (re.compile(r"^i(?:'m| am)(?: now)? (?P<v>\d{1,3})(?: years old)?$", re.IGNORECASE), "age"),
    (re.compile(r"^i(?:'m| am) called (?P<v>.{1,30})$", re.IGNORECASE), "name"),
    (re.compile(r"^i(?:'m| am)(?: not| no longer)? allergic to (?P<v>.+)$", re.IGNORECASE), "taste"),
    (
        re.compile(
            r"^i(?: really| do| also| still| now)*"
            r"(?: don't| do not| no longer| never| stopped| quit| started| can't| cannot)*(?: really)?"
            r" (?:lik(?:e|ing)|lov(?:e|ing)|hat(?:e|ing)|enjoy(?:ing)?|prefer|dislike|eat(?:ing)?|drink(?:ing)?"
            r"|smok(?:e|ing))"
            r"(?: eating| drinking)?\s+(?P<v>[\w' -]{1,30}?)(?: any ?more| any longer| now)?$",
            re.IGNORECASE,
        ),
        "taste",
    ),
    (
        re.compile(
            r"^(?P<s>my [\w -]{1,20}?'s|my|our|the [\w -]{1,30}?'s|[\w-]{2,20}'s)(?: new)? (?P<a>[\w -]{2,30}?)"
            r"(?: is now| is| was changed to| changed to| has moved to| moved to| will be)\s+(?P<v>.+)$",
            re.IGNORECASE,
        ),
        "",
    ),
    (
        re.compile(
            r"^(?P<s>the) (?P<a>[\w -]{2,30}?)"
            r"(?: is now| was changed to| changed to| has moved to| moved to)\s+(?P<v>.+)$",
            re.IGNORECASE,
        ),
        "",
    ),
)


# words by which a question asks for what a statement says in others ("where do I live", "我搬到上海了")
_ASKED = {
    "home": re.compile(r"住|搬|家在|\b(?:live|living|home|address|move[ds]?)\b", re.IGNORECASE),
    "work": re.compile(r"公司|单位|上班|工作|跳槽|\b(?:work|works|working|company|employer|job)\b", re.IGNORECASE),
    "age": re.compile(r"多大|几岁|年龄|\bhow old\b|\bage\b", re.IGNORECASE),
    "birthday": re.compile(r"生日|\bbirthday\b|\bborn\b", re.IGNORECASE),
    "phone": re.compile(r"电话|手机|\bphone\b", re.IGNORECASE),
    "email": re.compile(r"邮箱|\be-?mail\b", re.IGNORECASE),
    "name": re.compile(r"叫什么|名字|我是谁|\b(?:my|his|her) name\b|\bwho am i\b|\bcalled\b", re.IGNORECASE),
}


@dataclass(frozen=True, slots=True)
class Statement:
    """`subject` is `self` for the speaker. `past` says that it no longer held when it was said."""

    subject: str
    attribute: str
    value: str
    past: bool = False


def attribute_terms(attribute: str) -> list[str]:
    """Words under which a statement about this is found."""
    return [f"@{attribute}"] if attribute in _ASKED else []


def asked_terms(query: str) -> list[str]:
    """The same words for what a question asks about."""
    return [f"@{name}" for name, asks in _ASKED.items() if asks.search(query)]


def read_statement(text: str) -> Statement | None:
    """The one thing that a text states, or None."""
    plain = " ".join(text.split())
    if len(plain) > LONGEST or _ASKS.search(plain):
        return None
    clauses = [c for c in re.split(r"[。！!;；\n]|\.(?:\s|$)", plain) if c.strip()]
    if len(clauses) != 1:
        return None
    clause = _LEAD.sub("", clauses[0].strip()).strip(" ，,~～啦哦呀")
    past = _PAST.search(clause) is not None
    if past:
        clause = _PAST.sub("", clause).strip()
        clause = re.sub(r"^i\s+(live|work|like)", r"I \1", clause, flags=re.IGNORECASE)
    if _DOUBT.search(clause):
        return None
    for pattern, attribute in _RULES:
        found = pattern.match(clause)
        if found is None:
            continue
        groups = found.groupdict()
        value = groups["v"].strip(" ，,。.的了")
        if not value:
            return None
        subject = _subject(groups.get("s"))
        name = attribute or attribute_name(groups["a"])
        if attribute == "taste":
            name, value = f"taste:{_core(value)}", "no" if _NEGATED.search(clause) else "yes"
        return Statement(subject, name, value, past) if name else None
    return None


def _subject(text: str | None) -> str:
    plain = (text or "").lower().removesuffix("'s").removeprefix("the ").strip()
    return SELF if plain in ("", "我", "my") else plain


def attribute_name(text: str) -> str:
    """One name for what people call differently ("住址", "address")."""
    plain = text.strip().lower()
    return _NAMES.get(plain, plain)


def _core(value: str) -> str:
    """What a taste is about, the same whether it is liked or not."""
    return re.sub(
        r"^(?:吃|喝|eating |drinking |to eat |to drink )|(?:的东西|的食物|的菜|食物| food)$", "", value.lower()
    ).strip()
