"""The other nouns of the API: messages, bots, models, memory, health, audit, usage."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.api_house import ApiHouse, api_house
from tests.fakes.quick_http import QuickServer, Request, Response


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[ApiHouse]:
    async with api_house(tmp_path) as made:
        yield made


@pytest.fixture
async def vendor() -> AsyncIterator[tuple[QuickServer, list[Request]]]:
    calls: list[Request] = []

    def take(request: Request) -> Response:
        calls.append(request)
        return Response(status=200)

    server = QuickServer(take)
    await server.start()
    yield server, calls
    await server.stop()


async def test_a_bot_says_something_once(house: ApiHouse, vendor: tuple[QuickServer, list[Request]]) -> None:
    server, calls = vendor
    await house.webhook_bot(f"{server.base}/in")
    client, other = await house.caller("message.send"), await house.caller("message.send")
    body, key = {"bot": "alerts", "text": "**disk** is full", "title": "ops"}, {"Idempotency-Key": "alert-1"}
    made = [await client.post("/api/v1/messages", json=body, headers=key) for _ in range(2)]
    assert [one.status_code for one in made] == [201, 200]
    number = made[0].json()["id"]
    assert made[1].json()["id"] == number
    reused = await client.post("/api/v1/messages", json={**body, "text": "x"}, headers=key)
    assert (reused.status_code, reused.json()["code"]) == (409, "task.key_reused")
    async with asyncio.timeout(20):
        while (found := (await client.get(f"/api/v1/messages/{number}")).json())["status"] != "delivered":
            await asyncio.sleep(0.02)
    assert found["vendor_id"]
    assert [json.loads(call.body)["text"] for call in calls] == ["**disk** is full"]
    assert (await other.get(f"/api/v1/messages/{number}")).status_code == 404
    assert (await other.get("/api/v1/messages")).json()["items"] == []
    assert [one["id"] for one in (await client.get("/api/v1/messages")).json()["items"]] == [number]
    watcher = await house.caller("trace.view", "delivery.resend")
    assert (await watcher.get(f"/api/v1/messages/{number}")).status_code == 200
    assert (await watcher.post("/api/v1/messages", json=body)).status_code == 403
    assert (await watcher.post(f"/api/v1/messages/{number}/resend")).json() == {"resent": False}
    assert (await client.post(f"/api/v1/messages/{number}/resend")).status_code == 403


async def test_messages_to_nowhere_are_refused(house: ApiHouse) -> None:
    client = await house.caller("message.send")
    body = {"bot": "alerts", "text": "x"}
    assert (await client.post("/api/v1/messages", json=body)).json()["code"] == "bot.unknown"
    admin = await house.caller("*")
    app = {"app_id": "cli_a", "api_base": "https://open.feishu.cn"}
    secrets = {"app_secret": "s", "encrypt_key": "e", "verification_token": "v"}
    draft = {"name": "hr-bot", "type": "feishu", "mode": "webhook", "settings": app, "secrets": secrets}
    assert (await admin.post("/api/v1/channels", json=draft)).status_code == 201
    wrong = await client.post("/api/v1/messages", json={"bot": "hr-bot", "text": "x", "target": "???"})
    assert (wrong.status_code, wrong.json()["fields"][0]["field"]) == (422, "target")


async def test_bots_are_made_changed_paused_and_removed(
    house: ApiHouse, vendor: tuple[QuickServer, list[Request]]
) -> None:
    client, viewer = await house.caller("bot.view", "bot.manage"), await house.caller("bot.view")
    bot = {"type": "webhook", "mode": "push", "settings": {"endpoint": vendor[0].base}, "secrets": {"secret": "s" * 20}}
    path = "/api/v1/channels/alerts"
    made = await client.post("/api/v1/channels", json={**bot, "name": "alerts"})
    assert made.status_code == 201
    assert "s" * 20 not in made.text
    again = await client.post("/api/v1/channels", json={**bot, "name": "alerts"})
    assert (again.status_code, again.json()["code"]) == (409, "bot.name_taken")
    assert (await client.post(f"{path}/pause")).json()["paused_at"]
    assert (await client.post(f"{path}/resume")).json()["paused_at"] is None
    probes = (await client.post(f"{path}/probe")).json()["items"]
    assert all({"name", "status", "message", "remedy"} <= set(probe) for probe in probes)
    assert (await client.put(path, json={**bot, "events": ["task.completed"]})).json()["events"] == ["task.completed"]
    assert (await client.put(path, json={**bot, "settings": {"endpoint": "nonsense"}})).status_code == 422
    for call in (viewer.post(f"{path}/pause"), viewer.put(path, json=bot), viewer.delete(path)):
        assert (await call).status_code == 403
    assert [one["name"] for one in (await viewer.get("/api/v1/channels")).json()["items"]] == ["alerts"]
    assert (await client.delete(path)).status_code == 204
    assert (await viewer.get(path)).status_code == 404


async def test_models_are_listed_tested_and_switched(house: ApiHouse) -> None:
    client, viewer = await house.caller("*"), await house.caller("model.view", "chat.use")
    (row,) = (await viewer.get("/api/v1/models")).json()["items"]
    assert (row["name"], row["type"], row["models"]) == ("demo", "demo", ["demo"])
    new = {"type": "openai", "endpoint": "https://models.example/v1", "keys": ["sk-secret-of-test"], "models": ["big"]}
    made = await client.put("/api/v1/models/other", json=new)
    assert made.status_code == 200
    assert "sk-secret-of-test" not in made.text
    assert made.json()["key_tail"] == "test"
    assert [one["ref"] for one in (await viewer.get("/api/v1/models/choices")).json()["items"]] == ["demo", "other/big"]
    assert (await client.put("/api/v1/models/default", json={"ref": "other/big"})).status_code == 204
    found = (await viewer.get("/api/v1/models/choices")).json()["items"]
    assert [one["ref"] for one in found if one["default"]] == ["other/big"]
    assert (await client.put("/api/v1/models/default", json={"ref": "none"})).status_code == 404
    tested = (await client.post("/api/v1/models/demo/test", json={})).json()
    assert tested["ok"]
    assert (await client.post("/api/v1/models/demo/test")).json()["ok"]
    assert (await client.post("/api/v1/models/nobody/test")).status_code == 404
    assert (await client.delete("/api/v1/models/other")).status_code == 204
    for call in (viewer.post("/api/v1/models/demo/test"), viewer.delete("/api/v1/models/demo")):
        assert (await call).status_code == 403


async def test_schedules_are_made_run_and_removed(house: ApiHouse) -> None:
    client, viewer = await house.caller("*"), await house.caller("schedule.view")
    plan = {"kind": "message", "expression": "0 9 * * 1-5", "task": {"text": "good morning"}}
    path = "/api/v1/schedules/greeting"
    made = await client.post("/api/v1/schedules", json={**plan, "name": "greeting"})
    assert made.status_code == 201
    assert (made.json()["state"], made.json()["task"]["text"]) == ("on", "good morning")
    again = await client.post("/api/v1/schedules", json={**plan, "name": "greeting"})
    assert (again.status_code, again.json()["code"]) == (409, "schedule.name_taken")
    assert [row["name"] for row in (await viewer.get("/api/v1/schedules")).json()["items"]] == ["greeting"]
    assert (await client.put(path, json={**plan, "expression": "0 10 * * *"})).json()["expression"] == "0 10 * * *"
    wrong = await client.put(path, json={**plan, "expression": "nonsense"})
    assert (wrong.status_code, wrong.json()["fields"][0]["field"]) == (422, "expression")
    run = await client.post(f"{path}/run")
    assert run.status_code == 202
    async with asyncio.timeout(20):
        while (found := (await viewer.get(f"/api/v1/runs/{run.json()['id']}")).json())["state"] != "ok":
            await asyncio.sleep(0.02)
    assert found["output"] == "good morning"
    assert len((await viewer.get(f"{path}/runs")).json()["items"]) == 1
    assert (await viewer.get("/api/v1/runs/upcoming")).json()["items"][0]["schedule"] == "greeting"
    assert len((await viewer.get("/api/v1/runs/preview", params={"expression": "0 9 * * *"})).json()["items"]) == 10
    tried = (await client.post(f"{path}/try", json=plan)).json()
    assert [step["what"] for step in tried["steps"]] == ["good morning"]
    assert (await client.post(f"{path}/pause")).json()["state"] == "paused"
    assert (await client.post(f"{path}/resume")).json()["state"] == "on"
    assert (await client.post(f"/api/v1/runs/{found['id']}/cancel")).json() == {"stopped": False}
    for call in (viewer.post(f"{path}/run"), viewer.put(path, json=plan), viewer.delete(path)):
        assert (await call).status_code == 403
    assert (await client.delete(path)).status_code == 204
    assert (await viewer.get(path)).status_code == 404


async def test_usage_and_limits(house: ApiHouse) -> None:
    client, viewer = await house.caller("model.view", "model.manage"), await house.caller("model.view")
    limits = {"bots": {"": 50.0}, "people": {"user:1": 5.0}}
    assert (await client.put("/api/v1/usage/limits", json=limits)).json() == limits
    assert (await viewer.get("/api/v1/usage/limits")).json() == limits
    assert (await viewer.put("/api/v1/usage/limits", json=limits)).status_code == 403
    assert (await client.put("/api/v1/usage/limits", json={"bots": {"a": -1}})).status_code == 422
    assert (await viewer.get("/api/v1/usage", params={"by": "bot", "days": 7})).json()["items"] == []
    assert (await viewer.get("/api/v1/usage", params={"by": "colour"})).status_code == 422


async def test_memory_is_kept_found_and_forgotten_each_for_itself(house: ApiHouse) -> None:
    one, two, admin = await house.caller("memory.own"), await house.caller("memory.own"), await house.caller("*")
    fact = {"text": "The server room is on the fourth floor"}
    number = (await one.post("/api/v1/memory", json=fact)).json()["id"]
    hits = (await one.post("/api/v1/memory/search", json={"query": "server room"})).json()["items"]
    assert [hit["item"]["id"] for hit in hits] == [number]
    assert (await two.post("/api/v1/memory/search", json={"query": "server room"})).json()["items"] == []
    places = (await admin.get("/api/v1/memory/places")).json()["items"]
    place = next(item["id"] for item in places if item["id"])
    assert len((await admin.get("/api/v1/memory", params={"place": place})).json()["items"]) == 1
    assert (await two.get("/api/v1/memory", params={"place": place})).status_code == 404
    assert (await two.delete(f"/api/v1/memory/{number}")).status_code == 404
    wish = {"query": "server room"}
    dry = (await one.post("/api/v1/memory/forget", json=wish)).json()
    assert (dry["dry_run"], dry["total"]) == (True, 1)
    assert (await one.post("/api/v1/memory/forget", json={**wish, "dry_run": False})).json()["total"] == 1
    assert (await one.get("/api/v1/memory")).json()["items"] == []
    again = (await one.post("/api/v1/memory", json=fact)).json()["id"]
    assert (await one.delete(f"/api/v1/memory/{again}")).json()["total"] == 1
    assert (await one.post("/api/v1/memory", json={"text": " "})).status_code == 422


async def test_the_agent_remembers_for_the_caller(tmp_path: Path) -> None:
    async with api_house(tmp_path, agent=True) as house:
        client = await house.caller("chat.use", "memory.own")
        made = await client.post("/api/v1/tasks", json={"text": "请记住：机房在四楼"})
        assert (await house.ended(client, made.json()["id"]))["status"] == "done"
        found = (await client.get("/api/v1/memory")).json()["items"]
        assert any("机房" in row["text"] for row in found)


async def test_health_audit_and_overview(house: ApiHouse) -> None:
    client, plain = await house.caller("*"), await house.caller("health.view")
    found = (await client.get("/api/v1/health")).json()
    assert found["ready"]
    assert found["checks"]
    assert all(check["title"] and not check["title"].startswith("check.") for check in found["checks"])
    assert (await plain.get("/api/v1/health")).json()["checks"] == []
    assert (await client.get("/api/v1/overview")).json()["total"] == 0
    acts = (await client.get("/api/v1/audit", params={"limit": 1})).json()
    assert acts["next"] == acts["items"][0]["id"]
    older = (await client.get("/api/v1/audit", params={"before": acts["next"]})).json()["items"]
    assert all(row["id"] < acts["next"] for row in older)
    assert (await client.post("/api/v1/audit/verify")).json()["whole"]
    assert (await plain.get("/api/v1/audit")).status_code == 403


async def test_lists_go_on_page_by_page(house: ApiHouse) -> None:
    client = await house.caller("chat.use")
    for n in range(5):
        await house.ended(client, (await client.post("/api/v1/tasks", json={"text": f"n{n}"})).json()["id"])
    seen: list[int] = []
    before = None
    while True:
        params = {"limit": 2} | ({"before": before} if before else {})
        found = (await client.get("/api/v1/tasks", params=params)).json()
        seen += [row["id"] for row in found["items"]]
        before = found["next"]
        if before is None:
            break
    assert len(seen) == 5
    assert seen == sorted(seen, reverse=True)


async def test_the_contract_is_told_to_everybody_and_loads_nothing(house: ApiHouse) -> None:
    client = house.client(lang="zh-CN")
    made = (await client.get("/api/v1/openapi.json")).json()
    assert made["openapi"].startswith("3.1")
    for path, methods in made["paths"].items():
        for method, operation in methods.items():
            assert {"401", "403", "404", "409", "413", "422", "429"} <= set(operation["responses"])
            open_ = path == "/api/v1/token"
            assert bool(operation.get("security")) != open_, (method, path)
    page = await client.get("/api/v1/docs")
    assert page.headers["content-type"].startswith("text/html")
    assert "知行接口" in page.text
    assert "http://" not in page.text
    assert "https://" not in page.text
    assert "<script" not in page.text
