"""Models over the real wire: what is asked, what is answered, what is retried."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
import trustme

from agent.models.anthropic import AnthropicWire
from agent.models.base import (
    ChatMessage,
    Completed,
    ModelEvent,
    ModelRequest,
    Retracted,
    TextDelta,
    Thinking,
    ToolCall,
)
from agent.models.base import ToolDefinition as Definition
from agent.models.call import CallSettings, HttpModel, Wire
from agent.models.keys import Keys
from agent.models.openai import OpenAIWire
from security.egress_client import EgressClient
from storage.clock import Clock
from storage.errors import AppError, Rejected, Throttled, Unavailable
from tests.fakes.model_server import Call, ModelServer, Reply

TIME = Definition(name="time", description="the time", parameters={"type": "object", "properties": {}})
REQUEST = ModelRequest(
    messages=(ChatMessage(role="system", text="be brief"), ChatMessage(role="user", text="hi")),
    tools=(TIME,),
    deadline=10,
    first_token=5,
    stall=5,
)
BOTH = pytest.mark.parametrize("kind", ["openai", "anthropic"])


@pytest.fixture
async def server() -> AsyncIterator[ModelServer]:
    async with ModelServer() as running:
        yield running


@pytest.fixture
async def egress() -> AsyncIterator[EgressClient]:
    client = EgressClient()
    yield client
    await client.close()


def made(
    kind: str, server: ModelServer, egress: EgressClient, *, keys: tuple[str, ...] = ("k1",), **more: object
) -> HttpModel:
    wire: Wire
    if kind == "openai":
        wire = OpenAIWire(url=f"{server.url}/v1/chat/completions", model="fake")
    else:
        wire = AnthropicWire(url=f"{server.url}/v1/messages", model="fake")
    clock = Clock()
    settings = CallSettings(**more)  # type: ignore[arg-type]
    return HttpModel(
        name="fake",
        wire=wire,
        keys=Keys(keys, clock),
        egress=egress,
        clock=clock,
        settings=settings,
        jitter=lambda: 0.0,
        pause=0.02,
    )


async def all_of(model: HttpModel, request: ModelRequest = REQUEST) -> list[ModelEvent | Retracted]:
    async with asyncio.timeout(20):
        return [event async for event in model.stream(request)]


async def end_of(model: HttpModel, request: ModelRequest = REQUEST) -> Completed:
    last = (await all_of(model, request))[-1]
    assert isinstance(last, Completed)
    return last


async def error_of(model: HttpModel, request: ModelRequest = REQUEST) -> AppError:
    with pytest.raises(AppError) as caught:
        await all_of(model, request)
    return caught.value


@BOTH
async def test_streamed_answer(kind: str, server: ModelServer, egress: EgressClient) -> None:
    server.enqueue(Reply(text="你好，世界。How are you?", reasoning="greet", pause=0.002))
    events = await all_of(made(kind, server, egress))
    texts = [event.text for event in events if isinstance(event, TextDelta)]
    end = events[-1]
    assert "".join(texts) == "你好，世界。How are you?"
    assert len(texts) > 1
    assert any(isinstance(event, Thinking) for event in events)
    assert isinstance(end, Completed)
    assert (end.text, end.stop, end.tokens_in, end.tokens_out, end.estimated) == ("".join(texts), "end", 11, 7, False)
    assert server.asked[0].key == "k1"


@BOTH
async def test_tool_call_in_pieces(kind: str, server: ModelServer, egress: EgressClient) -> None:
    calls = (Call(name="time", arguments='{"zone": "Asia/Shanghai"}', id="a", pieces=5), Call(name="time", id="b"))
    server.enqueue(Reply(text="", calls=calls))
    end = await end_of(made(kind, server, egress))
    assert end.stop == "tools"
    assert end.calls == (
        ToolCall(id="a", name="time", arguments={"zone": "Asia/Shanghai"}),
        ToolCall(id="b", name="time", arguments={}),
    )


@BOTH
async def test_not_streamed_answer(kind: str, server: ModelServer, egress: EgressClient) -> None:
    from tests.fakes.model_server import anthropic_whole, openai_whole

    whole = openai_whole if kind == "openai" else anthropic_whole
    reply = Reply(text="whole <think>x</think>", calls=(Call(name="time"),), reasoning="r")
    server.enqueue(Reply(body=whole(reply, "fake")))
    end = await end_of(made(kind, server, egress))
    assert (end.text, end.stop, len(end.calls), end.tokens_in) == ("whole", "tools", 1, 11)


async def test_openai_body(server: ModelServer, egress: EgressClient) -> None:
    messages = (
        *REQUEST.messages,
        ChatMessage(role="assistant", calls=(ToolCall(id="a", name="time", arguments={"z": "中"}),)),
        ChatMessage(role="tool", text="12:00", call_id="a", name="time"),
    )
    await end_of(made("openai", server, egress, temperature=0.7, max_tokens=2048), replace(REQUEST, messages=messages))
    body = server.asked[0].body
    assert body["model"] == "fake"
    assert (body["temperature"], body["max_tokens"], body["stream"]) == (0.7, 2048, True)
    assert body["tools"][0]["function"]["name"] == "time"
    assert [m["role"] for m in body["messages"]] == ["system", "user", "assistant", "tool"]
    assert json.loads(body["messages"][2]["tool_calls"][0]["function"]["arguments"]) == {"z": "中"}
    assert body["messages"][3] == {"role": "tool", "tool_call_id": "a", "content": "12:00"}


async def test_anthropic_body(server: ModelServer, egress: EgressClient) -> None:
    calls = (ToolCall(id="a:1", name="time", arguments={}), ToolCall(id="b", name="time", arguments={}))
    messages = (
        *REQUEST.messages,
        ChatMessage(role="assistant", text="one moment", calls=calls),
        ChatMessage(role="tool", text="12:00", call_id="a:1", name="time"),
        ChatMessage(role="tool", text="", call_id="b", name="time"),
        ChatMessage(role="user", text="and?"),
    )
    await end_of(made("anthropic", server, egress, temperature=1.7), replace(REQUEST, messages=messages))
    asked = server.asked[0]
    assert asked.headers["anthropic-version"] == "2023-06-01"
    assert (asked.body["system"], asked.body["temperature"]) == ("be brief", 1.0)
    assert [m["role"] for m in asked.body["messages"]] == ["user", "assistant", "user"]
    assert [block["type"] for block in asked.body["messages"][1]["content"]] == ["text", "tool_use", "tool_use"]
    results = asked.body["messages"][2]["content"]
    assert [(b["type"], b.get("tool_use_id")) for b in results] == [
        ("tool_result", "a_1"),
        ("tool_result", "b"),
        ("text", None),
    ]
    await end_of(made("anthropic", server, egress), replace(REQUEST, messages=messages, tools=()))
    body = server.asked[1].body
    assert [tool["name"] for tool in body["tools"]] == ["time"]
    assert body["tool_choice"] == {"type": "none"}


@BOTH
@pytest.mark.parametrize("status", [429, 500, 502, 503, 529])
async def test_passing_failure_is_retried(kind: str, status: int, server: ModelServer, egress: EgressClient) -> None:
    server.enqueue(Reply(status=status, headers={"retry-after": "0.01"}), Reply(text="good"))
    assert (await end_of(made(kind, server, egress))).text == "good"
    assert server.count == 2


async def test_retries_are_bounded(server: ModelServer, egress: EgressClient) -> None:
    server.default = Reply(status=503)
    error = await error_of(made("openai", server, egress))
    assert (type(error), error.code) == (Unavailable, "model.down")
    assert server.count == 4


@pytest.mark.parametrize("wait", ["86400", "Wed, 01 Jan 2098 00:00:00 GMT"])
async def test_long_wait_is_not_waited(wait: str, server: ModelServer, egress: EgressClient) -> None:
    server.default = Reply(status=429, headers={"retry-after": wait})
    error = await error_of(made("openai", server, egress))
    assert isinstance(error, Throttled)
    assert error.retry_after == 86400
    assert server.count == 1


@pytest.mark.parametrize(
    ("reply", "code"),
    [
        (Reply(status=401), "model.key"),
        (Reply(status=402), "model.quota"),
        (Reply(status=404, body={"error": {"message": "model x not found"}}), "model.unknown"),
        (Reply(status=404, body="<html>nginx</html>"), "model.address"),
        (Reply(body="<!DOCTYPE html><html></html>"), "model.not_api"),
        (Reply(raw=(b"<html><body>hi</body></html>\n",)), "model.not_api"),
        (Reply(body={"error": {"message": "Model Not Exist"}}), "model.unknown"),
        (Reply(raw=(b'{"error": {"message": "maximum context length is 5"}}',)), "model.context"),
        (Reply(text="", stop="content_filter"), "model.filtered"),
    ],
)
async def test_refusal_is_not_retried(reply: Reply, code: str, server: ModelServer, egress: EgressClient) -> None:
    server.default = reply
    error = await error_of(made("openai", server, egress))
    assert (type(error), error.code) == (Rejected, code)
    assert server.count == 1


async def test_broken_stream_is_retried_only_before_text(server: ModelServer, egress: EgressClient) -> None:
    server.enqueue(Reply(text="", cut_at=1), Reply(text="good"))
    assert (await end_of(made("openai", server, egress))).text == "good"
    server.enqueue(Reply(text="some words here", pause=0.002, cut_at=3), Reply(text="good"))
    assert (await error_of(made("openai", server, egress))).code == "model.broken"
    assert len(server.queue) == 1


@pytest.mark.parametrize(
    ("reply", "why"),
    [(Reply(first=30), "first"), (Reply(stall_at=0), "first"), (Reply(text="word " * 9, stall_at=4), "stall")],
)
async def test_silence_ends(reply: Reply, why: str, server: ModelServer, egress: EgressClient) -> None:
    server.enqueue(reply)
    error = await error_of(made("openai", server, egress), replace(REQUEST, first_token=0.2, stall=0.2))
    assert (error.code, error.params["why"]) == ("model.timeout", why)
    assert server.count == 1


async def test_deadline_ends_a_slow_answer(server: ModelServer, egress: EgressClient) -> None:
    server.enqueue(Reply(text="word " * 1000, pause=0.02))
    error = await error_of(made("openai", server, egress), replace(REQUEST, deadline=0.3))
    assert (error.code, error.params["why"]) == ("model.timeout", "deadline")


async def test_endless_answer_is_stopped(server: ModelServer, egress: EgressClient) -> None:
    server.enqueue(Reply(endless="for ever and ever " * 100))
    error = await error_of(made("openai", server, egress))
    assert (error.code, error.params["why"]) == ("model.broken", "endless")


async def test_finished_answer_without_an_end_is_taken(
    server: ModelServer, egress: EgressClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.models.call.AFTER_FINISH", 0.1)
    server.enqueue(Reply(text="abc", stall_at=3))
    assert (await end_of(made("openai", server, egress))).text == "abc"


async def test_keys_take_turns_and_a_refused_one_rests(server: ModelServer, egress: EgressClient) -> None:
    model = made("openai", server, egress, keys=("k1", "k2"))
    for _ in range(2):
        await end_of(model)
    server.enqueue(Reply(status=429, headers={"retry-after": "60"}))
    await end_of(model)
    await end_of(model)
    assert [asked.key for asked in server.asked] == ["k1", "k2", "k1", "k2", "k2"]
    server.default = Reply(status=401)
    assert (await error_of(model)).code == "model.key"


async def test_learns_what_a_vendor_does_not_take(server: ModelServer, egress: EgressClient) -> None:
    message = "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."
    server.enqueue(Reply(status=400, body={"error": {"message": message}}))
    model = made("openai", server, egress, max_tokens=5)
    await end_of(model)
    await end_of(model)
    assert [set(asked.body) & {"max_tokens", "max_completion_tokens"} for asked in server.asked] == [
        {"max_tokens"},
        {"max_completion_tokens"},
        {"max_completion_tokens"},
    ]


async def test_connection_is_used_again(server: ModelServer, egress: EgressClient) -> None:
    model = made("openai", server, egress)
    for _ in range(5):
        await end_of(model)
    assert len(server.open) == 1


async def test_closing_the_answer_closes_the_connection(server: ModelServer, egress: EgressClient) -> None:
    server.enqueue(Reply(text="word " * 1000, pause=0.01))
    events = made("openai", server, egress).stream(REQUEST)
    await anext(events)
    connection = next(iter(server.open))
    await events.aclose()
    await asyncio.wait_for(connection.gone.wait(), 5)


async def test_no_server(egress: EgressClient) -> None:
    server = await ModelServer().start()
    await server.stop()
    error = await error_of(made("openai", server, egress, retries=0))
    assert error.code == "model.connect"


async def test_estimate_where_the_vendor_counts_nothing(server: ModelServer, egress: EgressClient) -> None:
    server.enqueue(Reply(text="some words to be counted", usage=False))
    end = await end_of(made("openai", server, egress))
    assert end.estimated
    assert end.tokens_in > 5
    assert 4 < end.tokens_out < 12


async def test_a_thought_without_its_opening_tag_is_retracted_and_known_afterwards(
    server: ModelServer, egress: EgressClient
) -> None:
    server.default = Reply(chunks=("The user greets.", "\nI greet.\n", "</think>", "\n\nHello", "!"), pause=0.005)
    model = made("openai", server, egress)
    events = await all_of(model)
    place = next(n for n, event in enumerate(events) if isinstance(event, Retracted))
    assert "".join(event.text for event in events[place:] if isinstance(event, TextDelta)) == "Hello!"
    assert isinstance(events[-1], Completed)
    assert events[-1].text == "Hello!"
    events = await all_of(model)
    assert not any(isinstance(event, Retracted) for event in events)
    assert "".join(event.text for event in events if isinstance(event, TextDelta)) == "Hello!"


async def test_an_untrusted_certificate(egress: EgressClient) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    server = await ModelServer().start(tls=context)
    try:
        assert (await error_of(made("openai", server, egress))).code == "model.tls"
    finally:
        await server.stop()
