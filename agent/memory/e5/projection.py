"""Token vectors made small: 384 numbers to 128 by principal components, then int8 with a scale a token.

`projection.bin` holds the mean and the components. It was made by `python -m agent.memory.e5.projection` from text
that this module writes itself: everyday sentences of both languages, put together from the word lists below.
No data set was used. Which sentences does not matter much: the components describe the model, not the topic.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from agent.memory.e5.weights import BadWeights, Floats

FILE = Path(__file__).with_name("projection.bin")
NAME = "pca128"
WIDE, NARROW = 384, 128

PEOPLE = (
    "小王 老李 张经理 陈老师 我妈 我弟弟 刘医生 同事阿杰 房东 隔壁的孩子 客户 设计师",
    "Tom,my sister,the manager,Aunt Rose,our neighbour,Doctor Lee,the new colleague,my best friend,the landlord,Ben",
)
DOINGS = (
    "去爬山了 在学做川菜 换了新工作 搬到了南京 养了一只猫 订了机票 生病住院 报名了马拉松 买了一把吉他 准备考研 "
    "把报告交了 修好了打印机 参加了婚礼 在写小说 开始练瑜伽 丢了钱包 想学潜水 拿到了驾照",
    "went hiking,is learning to cook,changed jobs,moved to Bristol,adopted a cat,booked a flight,fell ill,"
    "signed up for a marathon,bought a guitar,is preparing for an exam,handed in the report,fixed the printer,"
    "went to a wedding,is writing a novel,took up yoga,lost a wallet,wants to learn to dive,got a driving licence",
)
THINGS = (
    "红烧肉 科幻电影 老照片 蓝牙耳机 山地车 咖啡机 合同 数据库 发票 季度预算 雨伞 历史书 陶艺课 火车票 志愿活动 健身房 "
    "服务器 周报 机器学习 海边的民宿 古典音乐 过敏药 生日蛋糕 旧城墙 跨境电商 采购流程",
    "beef stew,a science fiction film,old photographs,wireless headphones,a mountain bike,the coffee machine,"
    "the contract,a database,an invoice,the quarterly budget,an umbrella,history books,a pottery class,train tickets,"
    "volunteering,the gym,a server,the weekly report,machine learning,a house by the sea,classical music,"
    "allergy pills,a birthday cake,the old town wall,online trade,the buying process",
)
TIMES = (
    "昨天 上个月 五月八号 2023年夏天 周五晚上 大学毕业以后 小时候 三天前 下周一 最近 疫情那几年 十月中旬",
    "yesterday,last month,on May 8th,in the summer of 2023,on Friday evening,after college,as a child,three days ago,"
    "next Monday,recently,years ago,in the middle of October",
)
FEELINGS = (
    "特别开心 有点紧张 觉得很累 松了一口气 非常自豪 挺失望的 又惊又喜 一点也不后悔 有些担心 很感动",
    "so happy,a bit nervous,quite tired,relieved,very proud,rather disappointed,surprised,without regrets,"
    "worried,moved",
)
FORMS = (
    (
        "{w}{p}{d},{f}。",
        "你还记得{w}我跟你说过的{t}吗?",
        "我最喜欢的是{t},不太喜欢{u}。",
        "{p}推荐了{t},说{w}一定要试试。",
        "为什么{p}{d}?跟{t}有关系吗?",
        "关于{t},公司规定每人最多报销{n}元,由{p}审批。",
        "{t}是{w}出现的,后来被{u}取代,影响了许多地区。",
        "好的,我已经记下来了:{w}{p}{d}。",
        "听说{p}{d},我真的{f}!",
        "请把{t}和{u}的资料发给{p},共{n}份。",
        "这次{t}一共花了{n}块钱,比{u}便宜多了。",
        "该项目始建于{n}年,以{t}闻名,位于{u}附近。",
    ),
    (
        "{p} {d} {w} and felt {f}.",
        "Do you remember what I told you about {t} {w}?",
        "I like {t} most, but I do not care much for {u}.",
        "{p} suggested {t}; I should try it {w}.",
        "Why is it that {p} {d}? Has it to do with {t}?",
        "For {t} the company pays up to {n} dollars, and {p} has to agree.",
        "{t} first appeared {w}, was later replaced by {u} and is known in many places.",
        "All right, I have noted it: {p} {d} {w}.",
        "Wow, I heard that {p} {d}! I am {f}.",
        "Please send {n} copies of {t} and {u} to {p}.",
        "We paid {n} for {t}, much less than for {u}.",
        "Hey! How are you? Thanks for {t}, it means a lot to me.",
    ),
)


def sentences(count: int, seed: int = 7) -> Iterator[str]:
    """Everyday sentences, half of them in each language."""
    dice = random.Random(seed)  # noqa: S311 - text, not secrets
    for i in range(count):
        lang = i % 2
        pick = {
            name: dice.choice(lists[lang].split(",") if lang else lists[lang].split())
            for name, lists in (
                ("p", PEOPLE),
                ("d", DOINGS),
                ("t", THINGS),
                ("u", THINGS),
                ("w", TIMES),
                ("f", FEELINGS),
            )
        }
        yield dice.choice(FORMS[lang]).format(n=dice.randint(2, 2999), **pick)


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
    for sentence in sentences(4000):
        ids = session.pieces(sentence)
        if window and len(window) + len(ids) > WINDOW:
            states.append(session.hidden([head + window])[0][len(head) :])
            window = []
        window += ids
    Projection.fit(np.concatenate(states)).save()
    return 0


if __name__ == "__main__":
    sys.exit(main())
