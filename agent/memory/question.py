"""What is asked for: a query read once, for every memory that it is put to. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from zoneinfo import ZoneInfo

from agent.memory.dates import Span, spans
from agent.memory.statements import asked_terms
from agent.memory.tokens import asks_when, hashed, words

# "did you suggest", "你推荐过": asks for what we said; "I told you", "我说过": for what the person said
_BY_US = re.compile(
    r"你(?:曾经?|之前|以前|上次|昨天|那天|都|还|有没有|是不是)*(?:给我|跟我|向我|对我|和我|帮我|为我)?"
    r"(?:说|推荐|建议|提|告诉|讲|介绍|回答|答应|承诺|写|教|列|算|分享)过?"
    r"|\b(?:did|have|had|what|which)\s+(?:\w+\s+){0,3}?you\s+(?:ever\s+|just\s+)?"
    r"(?:say|said|suggest|recommend|tell|told|mention|advise|propose|promise|write|wrote|explain|list)",
    re.IGNORECASE,
)
# what only makes it a question; English question words are stop words already
_ASKING = re.compile(
    "什么时候|什么样|什么|哪些|哪一|哪里|哪个|哪位|哪年|多少|怎么样|怎么|怎样|为什么|为何|如何|是否|谁|几|哪|请问|何时|何"
)


@dataclass(frozen=True, slots=True)
class Question:
    """A query as ranking reads it.

    Attributes:
        terms: hashed words, each once.
        concepts: hashed words under which statements about what is asked stand (`statements.asked_terms`).
        words: the terms before hashing, to see whose name is asked for.
        spans: spans of time that it names, as (first ms, end ms, kind).
        when: it asks for a time.
        of_us: it asks for what we said ourselves.
    """

    text: str
    terms: tuple[int, ...]
    concepts: tuple[int, ...]
    words: frozenset[str]
    spans: tuple[tuple[int, int, str], ...]
    when: bool
    of_us: bool


def _edges(span: Span, zone: ZoneInfo) -> tuple[int, int, str]:
    first = datetime.combine(span.first, datetime.min.time(), zone)
    last = datetime.combine(span.last, datetime.max.time(), zone)
    return int(first.timestamp() * 1000), int(last.timestamp() * 1000), span.kind


def read_question(text: str, now: int, zone: ZoneInfo) -> Question:
    """Read a query. `now` (ms) is what "last month" counts from."""
    today = datetime.fromtimestamp(now / 1000, zone).date()
    found = words(_ASKING.sub(" ", text)) or words(text)
    named = tuple(_edges(span, zone) for span in spans(text, today)[:8])
    return Question(
        text=text,
        terms=tuple(dict.fromkeys(hashed(w) for w in found)),
        concepts=tuple(hashed(w) for w in asked_terms(text)),
        words=frozenset(found),
        spans=named,
        when=asks_when(text),
        of_us=_BY_US.search(text) is not None,
    )
