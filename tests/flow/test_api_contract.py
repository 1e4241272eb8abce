"""The contract walked whole: no way in without key and right, no defect, and no answer that it does not name."""

from __future__ import annotations

import json
import random
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.api_house import ApiHouse, api_house

pytestmark = pytest.mark.timeout(120)
NASTY_TEXTS = [
    "",
    " ",
    "\x00",
    "\ud800",
    "\u202e\u200b",
    "💥" * 50,
    "'; DROP TABLE job; --",
    "%00%ff",
    "../../etc/passwd",
    "{{7*7}}${7*7}",
    "-1",
    "null",
    "x" * 100_001,
]
NASTY = [None, True, -1, 0, 2**63, -(2**63) - 1, 1e308, [], {}, [[[[]]]], {"a": {"b": None}}, *NASTY_TEXTS]
NASTY_BODIES = [b"", b"{", b"[]", b"null", b"7", b"\xff\xfe", b"[" * 5000, b'{"a":' * 3000, b'"\\ud800"', b"\x00" * 10]
NASTY_PATHS = ["0", "-1", "x", "%00", "%ff", "..%2f..", "1e3", "9" * 40, "%F0%9F%92%A5", "'%20OR%201=1"]
EACH = 14


@dataclass(frozen=True)
class Operation:
    """One operation of the contract."""

    method: str
    path: str
    raw: dict[str, Any]
    schemas: dict[str, Any]

    @property
    def open(self) -> bool:
        return not self.raw.get("security")

    @property
    def body(self) -> dict[str, Any] | None:
        content = self.raw.get("requestBody", {}).get("content", {})
        return content.get("application/json", {}).get("schema")  # type: ignore[no-any-return]

    def place(self, value: str = "1") -> str:
        names = [one["name"] for one in self.raw.get("parameters", ()) if one["in"] == "path"]
        path = self.path
        for name in names:
            path = path.replace("{" + name + "}", value).replace("{" + name + ":path}", value)
        return path

    def resolve(self, schema: dict[str, Any]) -> dict[str, Any]:
        if "$ref" in schema:
            return dict(self.schemas[schema["$ref"].rsplit("/", 1)[1]])
        return schema

    def sample(self, schema: dict[str, Any]) -> Any:
        """A value that fits, the simplest."""
        schema = self.resolve(schema)
        for choice in ("anyOf", "oneOf"):
            if choice in schema:
                return self.sample(schema[choice][0])
        if "const" in schema:
            return schema["const"]
        if "enum" in schema:
            return schema["enum"][0]
        match schema.get("type"):
            case "object":
                wanted = schema.get("required", ())
                return {name: self.sample(schema["properties"][name]) for name in wanted}
            case "array":
                return [self.sample(schema["items"])] if schema.get("minItems") else []
            case "string":
                return "a" * max(1, int(schema.get("minLength", 1)))
            case "integer" | "number":
                return schema.get("minimum", 1)
            case "boolean":
                return False
        return None


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[ApiHouse]:
    async with api_house(tmp_path) as made:
        yield made


async def operations(house: ApiHouse) -> list[Operation]:
    made = (await house.client().get("/api/v1/openapi.json")).json()
    schemas = made["components"]["schemas"]
    return [
        Operation(method.upper(), path, raw, schemas)
        for path, methods in made["paths"].items()
        for method, raw in methods.items()
    ]


def fits(operation: Operation, answer: httpx.Response) -> None:
    """The answer is one that the contract names, in the form that it names."""
    told = operation.raw["responses"].get(str(answer.status_code))
    where = f"{operation.method} {answer.request.url}: {answer.status_code} {answer.text[:300]}"
    assert answer.status_code < 500, where
    assert told is not None, where
    kinds = told.get("content")
    if kinds:
        assert answer.headers["content-type"].split(";")[0] in kinds, where
    if answer.status_code >= 400:
        body = answer.json()
        code = body["error"]["code"] if operation.path.startswith("/v1/") else body["code"]
        assert "." in code, where


async def ask(client: httpx.AsyncClient, operation: Operation, *, path: str = "", **more: Any) -> httpx.Response:
    return await client.request(operation.method, path or operation.place(), **more)


def valid(operation: Operation) -> dict[str, Any]:
    wanted = [one for one in operation.raw.get("parameters", ()) if one["in"] == "query" and one.get("required")]
    params = {"params": {one["name"]: operation.sample(one["schema"]) for one in wanted}} if wanted else {}
    return {**params, "json": operation.sample(operation.body)} if operation.body is not None else params


async def test_nothing_is_open_without_a_key_or_a_right(house: ApiHouse) -> None:
    nobody, powerless = house.client(), await house.caller("skill.view")
    closed = [operation for operation in await operations(house) if not operation.open]
    assert len(closed) > 35
    for operation in closed:
        more = valid(operation)
        none = await ask(nobody, operation, **more)
        assert none.status_code == 401, (operation.method, operation.path)
        fits(operation, none)
        weak = await ask(powerless, operation, **more)
        assert weak.status_code == 403, (operation.method, operation.path, weak.status_code, weak.text[:200])
        fits(operation, weak)
    assert house.answers.ran == []


async def test_only_the_token_is_open(house: ApiHouse) -> None:
    assert [one.path for one in await operations(house) if one.open] == ["/api/v1/token"]


def hostile(operation: Operation, dice: random.Random) -> Iterator[dict[str, Any]]:
    """Requests that are wrong in one place each, and some that are wrong all over."""
    for value in dice.sample(NASTY_PATHS, 4):
        yield {"path": operation.place(value), **valid(operation)}
    for one in operation.raw.get("parameters", ()):
        for value in dice.sample(NASTY_TEXTS, 4):
            text = value.encode("utf-8", "replace").decode()[:5000]
            if one["in"] == "query":
                yield {**valid(operation), "params": {one["name"]: text}}
            elif one["in"] == "header" and text.isprintable() and text.isascii():
                yield {"headers": {one["name"]: text or "~"}, **valid(operation)}
    if operation.body is None:
        return
    for raw in dice.sample(NASTY_BODIES, 5):
        yield {"content": raw, "headers": {"content-type": "application/json"}}
    yield {"content": b"a=1", "headers": {"content-type": "application/x-www-form-urlencoded"}}
    schema = operation.resolve(operation.body)
    names = [*schema.get("properties", {}), "extra"]
    for _ in range(EACH):
        body = operation.sample(operation.body)
        if isinstance(body, dict):
            for name in dice.sample(names, min(len(names), dice.choice((1, 1, 1, 3)))):
                body[name] = dice.choice(NASTY)
        text = json.dumps(body, default=str)
        yield {"content": text.encode(), "headers": {"content-type": "application/json"}}


@pytest.mark.parametrize("seed", [1, 2])
async def test_no_defect_whatever_is_sent(house: ApiHouse, seed: int) -> None:
    dice, client, sent = random.Random(seed), await house.caller("*"), 0
    for operation in await operations(house):
        for request in hostile(operation, dice):
            fits(operation, await ask(client, operation, **request))
            sent += 1
    assert sent > 300
    assert (await client.get("/api/v1/health")).json()["ready"]
