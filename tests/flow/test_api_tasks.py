"""Tasks by API: entered once, watched and resumed, cancelled, told of by a signed callback, sent by a bot."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from channels.webhook.signing import signature
from storage.envelope import Outgoing
from storage.ledger import Ending
from storage.runner import Work
from tests.api_house import ApiHouse, Reader, api_house, events_of
from tests.fakes.quick_http import QuickServer, Request, Response

SECRET = "a-secret-of-the-test"


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[ApiHouse]:
    async with api_house(tmp_path) as made:
        yield made


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    made = Receiver()
    await made.server.start()
    yield made
    await made.server.stop()


class Receiver:
    """Takes calls and keeps them; answers what it was told to, 200 afterwards."""

    def __init__(self) -> None:
        self.calls: list[Request] = []
        self.answers: list[int] = []
        self._came = asyncio.Event()
        self.server = QuickServer(self._take)

    def _take(self, request: Request) -> Response:
        self.calls.append(request)
        self._came.set()
        return Response(status=self.answers.pop(0) if self.answers else 200)

    async def got(self, count: int) -> list[Request]:
        async with asyncio.timeout(20):
            while len(self.calls) < count:
                self._came.clear()
                await self._came.wait()
        return self.calls


async def test_a_task_is_done_and_shown(house: ApiHouse) -> None:
    client = await house.caller("chat.use")
    made = await client.post("/api/v1/tasks", json={"text": "count to three", "conversation": "ticket-7"})
    assert made.status_code == 201
    assert made.headers["location"] == f"/api/v1/tasks/{made.json()['id']}"
    task = await house.ended(client, made.json()["id"])
    assert (task["status"], task["answer"], task["conversation"]) == ("done", "re: count to three", "ticket-7")
    assert task == (await client.get(made.headers["location"])).json()
    listed = (await client.get("/api/v1/tasks", params={"status": "done"})).json()
    assert [row["id"] for row in listed["items"]] == [task["id"]]
    assert (await client.get("/api/v1/tasks", params={"status": "open"})).json()["items"] == []


async def test_tasks_of_one_name_are_one_conversation(house: ApiHouse) -> None:
    client = await house.caller("chat.use")
    for name in ("a", "a", "b", ""):
        made = await client.post("/api/v1/tasks", json={"text": "x", "conversation": name})
        await house.ended(client, made.json()["id"])
    places = [job.conversation_id for job in house.answers.ran]
    assert places[0] == places[1]
    assert len(set(places)) == 3


async def test_the_same_key_gives_the_same_task(house: ApiHouse) -> None:
    client, other = await house.caller("chat.use"), await house.caller("chat.use")
    key = {"Idempotency-Key": "order-1"}
    both = await asyncio.gather(*(client.post("/api/v1/tasks", json={"text": "x"}, headers=key) for _ in range(5)))
    assert sorted(answer.status_code for answer in both) == [200, 200, 200, 200, 201]
    assert len({answer.json()["id"] for answer in both}) == 1
    reused = await client.post("/api/v1/tasks", json={"text": "y"}, headers=key)
    assert (reused.status_code, reused.json()["code"]) == (409, "task.key_reused")
    theirs = await other.post("/api/v1/tasks", json={"text": "x"}, headers=key)
    assert theirs.status_code == 201
    assert theirs.json()["id"] != both[0].json()["id"]


async def test_a_key_outlives_a_restart(tmp_path: Path) -> None:
    key = {"Idempotency-Key": "order-1"}
    async with api_house(tmp_path) as house:
        secret = (await house.key("chat.use")).secret
        first = await house.client(secret).post("/api/v1/tasks", json={"text": "x"}, headers=key)
    async with api_house(tmp_path) as house:
        again = await house.client(secret).post("/api/v1/tasks", json={"text": "x"}, headers=key)
        assert again.status_code == 200
        assert again.json()["id"] == first.json()["id"]


async def test_a_task_is_cancelled(house: ApiHouse) -> None:
    client = await house.caller("chat.use")
    house.answers.gate.clear()
    made = (await client.post("/api/v1/tasks", json={"text": "long work"})).json()
    stopped = await client.post(f"/api/v1/tasks/{made['id']}/cancel")
    assert stopped.json()["status"] == "cancelled"
    assert (await client.post(f"/api/v1/tasks/{made['id']}/cancel")).json()["status"] == "cancelled"
    assert (await house.ended(client, made["id"]))["reason"] == "job.cancelled"


async def test_others_see_nothing_of_a_task(house: ApiHouse) -> None:
    mine, other = await house.caller("chat.use", "task.manage"), await house.caller("chat.use", "task.manage")
    watcher = await house.caller("chat.use", "trace.view")
    number = (await mine.post("/api/v1/tasks", json={"text": "x"})).json()["id"]
    for path, method in (("", "GET"), ("/cancel", "POST"), ("/events", "GET")):
        found = await other.request(method, f"/api/v1/tasks/{number}{path}")
        assert (found.status_code, found.json()["code"]) == (404, "job.unknown")
    assert (await other.get("/api/v1/tasks")).json()["items"] == []
    assert (await other.get("/api/v1/tasks", params={"everyone": True})).status_code == 403
    assert len((await watcher.get("/api/v1/tasks", params={"everyone": True})).json()["items"]) == 1
    assert (await watcher.get(f"/api/v1/tasks/{number}")).status_code == 200
    assert (await watcher.post(f"/api/v1/tasks/{number}/cancel")).status_code == 403


async def test_a_stream_shows_text_and_goes_on_where_it_was_cut(house: ApiHouse) -> None:
    steps = {name: asyncio.Event() for name in ("first", "second")}

    async def speak(work: Work) -> AsyncIterator[None]:
        work.tell("text", delta="Hello ")
        yield
        await steps["first"].wait()
        work.tell("text", delta="world")
        yield
        await steps["second"].wait()

    house.answers.stream = speak
    house.answers.say = lambda work: Ending(say=(Outgoing(kind="answer", text="Hello world"),))
    secret = (await house.key("chat.use")).secret
    number = (await house.client(secret).post("/api/v1/tasks", json={"text": "hi"})).json()["id"]
    path = f"/api/v1/tasks/{number}/events"

    one = Reader(house.app, path, secret)
    mark = events_of(await one.until(lambda text: "Hello " in text))[-1][1]
    await one.leave()
    steps["first"].set()
    two = Reader(house.app, path, secret, Last_Event_ID=mark)
    await two.until(lambda text: "world" in text)
    late = Reader(house.app, path, secret)
    await late.until(lambda text: "world" in text)
    lost = Reader(house.app, path, secret, Last_Event_ID="0.4.00000000")
    await lost.until(lambda text: "world" in text)
    steps["second"].set()
    told = [(kind, data.get("delta")) for kind, _, data in events_of(await two.whole()) if kind in ("text", "reset")]
    assert told == [("text", "world")]
    heard = [(kind, data.get("delta")) for kind, _, data in events_of(await lost.whole()) if kind in ("text", "reset")]
    assert heard[0] == ("reset", None)
    assert "".join(delta for kind, delta in heard if kind == "text") == "Hello world"
    assert events_of(await late.whole())[-1][2]["answer"] == "Hello world"


async def test_steps_come_once_also_over_a_cut(house: ApiHouse) -> None:
    going = asyncio.Event()

    async def work_on(work: Work) -> AsyncIterator[None]:
        async def act() -> str:
            return json.dumps({"text": "done", "ok": True})

        for name in ("look", "write"):
            await work.step(name, "tool", act, request="{}")
            work.tell("tool.ended", id="1", name=name, ok=True, result="", ms=1)
            yield
        await going.wait()

    house.answers.stream = work_on
    secret = (await house.key("chat.use")).secret
    number = (await house.client(secret).post("/api/v1/tasks", json={"text": "hi"})).json()["id"]
    one = Reader(house.app, f"/api/v1/tasks/{number}/events", secret)
    text = await one.until(lambda text: '"write"' in text)
    seen = [(kind, mark) for kind, mark, data in events_of(text) if kind == "step"]
    assert len(seen) == 2
    await one.leave()
    going.set()
    two = Reader(house.app, f"/api/v1/tasks/{number}/events", secret, Last_Event_ID=seen[0][1])
    assert [data["name"] for kind, _, data in events_of(await two.whole()) if kind == "step"] == ["write"]


async def test_a_callback_is_signed_and_repeated_until_it_is_taken(
    house: ApiHouse, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("channels.callbacks.PAUSES", (0, 0, 0))
    monkeypatch.setattr("channels.callbacks.LOOK", 0.05)
    receiver.answers = [500, 429]
    client = await house.caller("chat.use")
    body = {"text": "x", "callback": {"url": f"{receiver.server.base}/done", "secret": SECRET}}
    made = (await client.post("/api/v1/tasks", json=body)).json()
    assert made["callback"] == {"status": "pending", "attempts": 0, "error": ""}
    for call in await receiver.got(3):
        head = call.headers
        assert head["x-zhixing-signature"] == signature(SECRET, head["x-zhixing-timestamp"], call.body)
        assert head["x-zhixing-delivery"] == f"task-{made['id']}"
        told = json.loads(call.body)
        assert (told["event"], told["task"]["answer"]) == ("task.ended", "re: x")
    await until_callback(house, client, made["id"], "delivered")
    assert len(receiver.calls) == 3


async def test_a_refused_callback_is_given_up_with_its_reason(house: ApiHouse, receiver: Receiver) -> None:
    receiver.answers = [410]
    client = await house.caller("chat.use")
    body = {"text": "x", "callback": {"url": receiver.server.base, "secret": SECRET}}
    made = (await client.post("/api/v1/tasks", json=body)).json()
    found = await until_callback(house, client, made["id"], "failed")
    assert found["error"] == "callback.refused"


async def test_a_callback_comes_after_a_restart_and_for_a_cancelled_task(tmp_path: Path, receiver: Receiver) -> None:
    body = {"text": "x", "callback": {"url": receiver.server.base, "secret": SECRET}}
    async with api_house(tmp_path) as house:
        house.answers.gate.clear()
        secret = (await house.key("chat.use")).secret
        number = (await house.client(secret).post("/api/v1/tasks", json=body)).json()["id"]
    async with api_house(tmp_path) as house:
        (call,) = await receiver.got(1)
        assert json.loads(call.body)["task"]["id"] == number
        house.answers.gate.clear()
        client = house.client(secret)
        number = (await client.post("/api/v1/tasks", json=body)).json()["id"]
        await client.post(f"/api/v1/tasks/{number}/cancel")
        assert json.loads((await receiver.got(2))[1].body)["task"]["status"] == "cancelled"


async def test_a_callback_reaches_no_private_address_for_a_weak_key(tmp_path: Path) -> None:
    async with api_house(tmp_path) as house:
        house.house.egress._allow_local = False
        weak, strong = await house.caller("chat.use"), await house.caller("*")
        body = {"text": "x", "callback": {"url": "https://127.0.0.1:1/", "secret": SECRET}}
        refused = (await weak.post("/api/v1/tasks", json=body)).json()
        tried = (await strong.post("/api/v1/tasks", json=body)).json()
        assert (await until_callback(house, weak, refused["id"], "failed"))["error"] == "egress.private"
        found = await until_callback(house, strong, tried["id"], "pending", attempts=1)
        assert found["error"] == "egress.connect"


async def until_callback(
    house: ApiHouse, client: object, number: int, status: str, attempts: int = 0
) -> dict[str, object]:
    async with asyncio.timeout(20):
        while True:
            found = (await client.get(f"/api/v1/tasks/{number}")).json()["callback"]  # type: ignore[attr-defined]
            if found["status"] == status and found["attempts"] >= attempts:
                return dict(found)
            await asyncio.sleep(0.02)


async def test_a_bot_sends_the_answer(house: ApiHouse, receiver: Receiver) -> None:
    await house.webhook_bot(f"{receiver.server.base}/in")
    weak, client = await house.caller("chat.use"), await house.caller("chat.use", "message.send")
    body = {"text": "report", "bot": "alerts"}
    assert (await weak.post("/api/v1/tasks", json=body)).status_code == 403
    assert (await client.post("/api/v1/tasks", json={**body, "bot": "nobody"})).status_code == 404
    number = (await client.post("/api/v1/tasks", json=body)).json()["id"]
    (call,) = await receiver.got(1)
    assert json.loads(call.body)["text"] == "re: report"
    async with asyncio.timeout(20):
        while not (sent := (await client.get(f"/api/v1/tasks/{number}")).json()["deliveries"])[0]["vendor_id"]:
            await asyncio.sleep(0.02)
    assert sent[0]["status"] == "delivered"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"text": ""}, "text"),
        ({"text": "   "}, "text"),
        ({"text": "x" * 20_001}, "text"),
        ({"text": "\ud800"}, "text"),
        ({"text": "a\x00b"}, "text"),
        ({"text": "x", "conversation": "~mine"}, "conversation"),
        ({"text": "x", "conversation": "a\nb"}, "conversation"),
        ({"text": "x", "model": "nobody/none"}, "model"),
        ({"text": "x", "target": "user:1"}, "bot"),
        ({"text": "x", "callback": {"url": "ftp://a", "secret": SECRET}}, "callback.url"),
        ({"text": "x", "callback": {"url": "https://a.example", "secret": "short"}}, "callback.secret"),
        ({"text": "x", "more": 1}, "more"),
        ({"text": 7}, "text"),
        ([], "body"),
    ],
)
async def test_wrong_input_is_refused_at_its_field(house: ApiHouse, body: object, field: str) -> None:
    client = await house.caller("chat.use")
    found = await client.post("/api/v1/tasks", content=json.dumps(body), headers={"content-type": "application/json"})
    assert found.status_code == 422
    assert found.headers["content-type"] == "application/problem+json"
    assert [one["field"] for one in found.json()["fields"]] == [field]
    assert "input" not in found.text.replace("api.input", "")
    assert house.answers.ran == []
