"""Who may do what by API: keys, tokens, rights, pace, sizes; refusals in the caller's language."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import jwt
import pyotp
import pytest
from sqlalchemy import update

from routes.api.entrance import MOST_BYTES
from security.keys import key_t
from security.throttle import Rate
from storage.principal import ROLES, principal
from tests.api_house import OWNER, PASSWORD, ApiHouse, Reader, api_house

TOKEN = {"name": "berta", "password": PASSWORD}


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[ApiHouse]:
    async with api_house(tmp_path) as made:
        yield made


async def change(house: ApiHouse, number: int, **values: Any) -> None:
    query = update(key_t).where(key_t.c.id == number).values(**values)
    await house.house.db.write(lambda c: c.execute(query).rowcount)


async def token(house: ApiHouse, **more: Any) -> Any:
    return await house.client().post("/api/v1/token", json={**TOKEN, **more})


# ---- keys


@pytest.mark.parametrize(
    "header", ["", "Bearer", "Bearer ", "Basic zx_abc", "Bearer zx_wrong", "Bearer zx_\xe9", "zx_a"]
)
async def test_nothing_is_told_without_a_key(house: ApiHouse, header: str) -> None:
    raw = [("authorization", header.encode("latin-1"))] if header else []
    found = await house.client().get("/api/v1/tasks", headers=raw)
    assert found.status_code == 401
    assert found.headers["www-authenticate"].startswith("Bearer")
    assert found.json()["code"] in ("api.no_key", "key.wrong")


async def test_the_key_comes_before_the_body_is_read(house: ApiHouse) -> None:
    found = await house.client().post("/api/v1/tasks", content=b"{" * 5_000_000)
    assert found.status_code == 401


async def test_a_key_is_kept_as_a_hash_only(house: ApiHouse, tmp_path: Path) -> None:
    secret = (await house.key("chat.use")).secret
    await house.client(secret).get("/api/v1/tasks")
    kept = b"".join(path.read_bytes() for path in (tmp_path / "data" / "db").glob("zhixing.db*"))
    assert secret.encode() not in kept
    assert secret[3:].encode() not in kept


async def test_a_key_ends_when_revoked_or_over(house: ApiHouse) -> None:
    one, two = await house.key("chat.use"), await house.key("chat.use", days=1)
    assert (await house.client(one.secret).get("/api/v1/tasks")).status_code == 200
    await house.house.keys.revoke(OWNER, one.row.id)
    await change(house, two.row.id, expires_at=house.house.clock.ms())
    codes = [(await house.client(key.secret).get("/api/v1/tasks")).json()["code"] for key in (one, two)]
    assert codes == ["key.revoked", "key.expired"]


async def test_a_key_holds_no_more_than_its_persons_role_of_the_moment(house: ApiHouse) -> None:
    number = await house.person("berta", "admin")
    berta = principal(id=f"user:{number}", name="berta", role="admin")
    client = house.client((await house.key("*", who=berta)).secret)
    assert (await client.get("/api/v1/audit")).status_code == 200
    await house.house.people.set_role(OWNER, number, "operator")
    assert (await client.get("/api/v1/audit")).status_code == 403
    assert (await client.get("/api/v1/channels")).status_code == 200
    await house.house.people.disable(OWNER, number)
    assert (await client.get("/api/v1/channels")).json()["code"] == "key.revoked"


async def test_a_key_makes_no_keys_and_nobody_gives_what_they_do_not_hold(house: ApiHouse) -> None:
    number = await house.person("berta", "admin")
    by_key = await house.caller("*")
    new: dict[str, Any] = {"name": "child", "scopes": ["chat.use"]}
    assert (await by_key.post("/api/v1/keys", json=new)).status_code == 403
    assert number
    berta = house.client((await token(house)).json()["access_token"])
    assert (await berta.post("/api/v1/keys", json=new)).status_code == 201
    too_high = await berta.post("/api/v1/keys", json={**new, "scopes": ["owner.manage"]})
    assert (too_high.status_code, too_high.json()["code"]) == (403, "key.scope_high")
    narrow = house.client((await token(house, scopes=["key.manage", "chat.use"])).json()["access_token"])
    for scopes in (["*"], ["bot.manage"]):
        assert (await narrow.post("/api/v1/keys", json={**new, "scopes": scopes})).status_code == 403
    for scopes in ([], ["no.such"], [" "]):
        assert (await berta.post("/api/v1/keys", json={**new, "scopes": scopes})).status_code == 422


async def test_keys_are_listed_without_secrets_and_revoked(house: ApiHouse) -> None:
    await house.person("berta", "admin")
    berta = house.client((await token(house)).json()["access_token"])
    made = (await berta.post("/api/v1/keys", json={"name": "ci", "scopes": ["chat.use"], "days": 30})).json()
    listed = await berta.get("/api/v1/keys")
    assert made["secret"] not in listed.text
    (row,) = listed.json()["items"]
    assert (row["name"], row["tail"], row["owner"], row["state"]) == ("ci", made["secret"][-4:], "berta", "live")
    for _ in range(2):
        assert (await berta.delete(f"/api/v1/keys/{row['id']}")).json()["state"] == "revoked"
    assert (await berta.delete("/api/v1/keys/999")).status_code == 404
    acts = [one["action"] for one in (await berta.get("/api/v1/audit", params={"action": "key."})).json()["items"]]
    assert acts == ["key.revoke", "key.create"]


# ---- tokens


async def test_a_person_gets_a_token_and_leaves_no_session(house: ApiHouse) -> None:
    number = await house.person("berta", "operator")
    made = (await token(house)).json()
    assert (made["token_type"], made["expires_in"]) == ("Bearer", 600)
    assert set(made["scopes"]) == ROLES["operator"]
    client = house.client(made["access_token"])
    assert (await client.get("/api/v1/channels")).status_code == 200
    assert (await client.get("/api/v1/audit")).status_code == 403
    assert [live for live in house.house.sessions._live.values() if live.user_id == number] == []
    narrow = house.client((await token(house, scopes=["chat.use"])).json()["access_token"])
    assert (await narrow.get("/api/v1/tasks")).status_code == 200
    assert (await narrow.get("/api/v1/channels")).status_code == 403
    assert (await token(house, scopes=["audit.view"])).status_code == 403


async def test_guessing_is_limited_as_at_the_login(house: ApiHouse) -> None:
    await house.person("berta", "member")
    codes = [(await token(house, password="wrong")).status_code for _ in range(8)]
    assert codes[:4] == [401] * 4
    assert codes[-1] == 429
    locked = await token(house)
    assert (locked.status_code, locked.json()["code"]) == (429, "login.locked")
    assert int(locked.headers["retry-after"]) > 0


async def test_a_code_is_needed_where_the_account_has_one(house: ApiHouse) -> None:
    await house.person("berta", "member")
    account, sessions = house.house.account, house.house.sessions
    step = await house.house.sign_in.password("berta", PASSWORD, ip="127.0.0.1", agent="test")
    live = sessions.get(step.sid)
    assert live is not None
    app = pyotp.TOTP((await account.totp_begin(live.who, PASSWORD)).grouped.replace(" ", ""))
    recovery = await account.totp_confirm(live.who, app.now())
    assert (await token(house)).json()["code"] == "login.code_needed"
    assert (await token(house, code="000000")).json()["code"] == "code.wrong"
    assert (await token(house, code=app.now())).json()["code"] == "code.used"
    assert (await token(house, code=recovery[0])).status_code == 200


@pytest.mark.parametrize("act", ["password", "role", "disable"])
async def test_a_token_ends_at_once_when_the_person_changes(house: ApiHouse, act: str) -> None:
    number = await house.person("berta", "member")
    client = house.client((await token(house)).json()["access_token"])
    assert (await client.get("/api/v1/tasks")).status_code == 200
    people = house.house.people
    if act == "password":
        await people.reset_password(OWNER, number, "another-Pass-77-word")
    elif act == "role":
        await people.set_role(OWNER, number, "operator")
    else:
        await people.disable(OWNER, number)
    assert (await client.get("/api/v1/tasks")).json()["code"] == "token.expired"


@pytest.mark.filterwarnings("ignore::jwt.warnings.InsecureKeyLengthWarning")
async def test_forged_tokens_are_refused(house: ApiHouse) -> None:
    number = await house.person("berta", "admin")
    good = (await token(house)).json()["access_token"]
    tokens = house.house.tokens
    key, kid = tokens._key, tokens._kid
    claims = jwt.decode(good, key, algorithms=["HS256"], audience="zhixing-api")
    head, body, _ = good.split(".")

    def signed(by: bytes = key, kid: str = kid, alg: str = "HS256", **more: Any) -> str:
        values = {name: value for name, value in {**claims, **more}.items() if value is not None}
        return str(jwt.encode(values, by, alg, headers={"kid": kid}))

    def bare(**head: str) -> str:
        return base64.urlsafe_b64encode(json.dumps(head).encode()).decode().rstrip("=")

    now = claims["iat"]
    forged = {
        "none": f"{bare(alg='none', typ='JWT', kid=kid)}.{body}.",
        "None": f"{bare(alg='None', kid=kid)}.{body}.",
        "cut": f"{head}.{body}.",
        "other key": signed(b"x" * 32),
        "empty key": signed(b"\x00" * 32),
        "other kid": signed(kid="other"),
        "512": signed(alg="HS512"),
        "aud": signed(aud="other"),
        "no aud": signed(aud=None),
        "iss": signed(iss="other"),
        "no exp": signed(exp=None),
        "no sv": signed(sv=None),
        "text sv": signed(sv="1"),
        "other version": signed(sv=claims["sv"] + 1),
        "nobody": signed(sub="user:999"),
        "not a number": signed(sub="user:x"),
        "expired": signed(exp=now - 31),
        "from the future": signed(iat=now + 100),
        "float": signed(exp=float(now + 100)),
        "embedded": f"{bare(alg='HS256', kid=kid, jwk='{}')}.{body}.{good.split('.')[2]}",
        "long": good + "a" * 5000,
    }
    assert number
    for name, value in forged.items():
        found = await house.client(value).get("/api/v1/tasks")
        assert (name, found.status_code) == (name, 401)
    assert (await house.client(signed()).get("/api/v1/tasks")).status_code == 200


# ---- pace, size, words


async def test_a_caller_who_is_too_fast_waits(tmp_path: Path) -> None:
    rates = {"caller": Rate(per_second=0.01, at_once=3), "stranger": Rate(per_second=0.01, at_once=2)}
    async with api_house(tmp_path, rates=rates) as house:
        client, other = await house.caller("chat.use"), await house.caller("chat.use")
        codes = [(await client.get("/api/v1/tasks")).status_code for _ in range(5)]
        assert codes == [200, 200, 200, 429, 429]
        last = await client.get("/api/v1/tasks")
        assert last.json()["code"] == "api.too_fast"
        assert 1 <= int(last.headers["retry-after"]) <= 101
        assert (await other.get("/api/v1/tasks")).status_code == 200
        strangers = [(await house.client(ip="203.0.113.9").get("/api/v1/tasks")).status_code for _ in range(4)]
        assert strangers == [401, 401, 429, 429]
        assert (await house.client(ip="203.0.113.10").get("/api/v1/tasks")).status_code == 401


async def test_bodies_are_bounded(house: ApiHouse) -> None:
    client = await house.caller("chat.use")
    found = await client.post("/api/v1/tasks", content=b"x" * (MOST_BYTES + 1))
    assert (found.status_code, found.json()["code"]) == (413, "http.body_size")

    async def endless() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b"x" * 100_000

    assert (await client.post("/api/v1/tasks", content=endless())).status_code == 413


async def test_a_header_that_two_readers_could_take_otherwise_is_refused(house: ApiHouse) -> None:
    one, two = await house.key("chat.use"), await house.key("*")
    twice = [("authorization", f"Bearer {one.secret}"), ("authorization", f"Bearer {two.secret}")]
    found = await house.client().get("/api/v1/tasks", headers=twice)
    assert (found.status_code, found.json()["code"]) == (422, "http.header_twice")


@pytest.mark.parametrize(
    ("path", "method", "status"),
    [
        ("/api/v1/nothing", "GET", 404),
        ("/api/v2/tasks", "GET", 404),
        ("/api/v1/tasks/", "GET", 404),
        ("/api/v1/tasks", "PATCH", 405),
        ("/v1/nothing", "GET", 404),
        ("/api/v1/tasks/0", "GET", 422),
        ("/api/v1/tasks/99999999999999999999", "GET", 422),
        ("/api/v1/tasks/7", "GET", 404),
    ],
)
async def test_refusals_have_one_form(house: ApiHouse, path: str, method: str, status: int) -> None:
    client = await house.caller("*")
    found = await client.request(method, path)
    assert found.status_code == status
    assert found.headers["x-content-type-options"] == "nosniff"
    assert found.headers["cache-control"] == "no-store"
    if path.startswith("/v1/"):
        assert set(found.json()["error"]) == {"message", "type", "param", "code"}
    else:
        assert found.headers["content-type"] == "application/problem+json"
        assert found.json()["status"] == status
        assert found.json()["remedy"]


async def test_a_wrong_method_is_told_the_right_ones(house: ApiHouse) -> None:
    client = await house.caller("*")
    for path, methods in (
        ("tasks", "GET, POST"),
        ("channels/x", "DELETE, GET, PUT"),
        ("memory/7", "DELETE"),
        ("memory/search", "POST"),
    ):
        found = await client.patch(f"/api/v1/{path}")
        assert (found.status_code, found.headers["allow"]) == (405, methods)


async def test_refusals_are_in_the_callers_language(house: ApiHouse) -> None:
    secret = (await house.key("*")).secret
    texts = {}
    for lang in ("en", "zh-CN", "zh;q=0.2,en;q=0.9", ""):
        found = await house.client(secret, lang=lang).get("/api/v1/tasks/7")
        texts[lang] = (found.headers["content-language"], found.json()["title"])
    assert texts["en"] == texts["zh;q=0.2,en;q=0.9"] == ("en", "There is no such task")
    assert texts["zh-CN"] == texts[""]
    assert texts["zh-CN"][0] == "zh-CN"
    await house.person("berta", "member")
    query = "UPDATE user SET lang='en' WHERE name='berta'"
    await house.house.db.write(lambda c: c.exec_driver_sql(query).rowcount)
    own = house.client((await token(house)).json()["access_token"], lang="")
    assert (await own.get("/api/v1/tasks/7")).headers["content-language"] == "en"


async def test_a_stream_ends_when_its_key_does(house: ApiHouse, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("routes.api.tasks.LOOK_AGAIN", 0.0)
    monkeypatch.setattr("agent.tasks.POLL", 0.01)
    monkeypatch.setattr("agent.tasks.PING", 0.02)
    house.answers.gate.clear()
    key = await house.key("chat.use")
    number = (await house.client(key.secret).post("/api/v1/tasks", json={"text": "x"})).json()["id"]
    reader = Reader(house.app, f"/api/v1/tasks/{number}/events", key.secret)
    await reader.until(lambda text: ": ping" in text)
    await house.house.keys.revoke(OWNER, key.row.id)
    assert "event: end" not in await reader.whole()


async def test_streams_are_counted_and_given_back(house: ApiHouse, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("routes.api.tasks.MOST_OF_ONE", 2)
    house.answers.gate.clear()
    secret = (await house.key("chat.use")).secret
    number = (await house.client(secret).post("/api/v1/tasks", json={"text": "x"})).json()["id"]
    path = f"/api/v1/tasks/{number}/events"
    readers = [Reader(house.app, path, secret) for _ in range(2)]
    for reader in readers:
        await reader.until(lambda text: "event: status" in text)
    third = await house.client(secret).get(path)
    assert (third.status_code, third.json()["code"]) == (429, "api.streams")
    for reader in readers:
        await reader.leave()
    again = Reader(house.app, path, secret)
    await again.until(lambda text: "event: status" in text)
    await again.leave()
