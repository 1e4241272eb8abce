"""Twenty and more ways in which a model fails: each ends once, nothing invalid runs, no markup is shown."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from agent.models.base import ChatMessage, Completed, ModelChoice, ModelRequest, TextDelta, Thinking
from agent.models.base import ToolDefinition as Definition
from agent.models.breaker import Breaker
from agent.models.call import HttpModel
from agent.models.chain import Switched, answer
from agent.models.keys import Keys
from agent.models.openai import OpenAIWire
from security.egress_client import EgressClient
from storage.clock import Clock, ManualClock
from storage.errors import AppError, Unavailable
from tests.fakes.model_server import Call, ModelServer, Reply, openai_events

NOTE = Definition(
    name="note", description="keep", parameters={"type": "object", "properties": {"text": {"type": "string"}}}
)
REQUEST = ModelRequest(messages=(ChatMessage(role="user", text="go"),), tools=(NOTE,), deadline=6)
GOOD = '{"text": "ok"}'
FRAMES = [f"data: {line}\n\n".encode() for line in openai_events(Reply(text="你好世界"), "fake")]
HALF = FRAMES[1][: FRAMES[1].index("你".encode()) + 1]

FAULTS: dict[str, Reply] = {
    "429 with seconds": Reply(status=429, headers={"retry-after": "0.1"}),
    "429 with a date": Reply(status=429, headers={"retry-after": "Wed, 01 Jan 2098 00:00:00 GMT"}),
    "429 bare": Reply(status=429),
    "401": Reply(status=401),
    "402": Reply(status=402),
    "404": Reply(status=404),
    "500": Reply(status=500),
    "501": Reply(status=501),
    "502 with a page": Reply(status=502, body="<html>bad gateway</html>"),
    "503": Reply(status=503),
    "504": Reply(status=504),
    "200 with a page": Reply(body="<html><h1>Welcome</h1></html>"),
    "200 with an error": Reply(body={"error": {"message": "overloaded"}}),
    "error inside the stream": Reply(raw=(FRAMES[0], b'data: {"error": {"message": "boom"}}\n\n')),
    "context too long": Reply(status=400, body={"error": {"code": "context_length_exceeded"}}),
    "content refused": Reply(text="", stop="content_filter"),
    "silent before the first token": Reply(first=60),
    "silent in the middle": Reply(text="half an answer", stall_at=3),
    "cut before text": Reply(cut_at=1),
    "cut in the middle": Reply(text="half an answer", cut_at=4, pause=0.01),
    "ended without an end": Reply(raw=tuple(FRAMES[:3])),
    "half a character": Reply(raw=(FRAMES[0], HALF), cut_at=2),
    "bad JSON": Reply(raw=(*FRAMES[:2], b"data: {oops\n\n", *FRAMES[2:])),
    "JSON of the wrong shape": Reply(raw=(b"data: [1, 2]\n\n",)),
    "choices of the wrong shape": Reply(raw=(b'data: {"choices": [7]}\n\n',)),
    "same call twice": Reply(text="", calls=(Call(name="note", arguments=GOOD), Call(name="note", arguments=GOOD))),
    "same id, other call": Reply(
        text="", calls=(Call(name="note", arguments=GOOD), Call(name="note", arguments='{"text": "2"}'))
    ),
    "unknown tool": Reply(text="", calls=(Call(name="rm_rf", arguments="{}"),)),
    "partial arguments": Reply(text="", calls=(Call(name="note", arguments='{"text": "o'),)),
    "arguments cut by the limit": Reply(text="", stop="length", calls=(Call(name="note", arguments=GOOD),)),
    "arguments no object": Reply(text="", calls=(Call(name="note", arguments='["o"]'),)),
    "10 MB arguments": Reply(
        text="", calls=(Call(name="note", arguments=json.dumps({"text": "x" * 10_000_000}), pieces=500),)
    ),
    "10 MB arguments in one line": Reply(
        text="", calls=(Call(name="note", arguments=json.dumps({"text": "x" * 10_000_000}), pieces=1),)
    ),
    "thousand calls": Reply(
        text="", calls=tuple(Call(name="note", arguments=GOOD, id=f"c{n}", pieces=1) for n in range(1000))
    ),
    "endless": Reply(endless="and so on " * 200),
    "endless thoughts": Reply(endless="<think>" + "hmm " * 2000),
    "only reasoning": Reply(text="", reasoning="let me think about it"),
    "only a think-tag": Reply(text="<think>let me think"),
    "think-tags in pieces": Reply(chunks=("<th", "ink", ">secret</", "thi", "nk>", "Answer")),
    "a call in the text": Reply(chunks=("Sure. <tool_", 'call>{"name": "note", ', '"arguments": {}}</tool', "_call>")),
    "DeepSeek's markup": Reply(chunks=("<｜tool▁calls", "▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>note")),
    "nothing at all": Reply(raw=(b"data: [DONE]\n\n",)),
    "empty body": Reply(raw=(b"\n",)),
}
MARKUP = re.compile(r"think|tool[_▁]call|[|｜]>|secret|hmm", re.IGNORECASE)


@dataclass
class Outcome:
    shown: str
    ends: list[Completed]
    switched: list[Switched]
    error: AppError | None


@pytest.fixture
async def server() -> AsyncIterator[ModelServer]:
    async with ModelServer() as running:
        yield running


@pytest.fixture
async def egress() -> AsyncIterator[EgressClient]:
    client = EgressClient()
    yield client
    await client.close()


def choice(name: str, server: ModelServer, egress: EgressClient) -> ModelChoice:
    clock = Clock()
    wire = OpenAIWire(url=f"{server.url}/v1/chat/completions", model=name)
    model = HttpModel(
        name=name, wire=wire, keys=Keys([name], clock), egress=egress, clock=clock, jitter=lambda: 0.0, pause=0.02
    )
    return ModelChoice(ref=f"{name}/m", provider=name, model=model, extra={"patience": "0.4"})


async def ask(chain: list[ModelChoice], breaker: Breaker | None = None, request: ModelRequest = REQUEST) -> Outcome:
    """What a person sees and the loop gets; fails if it takes longer than the deadline and five seconds."""
    out = Outcome("", [], [], None)
    try:
        async with asyncio.timeout(request.deadline + 5):
            async for event in answer(chain, request, clock=Clock(), breaker=breaker or Breaker(Clock())):
                assert not out.ends, "an event behind the end"
                match event:
                    case TextDelta(text=text):
                        out.shown += text
                        assert not MARKUP.search(out.shown)
                    case Completed():
                        out.ends.append(event)
                    case Switched():
                        out.shown = ""
                        out.switched.append(event)
                    case Thinking():
                        pass
    except AppError as error:
        out.error = error
    return out


def sound(out: Outcome) -> None:
    """One ending, nothing invalid to run, nothing of the inside to see."""
    assert (out.error is None) == (len(out.ends) == 1)
    if out.ends:
        end = out.ends[0]
        assert end.text == out.shown.rstrip()
        assert end.text or end.calls or end.bad_calls
        assert all(call.name == "note" and set(call.arguments) == {"text"} for call in end.calls)
        ids = [call.id for call in (*end.calls, *end.bad_calls)]
        assert len(ids) == len(set(ids))
        assert (end.stop == "tools") == bool(ids)


@pytest.mark.parametrize("kind", FAULTS)
async def test_a_failing_model_ends_once_or_is_replaced(kind: str, server: ModelServer, egress: EgressClient) -> None:
    good = Reply(text="from the second")
    server.default = lambda asked: FAULTS[kind] if asked.body["model"] == "bad" else good
    chain = [choice("bad", server, egress), choice("good", server, egress)]
    chain[1].model.context_tokens *= 2
    out = await ask(chain)
    sound(out)
    assert out.error is None
    if out.switched:
        assert [item.ref for item in out.switched] == ["good/m"]
        assert out.ends[0].model == "good/m"
        assert out.shown == "from the second"
    else:
        assert out.ends[0].model == "bad/m"


@pytest.mark.parametrize("kind", FAULTS)
async def test_a_single_failing_model_ends_once(kind: str, server: ModelServer, egress: EgressClient) -> None:
    server.default = FAULTS[kind]
    request = ModelRequest(messages=REQUEST.messages, tools=REQUEST.tools, deadline=2, first_token=0.4, stall=0.4)
    out = await ask([choice("bad", server, egress)], request=request)
    sound(out)
    assert server.count <= 8


async def test_a_single_model_that_broke_off_is_asked_again(server: ModelServer, egress: EgressClient) -> None:
    server.enqueue(FAULTS["cut in the middle"], Reply(text="whole"))
    out = await ask([choice("only", server, egress)])
    sound(out)
    assert [item.error_code for item in out.switched] == ["model.broken"]
    assert out.shown == "whole"


async def test_a_single_slow_model_has_all_the_time(
    server: ModelServer, egress: EgressClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.models.chain.PATIENCE", 0.05)
    server.enqueue(Reply(text="late", first=0.3))
    out = await ask([choice("only", server, egress)])
    sound(out)
    assert (out.shown, server.count) == ("late", 1)


async def test_context_too_long_goes_to_a_larger_model_only(server: ModelServer, egress: EgressClient) -> None:
    chain = [choice("small", server, egress), choice("same", server, egress), choice("large", server, egress)]
    chain[2].model.context_tokens = 1_000_000
    server.enqueue(FAULTS["context too long"], Reply(text="fits"))
    out = await ask(chain)
    assert [item.ref for item in out.switched] == ["large/m"]
    server.enqueue(FAULTS["context too long"])
    out = await ask(chain[:2])
    assert out.error is not None
    assert out.error.code == "model.context"


async def test_no_model() -> None:
    out = await ask([])
    assert out.error is not None
    assert out.error.code == "model.none"


async def test_breaker_leaves_a_dead_provider_alone(server: ModelServer, egress: EgressClient) -> None:
    clock = ManualClock()
    breaker = Breaker(clock)
    server.default = lambda asked: Reply(status=401) if asked.body["model"] == "bad" else Reply(text="good")
    chain = [choice("bad", server, egress), choice("good", server, egress)]
    for _ in range(10):
        assert (await ask(chain, breaker)).shown == "good"
    assert sum(asked.key == "bad" for asked in server.asked) == 5
    out = await ask(chain[:1], breaker)
    assert isinstance(out.error, Unavailable)
    assert (out.error.code, out.error.params["why"]) == ("model.resting", "model.key")
    clock.advance(31)
    await ask(chain, breaker)  # one tries, fails, and it rests again
    await ask(chain, breaker)
    assert sum(asked.key == "bad" for asked in server.asked) == 6
    clock.advance(31)
    server.default = Reply(text="both good")
    for _ in range(3):
        assert (await ask(chain, breaker)).ends[0].model == "bad/m"


async def test_breaker_half_open_lets_one_through_and_forgets_the_cancelled(
    server: ModelServer, egress: EgressClient
) -> None:
    clock = ManualClock()
    breaker = Breaker(clock)
    for _ in range(5):
        breaker.failed("p", Unavailable("model.down"))
    assert not breaker.admit("p")
    clock.advance(31)
    assert [breaker.admit("p") for _ in range(3)] == [True, False, False]
    breaker.released("p")
    server.enqueue(Reply(text="word " * 100, pause=0.05))
    stream = answer([choice("p", server, egress)], REQUEST, clock=clock, breaker=breaker)
    await anext(stream)
    assert not breaker.admit("p")
    await stream.aclose()
    assert breaker.admit("p")
    breaker.succeeded("p")
    assert breaker.resting("p") == (0.0, "")


async def test_failures_far_apart_do_not_open_it() -> None:
    clock = ManualClock()
    breaker = Breaker(clock)
    for _ in range(20):
        breaker.failed("p", Unavailable("model.down"))
        clock.advance(10)
    assert breaker.admit("p")


async def test_hot_switch_under_load(server: ModelServer, egress: EgressClient) -> None:
    """Fifty answers run while the model is changed: none fails, later ones come from the new one."""
    server.default = lambda asked: Reply(text=f"by {asked.body['model']}", pause=0.005)
    old, new = choice("old", server, egress), choice("new", server, egress)
    chain, breaker = [old], Breaker(Clock())

    async def task() -> list[str]:
        return [(await ask(list(chain), breaker)).ends[0].model for _ in range(3)]

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(task()) for _ in range(50)]
        while server.count < 60:
            await asyncio.sleep(0.005)
        chain[:] = [new]
    models = [model for item in tasks for model in item.result()]
    assert set(models) == {"old/m", "new/m"}
    assert all(item.result()[-1] == "new/m" or item.result() == ["old/m"] * 3 for item in tasks)
