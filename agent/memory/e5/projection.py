"""Token vectors made small: 384 numbers to 128 by principal components, then int8 with a scale a token.

`projection.bin` holds the mean and the components. It was made by `python -m agent.memory.e5.projection` from text
that this module writes itself: sentence forms of both languages, filled with words of the model's own vocabulary.
No data set was used. The wider the choice of words, the better the components: with a few dozen words a search
loses three points of recall, with thousands none.
"""

from __future__ import annotations

import random
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from agent.memory.e5.weights import BadWeights, Floats

FILE = Path(__file__).with_name("projection.bin")
NAME = "pca128"
WIDE, NARROW = 384, 128
COMMONEST = 9_000  # words of each script

FORMS_EN = (
    "Hey {N}! How was the {a} {b}? I have been thinking about {c} lately.",
    "I love {a}, it reminds me of {b} and {c}. What do you like about it, {N}?",
    "Last {d} we went to the {a} with {N} and saw a {b} {c}. It was so {e}!",
    "That sounds {e}, {N}. Did you {a} the {b} yet?",
    "Yeah, my {a} helps me to {b} when I feel {e}. {c} is important to me.",
    "{N} told me that {a} {b} are better than {c}, but I'm not sure.",
    "Thanks, {N}! I'm really proud of the {a}. We worked on {b} for {n} weeks.",
    "Wow, {N}, congrats on the {a}! When will the {b} {c} start?",
    "My {a} is {n} years old and loves {b}. Here is a photo of the {c} from {d}.",
    "The {a} of {b} was founded in {n} and is known for {c} and {e}.",
    "In {d}, the company changed its {a} because {b} became too {e} for {c}.",
    "To reset the {a}, open the {b} page, choose {c} and press save.",
    "I used to {a} as a child, but after {b} I gave up. Now I want to try {c} again.",
    "What's your favorite {a}? Mine is {b}, especially with {c}.",
    "Do you have any plans for {d}? I might visit {a} or finish {b}.",
    "It's been tough with {a}, but {b} keeps me going. How do you deal with {c}?",
)
FORMS_ZH = (
    "{N}，你好！最近{a}怎么样？我一直在想{b}的事。",
    "我特别喜欢{a}，因为它让我想到{b}和{c}。",
    "上个{d}我们和{N}一起去看了{a}，{b}真的很{e}。",
    "听起来不错，你{a}过{b}吗？",
    "我的{a}今年{n}岁了，喜欢{b}，还会{c}。",
    "{a}位于{b}，始建于{n}年，以{c}而闻名。",
    "由于{a}的影响，{b}在{n}年改名为{c}，并由{N}担任主席。",
    "{a}是一种{b}，主要分布于{c}地区。",
    "我曾经向你推荐过{a}，你觉得{b}怎么样？",
    "好的，我会{a}的，谢谢你的{b}建议！",
    "报销{a}需要{b}，每次不超过{n}元，{c}负责审批。",
    "为什么{a}比{b}更{e}？这和{c}有什么关系？",
    "我从小学习{a}，后来因为{b}放弃了，现在想重新{c}。",
    "{N}说{d}要参加{a}，还准备了{b}和{c}。",
    "他于{n}年毕业于{a}大学，曾参与{b}的研究，获得{c}奖。",
    "你有什么{d}计划吗？我可能去{a}或者完成{b}。",
)
NAMES = (
    "Anna Mark Sophie Liam Olivia Noah Emma Jack Grace Henry Lucy Oscar Nora Felix Alice Peter Kim Daniel Maya",
    "小明 李娜 王伟 张敏 刘洋 陈静 赵磊 周婷 吴刚 孙丽",
)
TIMES = ("Monday week May October summer month weekend 2022 July year", "周一 月 星期 假期 五月 十月 夏天 周末 学期")
FEELINGS = (
    "great amazing sad hard nice relaxing boring expensive helpful exciting",
    "开心 难过 有趣 复杂 昂贵 放松 美丽 重要 辛苦 简单",
)


def commonest(pieces: Mapping[str, int], scores: Sequence[float], form: str) -> list[str]:
    """The most frequent whole words of the vocabulary that match."""
    found = [piece for piece in pieces if re.fullmatch(form, piece)]
    return [piece.strip("\u2581") for piece in sorted(found, key=lambda p: (-scores[pieces[p]], p))[:COMMONEST]]


def sentences(count: int, latin: list[str], chinese: list[str], seed: int = 3) -> Iterator[str]:
    """Made-up sentences, every other one in each language, half of them with a speaker."""
    dice = random.Random(seed)  # noqa: S311 - text, not secrets
    for i in range(count):
        lang = i % 2
        words = (latin, chinese)[lang]
        slots = {"N": dice.choice(NAMES[lang].split()), "n": dice.randint(2, 2020)}
        slots |= {"d": dice.choice(TIMES[lang].split()), "e": dice.choice(FEELINGS[lang].split())}
        slots |= {slot: dice.choice(words) for slot in "abc"}
        speaker = f"{dice.choice(NAMES[lang].split())}: " if i % 4 < 2 else ""
        yield speaker + dice.choice((FORMS_EN, FORMS_ZH)[lang]).format(**slots)


class Projection:
    """Mean and components."""

    def __init__(self, mean: Floats, matrix: Floats) -> None:
        self.mean, self.matrix = mean, matrix

    def __call__(self, states: Floats) -> Floats:
        """Unit vectors of fewer numbers."""
        x = states / np.maximum(np.linalg.norm(states, axis=1, keepdims=True), 1e-9)
        y = (x - self.mean) @ self.matrix
        out: Floats = y / np.maximum(np.linalg.norm(y, axis=1, keepdims=True), 1e-9)
        return out.astype(np.float32, copy=False)

    @staticmethod
    def load(path: Path = FILE) -> Projection:
        """Read the shipped file.

        Raises:
            BadWeights: it is not what it should be.
        """
        raw = np.fromfile(path, "<f2").astype(np.float32)
        if raw.size != WIDE + WIDE * NARROW:
            raise BadWeights("projection.bin")
        return Projection(raw[:WIDE], raw[WIDE:].reshape(WIDE, NARROW))

    @staticmethod
    def fit(states: Floats) -> Projection:
        """Principal components of unit vectors."""
        x = states / np.linalg.norm(states, axis=1, keepdims=True)
        mean = x.mean(axis=0)
        spread: npt.NDArray[np.float64] = np.cov((x - mean).T.astype(np.float64))
        _, vectors = np.linalg.eigh(spread)
        return Projection(mean.astype(np.float32), vectors[:, ::-1][:, :NARROW].astype(np.float32))

    def save(self, path: Path = FILE) -> None:
        """Write mean and components as 16-bit numbers (99 KB)."""
        np.concatenate([self.mean, self.matrix.reshape(-1)]).astype("<f2").tofile(path)


def main() -> int:
    """Make `projection.bin` anew: windows of sentences, as they are encoded in use."""
    from agent.memory.e5.session import WINDOW, open_session
    from agent.memory.e5.weights import weights_file

    source = weights_file()
    if source is None:
        return 1
    session = open_session(source, Path(sys.argv[1] if len(sys.argv) > 1 else "."))
    head = session.pieces("passage:")
    states: list[Floats] = []
    window: list[int] = []
    pieces, scores = session.weights.pieces, session.weights.scores
    latin = commonest(pieces, scores, "\u2581[a-z]{3,12}")
    chinese = commonest(pieces, scores, "[\u4e00-\u9fff]{2,4}")
    for sentence in sentences(8000, latin, chinese):
        ids = session.pieces(sentence)
        if window and len(window) + len(ids) > WINDOW:
            states.append(session.hidden([head + window])[0][len(head) :])
            window = []
        window += ids
    Projection.fit(np.concatenate(states)).save()
    return 0


if __name__ == "__main__":
    sys.exit(main())
