"""Words of a text, for both languages, and the traits that ranking reads. Pure.

Chinese runs give their characters and bigrams, less those that mean nothing; other words give
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
from itertools import pairwise
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

# forms that no stemmer brings together, and everyday short forms
_FORMS_TEXT = """
go went gone|buy bought|get got gotten|give gave given|take took taken|make made|see saw seen|come came
write wrote written|eat ate eaten|drink drank drunk|begin began begun|run ran|swim swam swum|win won|lose lost
find found|feel felt|leave left|keep kept|teach taught|think thought|catch caught|meet met|tell told|say said
speak spoke spoken|break broke broken|choose chose chosen|drive drove driven|ride rode ridden|fall fell fallen
grow grew grown|know knew known|fly flew flown|draw drew drawn|throw threw thrown|wear wore worn|sing sang sung
sell sold|send sent|spend spent|build built|sleep slept|pay paid|hear heard|hold held|bring brought|become became
forget forgot forgotten|understand understood|steal stole stolen|wake woke woken|fight fought|shoot shot
child children kid|man men|woman women|person people|mother mom mum|father dad|family fam|photo pic picture
television tv|bicycle bike|telephone phone
"""

# traits of a text, as bits
QUESTION, TIME_WORD, OURS, ASKS_WITHIN, OF_SELF, REACTION, SPECIFIC = 1, 2, 4, 8, 16, 32, 64
DRAWN, PINNED = 128, 256  # not of the text: facts were drawn out of it; a person pinned it

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

_FORMS = {form: forms.split()[0] for forms in re.split(r"[|\n]", _FORMS_TEXT.strip()) for form in forms.split()[1:]}
_OF_SELF = re.compile(r"\b(?:i|me|my|mine|myself|we|us|our|ours)\b|[我咱]", re.IGNORECASE)
_REACTION = re.compile(
    r"\W*(?:thanks|thank you|wow|congrat\w*|awesome|great|cool|glad|yeah|sounds|no problem|you're|"
    r"that's (?:great|awesome|amazing|cool|so)\b|谢谢|好的|不客气|哇|当然|太好了|没问题|嗯)",
    re.IGNORECASE,
)
# a name within a sentence, a number, a title: what questions ask for
_SPECIFIC = re.compile(r"(?<=[a-z,;:'’] )(?!I\b)[A-Z][A-Za-z]|\d|\"|《|“")

_stemmer: Any = None
_stemming = threading.Lock()


@lru_cache(maxsize=20_000)
def stem(word: str) -> str:
    """The stem of a lower-case word. The stemmer is loaded by the first call and shared under a lock."""
    global _stemmer
    word = _FORMS.get(word, word)
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
            out += [a + b for a, b in pairwise(run) if not (a in _EMPTY and b in _EMPTY)]
        elif run not in _STOP:
            out.append(stem(run[:LONGEST_WORD].strip("_")))
        if len(out) >= MOST_TERMS:
            break
    return out[:MOST_TERMS] + named_terms(text[:2000])


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
    """Bits that ranking reads: how a text is shaped, whatever its topic."""
    head = text[:2000]
    seen = (
        (QUESTION, _ASKS.search(text[-200:])),
        (TIME_WORD, _TIME.search(head)),
        (ASKS_WITHIN, "?" in text or "？" in text),
        (OF_SELF, _OF_SELF.search(head)),
        (REACTION, _REACTION.match(head)),
        (SPECIFIC, _SPECIFIC.search(head)),
    )
    return sum(bit for bit, found in seen if found) + (OURS if ours else 0)


def asks_when(query: str) -> bool:
    """True if the question is about a time."""
    return _WHEN.search(query) is not None
