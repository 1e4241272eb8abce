"""What of a text must not get lost when it is summarised: decisions, names, numbers, dates, open steps. Pure.

Used where no model can be asked, and to see whether a model's summary has left something out.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

LONGEST = 2_400
LONGEST_LINE = 240
_SENTENCE = re.compile(r"(?<=[。！？；!?;])\s*|(?<=\.)\s+|\n+")
_FIGURE = re.compile(r"[A-Za-z]*\d[\w:./%@+\-]*\d|[A-Za-z]*\d+%?|[\w.+-]+@[\w.-]+\w")
_NAME = re.compile(
    r"(?<=[a-z,;:'’] )(?!I\b)[A-Z][\w'-]+(?: [A-Z][\w'-]+)*|《[^》]{1,40}》|“[^”]{1,40}”|\"[^\"]{1,40}\""
)
_DECIDED = re.compile(
    r"决定|定了|就用|选了|选择|同意|批准|通过了|确认|改为|改成|不用|取消|约定|负责|采用"
    r"|\b(?:decid\w+|agreed?|approved?|confirm\w*|chose\w*|settled|cancel\w*|instead|in charge|responsible|go with)\b",
    re.IGNORECASE,
)
_OPEN = re.compile(
    r"待办|下一步|还没|尚未|之后|接下来|需要|必须|记得|要在|截止|提醒|跟进|答应|承诺|计划"
    r"|\b(?:todo|next|still|not yet|must|need to|has to|have to|remind|follow up|due|deadline|will"
    r"|promise\w*|plan\w*)\b",
    re.IGNORECASE,
)
_SMALL = re.compile(r"^\W*(?:谢谢|好的?|嗯|哦|ok(?:ay)?|thanks?|sure|你好|您好|hello|hi)\W*$", re.IGNORECASE)


def figures(text: str) -> set[str]:
    """Numbers, times and addresses of a text, to be compared."""
    return {found.strip(".:/-").lower() for found in _FIGURE.findall(text)} - {""}


def names(text: str) -> set[str]:
    """What is written as a name or title."""
    return {found.strip('《》“”"') for found in _NAME.findall(text)}


def worth(sentence: str) -> float:
    """How much would be lost with a sentence."""
    if _SMALL.match(sentence):
        return 0.0
    score = 2.0 * bool(_DECIDED.search(sentence)) + 1.5 * bool(_OPEN.search(sentence))
    score += min(2.0, 1.0 * len(figures(sentence))) + min(1.0, 0.5 * len(names(sentence)))
    return score + (0.2 if len(sentence) < LONGEST_LINE else 0.0)


def sentences(text: str) -> list[str]:
    """A text cut at its sentences."""
    return [part for part in (" ".join(s.split()) for s in _SENTENCE.split(text) if s) if part]


def digest(lines: Sequence[str], most: int = LONGEST) -> str:
    """The sentences that must not get lost, in order, each behind the beginning of its line ("Anne: ").

    Whatever does not fit is counted in the last line.
    """
    found: list[tuple[float, int, str]] = []
    for line in lines:
        who, mark, rest = line.partition(": ")
        for sentence in sentences(rest if mark else line):
            said = f"{who}: {sentence}" if mark else sentence
            found.append((worth(sentence), len(found), said[:LONGEST_LINE]))
    chosen: list[tuple[int, str]] = []
    room, left = most, 0
    for score, place, said in sorted(found, key=lambda item: (-item[0], -item[1])):
        if score >= 1.0 and len(said) < room:
            chosen.append((place, said))
            room -= len(said) + 3
        else:
            left += 1
    out = [f"- {said}" for _, said in sorted(chosen)]
    return "\n".join([*out, f"(+{left})"] if left else out)


def lost(before: Sequence[str], summary: str) -> list[str]:
    """Sentences whose numbers a summary has left out, decisions and open steps first."""
    have = figures(summary)
    out = []
    for line in before:
        who, mark, rest = line.partition(": ")
        for sentence in sentences(rest if mark else line):
            if figures(sentence) - have and worth(sentence) >= 1.0:
                out.append((worth(sentence), f"{who}: {sentence}"[:LONGEST_LINE] if mark else sentence[:LONGEST_LINE]))
                have |= figures(sentence)
    return [text for _, text in sorted(out, key=lambda item: -item[0])]
