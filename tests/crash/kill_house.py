"""A real process between fake vendors and a fake model, to be killed at a named point and started again."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import re
import shutil
import sqlite3
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx

from tests.fakes.dingtalk_server import FakeDingTalk
from tests.fakes.feishu_events import FeishuEvents
from tests.fakes.feishu_server import FeishuServer
from tests.fakes.model_server import Asked, Call, ModelServer, Reply, _Connection
from tests.serving import Serving

PEOPLE = 7
TAG = re.compile(r"q[0-9]+-[0-9a-f]{6}")
OPEN_JOBS = "SELECT count(*) FROM job WHERE status IN ('todo', 'doing')"
OPEN_DELIVERIES = "SELECT count(*) FROM delivery WHERE status IN ('pending', 'sending')"

LLM = """
providers:
  - name: fake
    type: openai
    endpoint: {model}/v1
    api_key: sk-fake
    models: [fake]
"""
CHANNELS = """
channels:
  - name: hr-bot
    type: feishu
    mode: webhook
    app_id: cli_test
    app_secret: app-secret
    encrypt_key: encrypt-key-of-the-test
    verification_token: verification-token
    api_base: {feishu}
    access: open
  - name: it-bot
    type: dingtalk
    mode: http
    client_id: dingtest
    client_secret: ding-secret
    api_base: {dingtalk}
    oapi_base: {dingtalk}
    access: open
"""


@dataclass(frozen=True, kw_only=True)
class Question:
    """One message of a person: `raw` is what its vendor posts, `id` the vendor's id of it."""

    tag: str
    vendor: str
    id: str
    raw: dict[str, Any]

    @property
    def answer(self) -> str:
        return answer_to(self.tag)


def answer_to(tag: str) -> str:
    """What the model answers to the question with this tag: a text that no other question gets."""
    return f"The answer to {tag} is {tag[::-1]}."


class GatedModel(ModelServer):
    """Answers each question with its own text, every third one after a tool call; `gate` holds all answers back."""

    def __init__(self, pause: float = 0.0) -> None:
        super().__init__(self._reply)
        self.pause, self.gate = pause, asyncio.Event()
        self.acts = False  # every question leads to a call that must not be repeated

    async def respond(self, asked: Asked, to: _Connection) -> None:
        await self.gate.wait()
        await super().respond(asked, to)

    def _reply(self, asked: Asked) -> Reply:
        messages = asked.body["messages"]
        said = next(str(m["content"]) for m in reversed(messages) if m["role"] == "user")
        tag = TAG.findall(said)[-1]
        if self.acts and messages[-1]["role"] != "tool":
            arguments = json.dumps({"url": "http://192.0.2.1/", "body": {"tag": tag}})
            return Reply(text="", calls=(Call(name="post", arguments=arguments),))
        if int(tag[1 : tag.index("-")]) % 3 == 0 and messages[-1]["role"] != "tool":
            return Reply(text="", calls=(Call(name="time"),))
        return Reply(text=answer_to(tag), pause=self.pause)


class KillHouse:
    """The fakes, and one process after another on the same data folder."""

    def __init__(self, folder: Path, *, pause: float = 0.0) -> None:
        self.folder = folder
        self.feishu, self.dingtalk, self.model = FeishuServer(), FakeDingTalk(), GatedModel(pause)
        self.events = FeishuEvents()
        self.questions: list[Question] = []
        self.acknowledged: set[str] = set()
        self.server: Serving | None = None
        self.took = self.worked = 0.0
        self._numbers = itertools.count(1)
        self._client = httpx.AsyncClient(trust_env=False, timeout=20)

    async def __aenter__(self) -> KillHouse:
        await self.feishu.start()
        await self.dingtalk.start()
        await self.model.start()
        config = self.folder / "data" / "config"
        config.mkdir(parents=True)
        (config / "llm.yaml").write_text(LLM.format(model=self.model.url))
        (config / "channels.yaml").write_text(
            CHANNELS.format(feishu=self.feishu.base, dingtalk=self.dingtalk.url), encoding="utf-8"
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self.model.gate.set()
        if self.server is not None:
            await asyncio.to_thread(self.server.stop)
        await self._client.aclose()
        await self.model.stop()
        await self.dingtalk.stop()
        await self.feishu.stop()

    # ---- the process

    async def start(self, crash_at: str = "") -> Serving:
        """Start it and wait until it is ready. `took` is how long that was, `worked` how much of it the processor."""
        settings = {"ZHIXING_ALLOW_LOCAL_VENDORS": "1", "ZHIXING_CRASH_AT": crash_at}
        server = self.server = Serving(self.folder, wait=False, **settings)
        began = time.monotonic()
        await asyncio.to_thread(server.__enter__)
        await asyncio.to_thread(server.ready)
        self.took, self.worked = time.monotonic() - began, processor_seconds(server.process.pid)
        return server

    async def died(self, seconds: float = 40) -> int:
        """Wait until the process has ended; its exit code. The threads that listened to it end too."""
        assert self.server is not None
        try:
            await asyncio.to_thread(self.server.process.wait, seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still alive:\n{self.server.said[-4000:]}") from None
        code = await asyncio.to_thread(self.server.stop)
        self.server = None
        return code

    # ---- asking

    def ask(self, vendor: str, count: int) -> list[Question]:
        """Make questions of several people; `post` sends them."""
        made: list[Question] = []
        for n in range(count):
            tag, person = f"q{next(self._numbers)}-{os.urandom(3).hex()}", f"person{n % PEOPLE}"
            if vendor == "feishu":
                raw = self.events.raw_message(f"Please answer {tag}", person=f"ou_{person}")
                made.append(Question(tag=tag, vendor=vendor, id=raw["event"]["message"]["message_id"], raw=raw))
            else:
                fields = {"conversationId": f"cid{person}==", "senderStaffId": person, "senderId": f"$:{person}"}
                raw = self.dingtalk.message(f"Please answer {tag}", **fields)
                made.append(Question(tag=tag, vendor=vendor, id=raw["msgId"], raw=raw))
        self.questions += made
        return made

    async def post(self, questions: Sequence[Question], *, renamed: bool = False) -> None:
        """Post them all at once as their vendors would, signed anew; notes which were acknowledged.

        Args:
            renamed: Feishu gives the same message another event id.
        """
        await asyncio.gather(*(self._post(question, renamed=renamed) for question in questions))

    async def _post(self, question: Question, *, renamed: bool) -> None:
        assert self.server is not None
        status = await self.post_to(self.server, question, renamed=renamed)
        assert status in (0, 200), self.server.said[-4000:]

    async def post_to(self, server: Serving, question: Question, *, renamed: bool = False) -> int:
        """Post one question to a process and note whether it was acknowledged. The status; 0 if it is dead."""
        raw = question.raw
        if question.vendor == "feishu":
            if renamed:
                raw = raw | {"header": raw["header"] | {"event_id": f"ev-{os.urandom(6).hex()}"}}
            posted = self.events.posted(raw)
            headers, body, path = posted.headers, posted.body, "/webhooks/feishu/hr-bot"
        else:
            headers, _ = self.dingtalk.callback()
            body, path = json.dumps(raw, ensure_ascii=False).encode(), "/webhooks/dingtalk/it-bot"
        try:
            answer = await self._client.post(server.address + path, content=body, headers=headers)
        except httpx.TransportError:
            return 0
        if answer.status_code == 200:
            self.acknowledged.add(question.tag)
        return answer.status_code

    async def type_word(self, text: str, person: str) -> None:
        """A message that is not a question. It may be the last that the process hears."""
        assert self.server is not None
        posted = self.events.message(text, person=person)
        try:
            await self._client.post(
                f"{self.server.address}/webhooks/feishu/hr-bot", content=posted.body, headers=posted.headers
            )
        except httpx.TransportError:
            return

    @property
    def unacknowledged(self) -> list[Question]:
        return [question for question in self.questions if question.tag not in self.acknowledged]

    # ---- looking

    def look(self, query: str, *, dead: bool = False) -> list[tuple[Any, ...]]:
        """Read the database. Of a dead process a copy, so that what it left is found as it was at the next start."""
        path = self.folder / "data" / "db" / "zhixing.db"
        if not dead:
            return rows_of(f"file:{path}?mode=ro", query)
        with tempfile.TemporaryDirectory() as folder:
            for ending in ("", "-wal"):
                if (source := path.with_name(path.name + ending)).exists():
                    shutil.copy(source, folder)
            return rows_of(f"file:{folder}/{path.name}", query)

    async def settled(self, seconds: float = 60) -> None:
        """Wait until nothing is left to do or to send."""
        assert self.server is not None
        async with asyncio.timeout(seconds * 2):
            for _ in range(int(seconds * 20)):
                found = await asyncio.to_thread(self.look, f"SELECT ({OPEN_JOBS}) + ({OPEN_DELIVERIES})")
                if found[0][0] == 0:
                    return
                await asyncio.sleep(0.05)
        jobs = self.look("SELECT id, status, attempts, reason FROM job")
        rows = self.look("SELECT id, status, attempts, error FROM delivery")
        used = processor_seconds(self.server.process.pid)
        raise AssertionError(
            f"not settled, {used} s of the processor used since the start:\n{jobs}\n{rows}\n{self.server.said[-4000:]}"
        )

    def unknown(self) -> set[str]:
        """Tags of the questions whose answer is listed as unknown; none at Feishu may be."""
        rows = self.look("SELECT payload FROM delivery WHERE status = 'unknown' AND channel = 'dingtalk'")
        return {tag for (payload,) in rows for tag in TAG.findall(payload)}

    def sending(self) -> set[str]:
        """Tags of the answers that a dead process was just sending to DingTalk."""
        query = "SELECT payload FROM delivery WHERE status = 'sending' AND channel = 'dingtalk'"
        return {tag for (payload,) in self.look(query, dead=True) for tag in TAG.findall(payload)}

    def answers(self) -> Counter[str]:
        """How often each question was answered at its vendor, by the text that people see."""
        texts = [m.text for m in self.feishu.messages] + [m.text for m in self.dingtalk.messages]
        return Counter(q.tag for q in self.questions for text in texts if q.answer in text)

    def said(self) -> int:
        """How many messages the vendors have in all."""
        return len(self.feishu.messages) + len(self.dingtalk.messages)


def rows_of(uri: str, query: str) -> list[tuple[Any, ...]]:
    """What a query finds in a database, which is closed again."""
    connection = sqlite3.connect(uri, uri=True, timeout=10)
    try:
        return connection.execute(query).fetchall()
    finally:
        connection.close()


def processor_seconds(pid: int) -> float:
    """What a process has used, itself and for the system."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
