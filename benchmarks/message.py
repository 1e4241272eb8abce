"""What a message costs on its whole way, and what the process bears: real processes, signed and encrypted events.

    python benchmarks/message.py [--quick] [--json FILE] [--only NAME ...] [--profile COMMAND]

A signed event goes to the running product, which asks a model server that answers at once and replies at a fake
Feishu; every one of them is a process of its own. Beside it in the same run: a bare Starlette route and the model
server alone, under the same load generator. Its own time is from *received* to *reply request written* without the
model's call, as the ledger has it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shlex
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import psutil

from benchmarks.parts.client import Client, at_rate, post, quantile, side_by_side
from benchmarks.parts.stand import Stand, port_of, process
from storage.settings import ROOT

LANES = 50
RATE = 200.0
FLIGHT = 1000
SLOW_SECONDS = 45.0
FACTS = (
    "我的生日是{n}月3日",
    "我们项目的代号是蓝鲸{n}号",
    "下周三要去上海见{n}位客户",
    "我喜欢喝第{n}家店的美式咖啡",
    "The budget review is on the {n}th floor",
)
QUESTIONS = ("我的生日是哪天？第{n}次问", "项目的代号是什么？{n}", "下周三我要去哪里？{n}", "Where is review {n}?")
OWN = """
SELECT d.written_at - j.received_at
       - coalesce((SELECT sum(s.ended_at - s.started_at) FROM step s WHERE s.job_id = j.id AND s.kind = 'model'), 0),
       coalesce((SELECT sum(s.ended_at - s.started_at) FROM step s WHERE s.job_id = j.id AND s.kind = 'recall'), 0)
FROM job j JOIN delivery d ON d.job_id = j.id WHERE j.id > ? AND d.status = 'delivered'
"""
GOALS: dict[str, tuple[str, float]] = {
    "off.own_p50": ("<", 10),
    "auto.own_p50": ("<", 25),
    "off.per_second": (">=", 100),
    "auto.per_second": (">=", 50),
    "flight.resident_mb": ("<", 600),
    "flight.held_p99": ("<", 25),
    "off.answered_p99": ("<", 100),
}

Figures = dict[str, float]


class Run:
    """One run: its sizes and what it found."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.quick: bool = options.quick
        self.single, self.many = (60, 400) if self.quick else (300, 3000)
        self.seconds = 3.0 if self.quick else 10.0
        self.each = 4 if self.quick else 20
        self.profile: list[str] = shlex.split(options.profile)
        self.found: Figures = {}

    def note(self, name: str, value: float) -> None:
        """Keep a figure and show it at once."""
        self.found[name] = round(value, 2)
        goal = GOALS.get(name)
        wanted = f"   goal {goal[0]} {goal[1]:g}" if goal else ""
        print(f"  {name:28} {value:10.2f}{wanted}", flush=True)

    # ---- the floor

    async def floor(self) -> None:
        """What the load generator, the bare route and the model server take without us."""
        body = b"x" * 900
        with process("benchmarks.parts.bare") as (_, line):
            async with Client(port_of(line)) as client:
                await client.open(200)
                await self._bare("bare", client, post("/", body))
                await self._rate("bare", client)
        with process("tests.fakes.model_server") as (_, line):
            async with Client(port_of(line)) as client:
                await client.open(LANES)
                await self._bare("model", client, post("/v1/chat/completions", b"{}"))

    async def _bare(self, name: str, client: Client, raw: bytes) -> None:
        _, _ = await side_by_side(client, raw, lanes=LANES, count=500)
        _, times = await side_by_side(client, raw, lanes=1, count=self.single)
        self.note(f"{name}.p50", quantile(times, 0.5))
        per_second, _ = await side_by_side(client, raw, lanes=LANES, count=self.many)
        self.note(f"{name}.per_second", per_second)

    async def _rate(self, name: str, client: Client) -> None:
        times = await at_rate(client, [post("/", b"x" * 900)] * int(RATE * self.seconds), RATE)
        self.note(f"{name}.at_rate_p50", quantile(times, 0.5))
        self.note(f"{name}.at_rate_p99", quantile(times, 0.99))

    # ---- messages

    async def messages(self, embedder: str, *, answered: bool) -> None:
        """Own time one by one, messages a second side by side; with `answered` also acknowledgements at a rate."""
        with tempfile.TemporaryDirectory() as folder, process("tests.fakes.model_server") as (_, line):
            where = Path(folder)
            command = [*self.profile, sys.executable, str(ROOT / "app.py"), "serve"] if self.profile else []
            async with Stand(where, model_port=port_of(line), embedder=embedder, command=command) as stand:
                people = [f"ou_{n:03}" for n in range(LANES)]
                await stand.client.open(LANES)
                await self._each(people, lambda p: self._seed(stand, p, 1 if embedder == "off" else self.each))
                if embedder == "auto":
                    await self._indexed(stand, 15 if self.quick else 120)
                await self._one_by_one(embedder, stand, people)
                await self._side_by_side(embedder, stand, people)
                if answered:
                    await self._answered(embedder, stand)
                self.note(f"{embedder}.resident_mb", stand.resident())
                failed = stand.rows("SELECT count(*) FROM job WHERE status <> 'done'")[0][0]
                self.note(f"{embedder}.not_done", failed)

    @staticmethod
    async def _each(people: list[str], work: Callable[[str], Awaitable[object]]) -> None:
        await asyncio.gather(*(work(person) for person in people))

    @staticmethod
    async def _seed(stand: Stand, person: str, count: int) -> None:
        for n in range(count):
            await stand.ask(person, FACTS[n % len(FACTS)].format(n=n + 1))

    @staticmethod
    async def _indexed(stand: Stand, seconds: float) -> None:
        def ready() -> bool:
            rows, vectors = stand.rows("SELECT (SELECT count(*) FROM memory), (SELECT count(*) FROM memory_vector)")[0]
            return rows > 0 and vectors >= rows * 0.95

        if not await stand.until(ready, seconds):
            print("  (the vectors were not all there in time)", flush=True)

    async def _one_by_one(self, name: str, stand: Stand, people: list[str]) -> None:
        last = stand.rows("SELECT max(id) FROM job")[0][0]
        acknowledged, whole = [], []
        for n in range(self.single):
            begun = time.time()
            took, at = await stand.ask(people[n % len(people)], QUESTIONS[n % len(QUESTIONS)].format(n=n))
            acknowledged.append(took)
            whole.append((at - begun) * 1000)
            await asyncio.sleep(0.002)
        await asyncio.sleep(0.3)  # the last delivery's row
        rows = stand.rows(OWN, last)
        own = [float(row[0]) for row in rows]
        self.note(f"{name}.own_p50", quantile(own, 0.5))
        self.note(f"{name}.own_p99", quantile(own, 0.99))
        self.note(f"{name}.own_mean", statistics.fmean(own))
        self.note(f"{name}.recall_mean", statistics.fmean(float(row[1]) for row in rows))
        self.note(f"{name}.acknowledged_p50", quantile(acknowledged, 0.5))
        self.note(f"{name}.post_to_vendor_p50", quantile(whole, 0.5))

    async def _side_by_side(self, name: str, stand: Stand, people: list[str]) -> None:
        numbers = iter(range(self.many))

        async def lane(person: str) -> None:
            for n in numbers:
                await stand.ask(person, QUESTIONS[n % len(QUESTIONS)].format(n=n))

        used, begun = stand.processor(), time.perf_counter()
        await self._each(people, lane)
        seconds = time.perf_counter() - begun
        self.note(f"{name}.per_second", self.many / seconds)
        self.note(f"{name}.processor_ms", (stand.processor() - used) * 1000 / self.many)

    async def _answered(self, name: str, stand: Stand) -> None:
        count = int(RATE * self.seconds)
        made = [stand.event(f"ou_more_{n % 200:03}", f"第{n}条消息，请回答") for n in range(count)]
        await stand.client.open(200)
        times = await at_rate(stand.client, [raw for _, raw in made], RATE)
        behind = sum(1 for posted, _ in made if posted.message_id not in stand.news.at)
        self.note(f"{name}.answered_p50", quantile(times, 0.5))
        self.note(f"{name}.answered_p99", quantile(times, 0.99))
        self.note(f"{name}.answered_behind", behind)
        await asyncio.gather(*(stand.news.answered(posted.message_id) for posted, _ in made))

    # ---- many at once

    async def flight(self) -> None:
        """Memory with 1,000 messages in flight at a slow model; acknowledgements while all these lanes are held."""
        slow = ("tests.fakes.model_server", "--first", str(SLOW_SECONDS))
        with tempfile.TemporaryDirectory() as folder, process(*slow) as (model, line):
            async with Stand(Path(folder), model_port=port_of(line), embedder="auto") as stand:
                await asyncio.sleep(3)
                self.note("flight.idle_mb", stand.resident())
                made = [stand.event(f"ou_{n:04}", FACTS[n % len(FACTS)].format(n=n))[1] for n in range(FLIGHT)]
                await stand.client.open(200)
                begun = time.perf_counter()
                await at_rate(stand.client, made, RATE)
                peer = psutil.Process(model.pid)
                await stand.until(lambda: len(peer.net_connections()) > FLIGHT, 20)
                self.note("flight.calls", len(peer.net_connections()) - 1)
                self.note("flight.seconds_to_all", time.perf_counter() - begun)
                self.note("flight.resident_mb", stand.resident())
                count = int(RATE * self.seconds)
                more = [stand.event(f"ou_{n % FLIGHT:04}", f"第{n}条补充")[1] for n in range(count)]
                times = await at_rate(stand.client, more, RATE)
                self.note("flight.held_p50", quantile(times, 0.5))
                self.note("flight.held_p99", quantile(times, 0.99))
                doing = stand.rows("SELECT count(*) FROM job WHERE status = 'doing'")[0][0]
                self.note("flight.still_held", doing)
                self.note("flight.resident_after_mb", stand.resident())

    async def all(self, only: list[str]) -> None:
        """Every part, or those named."""
        parts: dict[str, Callable[[], Awaitable[None]]] = {
            "floor": self.floor,
            "off": lambda: self.messages("off", answered=True),
            "none": lambda: self.messages("none", answered=False),
            "auto": lambda: self.messages("auto", answered=True),
            "flight": self.flight,
        }
        for name, part in parts.items():
            if not only or name in only:
                print(f"{name}  (load {os.getloadavg()[0]:.1f})", flush=True)
                self.found[f"{name}.load"] = round(os.getloadavg()[0], 2)
                await part()


def verdicts(found: Figures) -> list[str]:
    """The goals that were measured, each with what was found."""
    out = []
    for name, (sign, goal) in GOALS.items():
        if name in found:
            good = found[name] < goal if sign == "<" else found[name] >= goal
            out.append(f"  {'met   ' if good else 'MISSED'}  {name:24} {found[name]:9.2f}  {sign} {goal:g}")
    if "bare.p50" in found:
        for name in ("off.acknowledged_p50", "auto.acknowledged_p50"):
            if name in found:
                out.append(f"          {name:24} {found[name] / found['bare.p50']:9.1f}  times the bare route")
    return out


def main() -> None:
    """Read the options, run, print, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a short run, for a look")
    parser.add_argument("--json", type=Path, help="write all figures there")
    parser.add_argument("--only", nargs="*", default=[], choices=("floor", "off", "none", "auto", "flight"))
    parser.add_argument("--profile", default="", help="put this command before the product's own")
    options = parser.parse_args()
    run = Run(options)
    asyncio.run(run.all(options.only))
    print("\n".join(["", "goals", *verdicts(run.found)]))
    if options.json:
        about: dict[str, Any] = {"quick": options.quick, "processors": os.cpu_count(), "at": time.strftime("%F %T")}
        options.json.write_text(json.dumps({**about, "figures": run.found}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
