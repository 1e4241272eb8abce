"""Words of a text, for both languages, and the traits that ranking reads. Pure.

Chinese runs give their characters (less those that mean nothing alone) and all their bigrams; other words give
their stem. Dates give words of their own (`dates.py`), so that "5月8日" and "May 8th" meet. Words are kept as
32-bit hashes: small, quick to compare, and the index holds no readable text.
"""

from __future__ import annotations

import re
import threading
import unicodedata
import zlib
from array import array
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

from agent.memory.dates import named_terms

VERSION = 1  # raise when the words of a text change: rows are then indexed anew at the next start

LONGEST_WORD = 40
MOST_TERMS = 4000

_RUNS = re.compile(r"[\u3400-\u9fff]+|[^\W\u3400-\u9fff]+")
_EMPTY = frozenset("的了是我你在和吗呢啊吧有也都就不很会")
_STOP_TEXT = """
a about above after again all am an and any are as at be because been before being below between both but by
can could d did do does doing don down during each few for from further had has have having he her here hers
herself him himself his how i if in into is it its itself just ll m me more most my myself no nor not now o of
off on once only or other our ours ourselves out over own re s same she should so some such t than that the
their theirs them themselves then there these they this those through to too under until up ve very was we were
what when where which while who whom why will with would you your yours yourself yourselves
"""
_STOP = frozenset(_STOP_TEXT.split())

# traits of a text, as bits
QUESTION, TIME_WORD, OURS = 1, 2, 4

_ASKS = re.compile(r"[?？]\s*[\"'”’)）]*\s*$|[吗呢]\s*[。！!~～]*\s*$")
_TIME = re.compile(
    r"\b(yesterday|today|tonight|tomorrow|last|next|ago|week|weekend|month|year|monday|tuesday|wednesday|thursday|"
    r"friday|saturday|sunday|january|february|march|april|june|july|august|september|october|november|december|"
    r"morning|evening|recently|since|(?:19|20)\d\d|in may|this may)\b"
    r"|[昨今明前后]天|昨晚|今晚|今早|上周|下周|本周|这周|周[一二三四五六日末]|星期|礼拜|上个?月|下个?月|本月|这个月|[去今明前]年"
    r"|最近|刚才|以前|之前|早上|晚上|上午|下午|\d{1,2}[月日号点]|[一二三四五六七八九十]月",
    re.IGNORECASE,
)
_WHEN = re.compile(
    r"\b(when|what (?:date|day|time|month|year)|which (?:date|day|month|year)|how long ago|since when|how long)\b"
    r"|什么时候|何时|哪[一]?[天年月日]|几[月号日点]|多久|什么日子|啥时候|哪个?月",
    re.IGNORECASE,
)

_stemmer: Any = None
_stemming = threading.Lock()


@lru_cache(maxsize=50_000)
def stem(word: str) -> str:
    """The stem of a lower-case word. The stemmer is loaded by the first call and shared under a lock."""
    global _stemmer
    if len(word) < 4 or not word.isascii() or not word.isalpha():
        return word
    with _stemming:
        if _stemmer is None:
            import snowballstemmer

            _stemmer = snowballstemmer.stemmer("english")
        return str(_stemmer.stemWord(word))


def words(text: str) -> list[str]:
    """The words of a text in order, repeats included; at most `MOST_TERMS`."""
    out: list[str] = []
    for run in _RUNS.findall(unicodedata.normalize("NFKC", text).lower()):
        if "\u3400" <= run[0] <= "\u9fff":
            out += [c for c in run if c not in _EMPTY]
            out += [run[i : i + 2] for i in range(len(run) - 1)]
        elif run not in _STOP:
            out.append(stem(run[:LONGEST_WORD].strip("_")))
        if len(out) >= MOST_TERMS:
            break
    return out[:MOST_TERMS] + named_terms(text[:2000])


@lru_cache(maxsize=50_000)
def hashed(word: str) -> int:
    """A word's number."""
    return zlib.crc32(word.encode())


def pack(terms: Iterable[str]) -> bytes:
    """Hashed words as stored: unsigned 32-bit, the machine's order (the index is never moved between machines)."""
    return array("I", [hashed(t) for t in terms]).tobytes()


def unpack(packed: bytes) -> array[int]:
    """The reverse of `pack`."""
    out = array("I")
    out.frombytes(packed)
    return out


def traits(text: str, *, ours: bool = False) -> int:
    """Bits that ranking reads: is it a question, does it name a time, did we say it."""
    bits = OURS if ours else 0
    if _ASKS.search(text[-200:]):
        bits |= QUESTION
    if _TIME.search(text[:2000]):
        bits |= TIME_WORD
    return bits


def asks_when(query: str) -> bool:
    """True if the question is about a time."""
    return _WHEN.search(query) is not None
