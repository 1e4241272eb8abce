"""The OpenAI-compatible API: the agent answers through the ledger, whole or as a stream, and knows what was said."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from agent.context import read_asked
from storage.envelope import Outgoing
from storage.ledger import Ending, conversation_t, message_t
from storage.runner import Work
from tests.api_house import ApiHouse, Reader, api_house

PATH = "/v1/chat/completions"


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[ApiHouse]:
    async with api_house(tmp_path) as made:
        yield made


def asks(*texts: str, **more: Any) -> dict[str, Any]:
    """A request whose messages take turns, the last one the user's."""
    roles = ["user", "assistant"] if len(texts) % 2 else ["assistant", "user"]
    said = [{"role": roles[n % 2], "content": text} for n, text in enumerate(texts)]
    return {"model": "zhixing", "messages": said, **more}


def chunks(text: str) -> list[dict[str, Any]]:
    lines = [line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data: ")]
    assert lines[-1] == "[DONE]"
    return [json.loads(line) for line in lines[:-1]]


def content(text: str) -> str:
    found = [chunk["choices"][0]["delta"].get("content", "") for chunk in chunks(text) if chunk.get("choices")]
    return "".join(found)


async def count(house: ApiHouse, table: Any) -> int:
    return int(await house.house.db.read(lambda c: c.execute(select(func.count()).select_from(table)).scalar_one()))


async def history(house: ApiHouse) -> list[tuple[str, str]]:
    """What the agent saw before the last question."""
    number = house.answers.ran[-1].message_id or 0
    asked = await house.house.db.read(lambda c: read_asked(c, number))
    return [(one.role, one.text) for one in asked.history]


async def test_an_answer_in_one_piece(house: ApiHouse) -> None:
    client = await house.caller("chat.use")
    found = await client.post(PATH, json=asks("hello", temperature=0.3, max_tokens=50, user="x", tools=[]))
    assert found.status_code == 200
    body = found.json()
    assert body["object"] == "chat.completion"
    assert body["choices"][0]["message"]["content"] == "re: hello"
    assert body["choices"][0]["finish_reason"] == "stop"
    assert set(body["usage"]) == {"prompt_tokens", "completion_tokens", "total_tokens"}
    task = (await client.get(f"/api/v1/tasks/{found.headers['x-task-id']}")).json()
    assert (task["status"], task["text"]) == ("done", "hello")


async def test_a_talk_goes_on_in_its_conversation(house: ApiHouse) -> None:
    client = await house.caller("chat.use")
    said = ["one"]
    for question in ("two", "three", "four"):
        answer = (await client.post(PATH, json=asks(*said))).json()["choices"][0]["message"]["content"]
        said += [answer, question]
    assert (await client.post(PATH, json=asks(*said))).status_code == 200
    assert await count(house, conversation_t) == 1
    assert await count(house, message_t) == 8
    assert await history(house) == [("user" if n % 2 == 0 else "assistant", text) for n, text in enumerate(said[:-1])]


async def test_a_changed_past_begins_another_conversation_that_knows_it(house: ApiHouse) -> None:
    client = await house.caller("chat.use")
    await client.post(PATH, json=asks("one"))
    system = [{"role": "system", "content": "Be brief."}]
    body = asks("one", "something else", "two")
    found = await client.post(PATH, json={**body, "messages": system + body["messages"]})
    assert found.status_code == 200
    assert await count(house, conversation_t) == 2
    assert await history(house) == [("user", "Be brief."), ("user", "one"), ("assistant", "something else")]


async def test_the_same_past_twice_gives_two_conversations(house: ApiHouse) -> None:
    client = await house.caller("chat.use")
    await client.post(PATH, json=asks("one"))
    for _ in range(2):
        assert (await client.post(PATH, json=asks("one", "re: one", "two"))).status_code == 200
        assert await history(house) == [("user", "one"), ("assistant", "re: one")]
    assert await count(house, conversation_t) == 2


async def test_nobody_goes_on_with_anothers_talk(house: ApiHouse) -> None:
    one, two = await house.caller("chat.use"), await house.caller("chat.use")
    await one.post(PATH, json=asks("one"))
    await two.post(PATH, json=asks("one", "re: one", "two"))
    assert await count(house, conversation_t) == 2


async def test_an_answer_streams(house: ApiHouse) -> None:
    going = asyncio.Event()

    async def speak(work: Work) -> AsyncIterator[None]:
        work.tell("text", delta="I look. ")
        yield
        work.tell("text.reset")
        work.tell("text", delta="It is ")
        yield
        await going.wait()
        work.tell("text", delta="four")

    house.answers.stream = speak
    house.answers.say = lambda work: Ending(
        say=(Outgoing(kind="answer", text="It is four."),), tokens_in=7, tokens_out=3
    )
    secret = (await house.key("chat.use")).secret
    body = asks("two and two?", stream=True, stream_options={"include_usage": True})
    reader = Reader(house.app, PATH, secret, method="POST", body=body)
    await reader.until(lambda text: "It is" in text)
    assert "four" not in reader.text
    going.set()
    text = await reader.whole()
    assert content(text).endswith("It is four.")
    found = chunks(text)
    assert found[-1]["usage"] == {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
    assert found[-2]["choices"][0]["finish_reason"] == "stop"
    # what the client has seen is what it sends back
    again = asks("two and two?", content(text), "sure?")
    house.answers.stream = None
    assert (await house.client(secret).post(PATH, json=again)).status_code == 200
    assert await count(house, conversation_t) == 1


async def test_a_client_that_goes_away_stops_its_task(house: ApiHouse) -> None:
    house.answers.gate.clear()
    key = await house.key("chat.use")
    reader = Reader(house.app, PATH, key.secret, method="POST", body=asks("long", stream=True))
    await reader.until(lambda text: "assistant" in text)
    await reader.leave()
    client = house.client(key.secret)
    assert (await house.ended(client, 1))["status"] == "cancelled"
    held = Reader(house.app, PATH, key.secret, method="POST", body=asks("long", stream=True), Idempotency_Key="k")
    await held.until(lambda text: "assistant" in text)
    await held.leave()
    house.answers.gate.set()
    assert (await house.ended(client, 2))["status"] == "done"
    again = await client.post(PATH, json=asks("long"), headers={"Idempotency-Key": "k"})
    assert (again.headers["x-task-id"], again.json()["choices"][0]["message"]["content"]) == ("2", "re: long")


async def test_a_failure_is_told_in_openais_form(house: ApiHouse) -> None:
    said = (Outgoing(kind="notice", text="No model answered."),)
    house.answers.say = lambda work: Ending(status="failed", reason="model.broken", say=said)
    client = await house.caller("chat.use")
    found = await client.post(PATH, json=asks("x"))
    assert found.status_code == 502
    error = {"message": "No model answered.", "type": "server_error", "param": None, "code": "model.broken"}
    assert found.json()["error"] == error
    streamed = await client.post(PATH, json=asks("x", stream=True))
    assert chunks(streamed.text)[-1]["error"] == error


async def test_models_are_listed(house: ApiHouse) -> None:
    client = await house.caller("chat.use")
    found = [one["id"] for one in (await client.get("/v1/models")).json()["data"]]
    assert found == ["zhixing", "demo"]
    assert (await client.get("/v1/models/demo")).json()["id"] == "demo"
    assert (await client.get("/v1/models/none/at-all")).json()["error"]["code"] == "chat.model"
    assert (await client.post(PATH, json=asks("x", model="demo"))).status_code == 200
    assert house.answers.ran[-1].model == "demo"
    assert (await client.post(PATH, json=asks("x", model="gpt-4o"))).status_code == 404


@pytest.mark.parametrize(
    "change",
    [
        {"messages": []},
        {"messages": [{"role": "assistant", "content": "x"}]},
        {"messages": [{"role": "user", "content": ""}]},
        {"messages": [{"role": "user", "content": None}]},
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://a"}}]}]},
        {"messages": [{"role": "tool", "content": "x"}, {"role": "user", "content": "x"}]},
        {"messages": [{"role": "user", "content": "x" * 20_001}]},
        {"messages": [{"role": "user", "content": "x"}] * 501},
        {"tools": [{"type": "function"}]},
        {"n": 2},
        {"stream": "maybe"},
    ],
)
async def test_what_cannot_be_answered_is_refused(house: ApiHouse, change: dict[str, Any]) -> None:
    client = await house.caller("chat.use")
    found = await client.post(PATH, json={**asks("x"), **change})
    assert found.status_code == 422
    assert found.json()["error"]["type"] == "invalid_request_error"
    assert house.answers.ran == []


async def test_the_real_agent_answers(tmp_path: Path) -> None:
    async with api_house(tmp_path, agent=True) as house:
        client = await house.caller("chat.use")
        found = await client.post(PATH, json=asks("现在几点?"))
        assert found.status_code == 200
        task = (await client.get(f"/api/v1/tasks/{found.headers['x-task-id']}")).json()
        assert [step["name"] for step in task["steps"] if step["kind"] == "tool"]
        assert found.json()["choices"][0]["message"]["content"] == task["answer"]
        streamed = await client.post(PATH, json=asks("现在几点?", stream=True))
        assert content(streamed.text).strip()
