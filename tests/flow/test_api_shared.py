"""The API on a shared PostgreSQL: two processes' worth of house, one key, one task, one callback."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.api_house import api_house
from tests.fakes.quick_http import QuickServer, Request, Response
from tests.postgres import Cluster

pytestmark = [pytest.mark.pg, pytest.mark.timeout(120)]


@pytest.fixture
def address(postgres: Cluster) -> Iterator[str]:
    name = postgres.database()
    yield postgres.url(name)
    postgres.drop(name)


async def test_one_request_at_two_processes_is_one_task(address: str, tmp_path: Path) -> None:
    calls: list[Request] = []

    def take(request: Request) -> Response:
        calls.append(request)
        return Response()

    server = QuickServer(take)
    await server.start()
    body = {"text": "x", "callback": {"url": server.base, "secret": "a-secret-of-the-test"}}
    key = {"Idempotency-Key": "order-1"}
    async with api_house(tmp_path, database_url=address) as one, api_house(tmp_path, database_url=address) as two:
        secret = (await one.key("chat.use")).secret
        clients = [one.client(secret), two.client(secret)]
        asked = [client.post("/api/v1/tasks", json=body, headers=key) for client in clients * 3]
        found = await asyncio.gather(*asked)
        assert sorted(answer.status_code for answer in found) == [200] * 5 + [201]
        (number,) = {answer.json()["id"] for answer in found}
        for house, client in zip((one, two), clients, strict=True):
            assert (await house.ended(client, number))["answer"] == "re: x"
        async with asyncio.timeout(20):
            while (await clients[0].get(f"/api/v1/tasks/{number}")).json()["callback"]["status"] != "delivered":
                await asyncio.sleep(0.05)
        assert len(calls) == 1
        talk = {"messages": [{"role": "user", "content": "one"}]}
        said = (await clients[0].post("/v1/chat/completions", json=talk)).json()["choices"][0]["message"]
        talk["messages"] += [said, {"role": "user", "content": "two"}]
        assert (await clients[1].post("/v1/chat/completions", json=talk)).status_code == 200
        listed = (await clients[1].get("/api/v1/tasks")).json()["items"]
        assert len(listed) == 3
        assert (await clients[0].get("/api/v1/tasks", params={"status": "open"})).json()["items"] == []
    await server.stop()
