"""The offline demo model: rules instead of a mind, through the same interface, labelled wherever it speaks.

It shows the real loop with real tools before a key is there. Tests script it with `enqueue`.
"""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import AsyncGenerator

from agent.models.base import Completed, ModelEvent, ModelRequest, TextDelta, ToolCall
from agent.models.demo_phrases import PLAN, RECALL
from agent.models.demo_rules import RULES, Act, Say, Scene, Use, planned, read_scene, remember, topic_of
from agent.models.tokens import estimate
from storage.errors import AppError
from storage.words import Words

NAME = "demo"
TOKEN = re.compile(r"[A-Za-z0-9_'\-]+\s?|\s+|.", re.DOTALL)
Script = str | tuple[ToolCall, ...] | AppError


class DemoModel:
    """A `base.Model` without a network.

    Args:
        pace: seconds between two tokens, so that streaming can be seen.
    """

    def __init__(self, words: Words, *, pace: float = 0.012) -> None:
        self.name, self.context_tokens = NAME, 32_000
        self.words, self.pace = words, pace
        self.requests: deque[ModelRequest] = deque(maxlen=100)
        self._script: deque[Script] = deque()

    def enqueue(self, *replies: Script) -> None:
        """Script the next answers: a text, tool calls, or an error to raise. Then the rules apply again."""
        self._script.extend(replies)

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelEvent, None]:
        """See `base.Model.stream`."""
        loop = asyncio.get_running_loop()
        start = loop.time()
        if self._script:
            self.requests.append(request)
            reply = self._script.popleft()
        else:
            reply = self.reply(request)
        if isinstance(reply, AppError):
            raise reply
        asked = sum(estimate(message.text) for message in request.messages)
        if isinstance(reply, tuple):
            await asyncio.sleep(self.pace)
            took = round((loop.time() - start) * 1000)
            yield self._end("", reply, asked, took, took)
            return
        first = 0.0
        for token in TOKEN.findall(reply):
            await asyncio.sleep(self.pace)
            first = first or loop.time()
            yield TextDelta(text=token)
        yield self._end(
            reply, (), asked, round(((first or loop.time()) - start) * 1000), round((loop.time() - start) * 1000)
        )

    def reply(self, request: ModelRequest) -> str | tuple[ToolCall, ...]:
        """The whole answer by the rules: text for the person, or tool calls."""
        scene = read_scene(request)
        for rule in (remember, self._plan, *RULES):
            if (act := rule(scene)) is not None:
                return self._told(scene, act)
        return self._told(scene, Say(key="demo.fallback"))

    def _told(self, scene: Scene, act: Act) -> str | tuple[ToolCall, ...]:
        if isinstance(act, Use):
            return tuple(
                ToolCall(id=f"demo_{scene.rounds}_{n}", name=name, arguments=arguments)
                for n, (name, arguments) in enumerate(act.calls)
            )
        text = self.words.say(scene.lang, act.key, **act.params) + act.raw
        return f"{text}\n\n{self.words.say(scene.lang, 'demo.label')}"

    def _plan(self, scene: Scene) -> Act | None:
        if not PLAN.search(scene.question) or RECALL.search(scene.question) or "plan" not in scene.tools:
            return None
        topic, say = topic_of(scene.question), self.words.say
        steps = tuple(say(scene.lang, f"demo.plan.step{n}", topic=topic) for n in (1, 2, 3))
        parts = [say(scene.lang, f"demo.plan.part{n}", topic=topic) for n in (1, 2, 3, 4)]
        listed = "\n".join(f"{n}. {part}" for n, part in enumerate(parts, 1))
        note = f"# {topic}\n\n{listed}\n"
        if (act := planned(scene, (steps[0], steps[1], steps[2]), note)) is not None:
            return act
        today = (scene.result("time") or "").split(" ")[0]
        key = "demo.planned" if scene.result("write_file") and today else "demo.planned_only"
        return Say(key=key, params={"topic": topic, "today": today}, raw=f"\n\n{listed}")

    def _end(self, text: str, calls: tuple[ToolCall, ...], asked: int, first: int, total: int) -> Completed:
        return Completed(
            text=text,
            calls=calls,
            stop="tools" if calls else "end",
            tokens_in=asked,
            tokens_out=estimate(text) + 20 * len(calls),
            estimated=True,
            model=NAME,
            first_token_ms=first,
            total_ms=total,
        )
