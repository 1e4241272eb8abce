"""Fifty tasks always in flight, with faults at model and vendor, and somebody signing in every second.

    python benchmarks/load.py [--minutes 5] [--tasks 50] [--faults 5] [--embedder none] [--json FILE]

The running product between a model server that streams for some seconds and a fake Feishu, each a process of its own.
A task has succeeded if its one answer has the vendor's receipt. Push latency is from the commit of the final text to
the moment at which the body of the vendor's request was written, as the ledger has it; messages that the vendor had
refused at first are counted, and told apart.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.parts.client import Client, quantile
from benchmarks.parts.stand import Stand, port_of, process
from storage.settings import ROOT

NAME, PASSWORD = "bench", "correct horse battery 9 staple"
WORDS = " ".join(f"word{n}" for n in range(60))
GOALS: dict[str, tuple[str, float]] = {
    "success": (">=", 99.5),
    "push_p95": ("<", 50),
    "push_p99": ("<", 500),
    "in_flight_mean": (">=", 45),
}
PUSHES = """
SELECT d.written_at - d.committed_at, d.attempts FROM delivery d
WHERE d.job_id > ? AND d.status = 'delivered' AND d.written_at IS NOT NULL
"""
ENDED = """
SELECT m.vendor_id FROM message m JOIN job j ON j.id = m.job_id JOIN delivery d ON d.job_id = j.id
WHERE m.direction = 'in' AND d.status IN ('delivered', 'failed', 'unknown')
  AND m.id > (SELECT max(id) - 2000 FROM message)
"""
LOGIN_HEADERS = "content-type: application/x-www-form-urlencoded\r\n"


class Load:
    """People who ask, one after another, until the time is over."""

    def __init__(self, stand: Stand, options: argparse.Namespace) -> None:
        self.stand, self.tasks, self.seconds = stand, int(options.tasks), float(options.minutes) * 60
        self.open: dict[str, asyncio.Event] = {}
        self.flight: list[int] = []
        self.resident: list[float] = []
        self.logins: list[float] = []
        self.refused = self.late = self.asked = 0
        self.over = False

    async def run(self) -> None:
        """All of it at once."""
        async with asyncio.TaskGroup() as group:
            watch = [group.create_task(work) for work in (self._ended(), self._look(), self._sign_in())]
            people = [group.create_task(self._person(f"ou_{n:03}")) for n in range(self.tasks)]
            await asyncio.sleep(self.seconds)
            self.over = True
            await asyncio.gather(*people)
            for task in watch:
                task.cancel()

    async def _person(self, name: str) -> None:
        while not self.over:
            self.asked += 1
            posted, raw = self.stand.event(name, f"Question {self.asked} of {name}")
            done = self.open[posted.message_id] = asyncio.Event()
            while (await self.stand.client.send(raw))[0] != 200:
                await asyncio.sleep(1.0)  # as the vendor does
            try:
                async with asyncio.timeout(120):
                    await done.wait()
            except TimeoutError:
                self.late += 1
            self.open.pop(posted.message_id, None)

    async def _ended(self) -> None:
        while True:
            for (vendor_id,) in await asyncio.to_thread(self.stand.rows, ENDED):
                if (done := self.open.get(str(vendor_id))) is not None:
                    done.set()
            await asyncio.sleep(0.25)

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(1.0)
            rows = await asyncio.to_thread(self.stand.rows, "SELECT count(*) FROM job WHERE status = 'doing'")
            self.flight.append(int(rows[0][0]))
            self.resident.append(self.stand.resident())

    async def _sign_in(self) -> None:
        """A person signs in every second, with the work that checking a password is meant to be."""
        body = urlencode({"name": NAME, "password": PASSWORD}).encode()
        host = f"127.0.0.1:{self.stand.server.port}"
        head = f"POST /login HTTP/1.1\r\nhost: {host}\r\norigin: http://{host}\r\n{LOGIN_HEADERS}"
        raw = f"{head}content-length: {len(body)}\r\n\r\n".encode() + body
        client = Client(self.stand.server.port)
        async with client:
            while True:
                begun = time.perf_counter()
                status, took = await client.send(raw)
                self.logins.append(took)
                self.refused += status not in (302, 303)
                await asyncio.sleep(max(0.0, 1.0 - (time.perf_counter() - begun)))

    def figures(self) -> dict[str, float]:
        """What came of it."""
        rows = self.stand.rows
        total = rows("SELECT count(*) FROM job")[0][0]
        good = rows(
            "SELECT count(*) FROM (SELECT j.id FROM job j JOIN delivery d ON d.job_id = j.id WHERE j.status = 'done' "
            "GROUP BY j.id HAVING count(*) = 1 AND sum(d.status = 'delivered') = 1)"
        )[0][0]
        pushes = [(float(ms), int(attempts)) for ms, attempts in rows(PUSHES, self.tasks)]  # without the first round
        first = [ms for ms, attempts in pushes if attempts == 1]
        flight = self.flight[5:] or [0]
        return {
            "tasks": total,
            "success": 100.0 * good / total if total else 0.0,
            "late": self.late,
            "per_second": total / self.seconds,
            "in_flight_mean": sum(flight) / len(flight),
            "in_flight_least": min(flight),
            "push_p50": quantile(first, 0.5),
            "push_p95": quantile(first, 0.95),
            "push_p99": quantile(first, 0.99),
            "pushes_repeated": len(pushes) - len(first),
            "push_all_p95": quantile([ms for ms, _ in pushes], 0.95),
            "model_calls_failed": rows("SELECT count(*) FROM usage WHERE outcome NOT IN ('ok', 'cached')")[0][0],
            "logins": len(self.logins),
            "logins_refused": self.refused,
            "login_p50": quantile(self.logins, 0.5),
            "login_p95": quantile(self.logins, 0.95),
            "resident_mb": max(self.resident, default=0.0),
        }


async def measured(options: argparse.Namespace) -> dict[str, float]:
    """One run in a folder of its own."""
    model = ("tests.fakes.model_server", "--first", "0.8", "--rate", "14", "--text", WORDS)
    model += ("--faults", str(options.faults))
    with tempfile.TemporaryDirectory() as folder, process(*model) as (_, line):
        stand = Stand(Path(folder), model_port=port_of(line), embedder=options.embedder, faults=options.faults)
        async with stand:
            await asyncio.to_thread(_admin, stand)
            await stand.client.open(options.tasks)
            load = Load(stand, options)
            await load.run()
            await asyncio.sleep(2.0)  # the last rows
            try:
                return load.figures()
            except sqlite3.OperationalError as error:
                raise RuntimeError(f"the figures could not be read: {error}") from error


def _admin(stand: Stand) -> None:
    """Somebody who can sign in."""
    command = [sys.executable, str(ROOT / "app.py"), "create-admin", "--name", NAME]
    subprocess.run(command, env=stand.server.env, input=PASSWORD + "\n", text=True, check=True, capture_output=True)


def main() -> None:
    """Read the options, run, print, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--tasks", type=int, default=50, help="how many are in flight")
    parser.add_argument("--faults", type=float, default=5.0, help="percent of model calls and messages that fail")
    parser.add_argument("--embedder", default="none", choices=("off", "none", "auto"))
    parser.add_argument("--json", type=Path, help="write all figures there")
    options = parser.parse_args()
    print(f"{options.tasks} tasks for {options.minutes:g} min, {options.faults:g} % faults", flush=True)
    found = asyncio.run(measured(options))
    for name, value in found.items():
        sign, goal = GOALS.get(name, ("", 0.0))
        good = not sign or (value < goal if sign == "<" else value >= goal)
        print(f"  {name:20} {value:10.2f}" + (f"   {'met' if good else 'MISSED'}  {sign} {goal:g}" if sign else ""))
    if options.json:
        about: dict[str, Any] = {"processors": os.cpu_count(), "load": os.getloadavg()[0], "at": time.strftime("%F %T")}
        about |= {name: value for name, value in vars(options).items() if name != "json"}
        options.json.write_text(json.dumps({**about, "figures": found}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
