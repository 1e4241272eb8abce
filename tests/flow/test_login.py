"""The plain login and first run as a person meets them: Shows 8, languages, cookies, refusals."""

from __future__ import annotations

import re

import pytest

from security.addresses import Lists
from storage.clock import ManualClock
from storage.database import SqliteDatabase
from storage.principal import principal
from tests.fakes.login_house import Answer, Browser, front
from tests.security_house import GOOD, OTHER, House

ADMIN = principal(id="user:1", name="anna", role="owner")


@pytest.fixture
def house(db: SqliteDatabase, clock: ManualClock) -> House:
    return House(db, clock)


@pytest.fixture
def browser(house: House) -> Browser:
    return Browser(front(house))


async def test_from_the_code_to_the_wizard(house: House, browser: Browser) -> None:
    code = await house.setup.start()
    page = await browser.go("/")
    assert browser.at == "/setup/code"
    assert page.status == 200
    page = await browser.send(code=code.lower())
    assert browser.at == "/setup/admin"
    page = await browser.send(name="anna", password=GOOD, again=GOOD)
    assert browser.at == "/setup/totp"
    assert "<svg" in page.text
    page = await browser.send(skip="1")
    assert (browser.at, page.text) == ("/setup", "panel of anna en")
    for url in ("/setup/code", "/setup/admin"):
        await browser.go(url)
        assert browser.at in ("/", "/setup")
    stranger = Browser(browser.front)
    for url in ("/setup/code", "/setup/admin", "/setup/totp", "/chat"):
        await stranger.go(url)
        assert stranger.at.startswith("/login")


async def test_codes_in_the_first_run(house: House, browser: Browser) -> None:
    await browser.go("/setup/code")
    await browser.send(code="x")
    await house.setup.start()
    await browser.send(code=house.setup._code)
    page = await browser.send(name="anna", password=GOOD, again=GOOD)
    secret = re.search(r'class="secret mono">([A-Z2-7 ]+)<', page.text)
    assert secret is not None
    assert "wrong" in (await browser.send(code="000000")).beside("code")
    assert "missing" in (await browser.send(code="")).beside("code")
    import pyotp

    app = pyotp.TOTP(secret[1].replace(" ", ""))
    page = await browser.send(code=house.code(app))
    codes = re.findall(r"<li>([a-z2-9]{4}-[a-z2-9]{4}-[a-z2-9]{4})</li>", page.text)
    assert len(codes) == 10
    assert 'href="/setup"' in page.text
    assert (await browser.go("/setup/totp")).text == "panel of anna en"
    await browser.go("/logout")
    await browser.send()
    assert browser.at == "/login"
    await browser.send(name="anna", password=GOOD)
    assert browser.at == "/login?step=code"
    assert "used" in (await browser.send(code=house.code(app))).beside("code")
    assert (await browser.send(code=codes[0])).text == "panel of anna en"


@pytest.mark.parametrize("lang", ["en", "zh-CN"])
@pytest.mark.parametrize(
    ("name", "password", "again", "field", "said"),
    [
        ("", GOOD, GOOD, "name", ("name to sign in", "登录的名字")),
        ("a", GOOD, GOOD, "name", ("2 to 40", "2 到 40")),
        ("an na", GOOD, GOOD, "name", ("without spaces", "不留空格")),
        ("<script>", GOOD, GOOD, "name", ("without spaces", "不留空格")),
        ("anna", "", "", "password", ("Enter a new password", "填一个新密码")),
        ("anna", "short", "short", "password", ("has 5 characters; it needs 12", "只有 5 个字符，至少要 12 个")),
        ("anna", "password1234", "password1234", "password", ("unrelated words", "不相干的词")),
        ("anna", "woaini1314521", "woaini1314521", "password", ("pinyin", "拼音")),
        ("anna", "anna-is-my-name-7", "anna-is-my-name-7", "password", ("Leave the name out", "去掉用户名")),
        ("anna", "x1" * 200, "x1" * 200, "password", ("Make it shorter", "缩短")),
        ("anna", GOOD, OTHER, "again", ("Enter the same one", "保持一致")),
    ],
)
async def test_the_admin_form_says_beside_the_field_how_to_mend_it(
    house: House, browser: Browser, lang: str, name: str, password: str, again: str, field: str, said: tuple[str, str]
) -> None:
    browser.lang = lang
    code = await house.setup.start()
    await browser.go("/")
    await browser.send(code=code)
    page = await browser.send(name=name, password=password, again=again)
    assert page.status == 422
    assert said[lang != "en"] in page.beside(field)
    assert len(re.findall('role="alert"', page.text)) == 1
    assert password == "" or password not in page.text
    assert "<script" not in page.text
    assert f'id="{field}"' in page.text
    assert re.search(rf'id="{field}"[^>]*aria-invalid="true"[^>]*autofocus', page.text)
    await browser.send(name="anna", password=GOOD, again=GOOD)
    assert browser.at.startswith("/setup/totp")


@pytest.mark.parametrize(
    ("typed", "said"),
    [("", "The setup code is missing"), ("AAAA-BBBB-CCCC", "The setup code is wrong"), ("é" * 90, "wrong")],
)
async def test_the_setup_code_form(house: House, browser: Browser, typed: str, said: str) -> None:
    await house.setup.start()
    await browser.go("/setup/code")
    assert said in (await browser.send(code=typed)).beside("code")


async def test_the_setup_code_form_locks(house: House, browser: Browser) -> None:
    code = await house.setup.start()
    await browser.go("/setup/code")
    for _ in range(5):
        await browser.send(code="wrong")
    page = await browser.send(code=code)
    assert page.status == 429
    assert "Try again in 1 min" in page.notice


async def test_the_login_form(house: House, browser: Browser) -> None:
    await house.owner()
    await browser.go("/chat")
    assert browser.at == "/login?next=/chat"
    assert "Enter your name" in (await browser.send(name="", password="x")).beside("name")
    assert "Enter your password" in (await browser.send(name="anna", password="")).beside("password")
    known, unknown = await browser.send(name="anna", password=OTHER), await browser.send(name="nobody", password=OTHER)
    assert "The name or the password is wrong" in known.beside("password")
    assert known.beside("password") == unknown.beside("password")
    assert (known.status, unknown.status) == (401, 401)
    assert 'value="anna"' in known.text
    page = await browser.send(name="anna", password=GOOD)
    assert (browser.at, page.text) == ("/chat", "panel of anna en")
    assert (await browser.go("/login?next=/chat")).text == "panel of anna en"


async def test_a_locked_account_is_told_for_how_long(house: House, browser: Browser) -> None:
    await house.owner()
    browser.lang = "zh"
    await browser.go("/login")
    for _ in range(4):
        await browser.send(name="anna", password=OTHER)
    for wait, minutes in ((30, 1), (60, 1), (120, 2), (300, 5), (900, 15)):
        await browser.send(name="anna", password=OTHER)
        page = await browser.send(name="anna", password=GOOD)
        assert (page.status, page.notice) == (429, f"试错次数太多，已暂停登录：请等 {minutes} 分钟后再试")
        house.clock.advance(wait)


async def test_the_second_step_expires_in_words(house: House, browser: Browser) -> None:
    _, owner = await house.owner()
    app, _ = await house.enrol(owner)
    await browser.go("/login?next=/chat")
    await browser.send(name="anna", password=GOOD)
    assert browser.at == "/login?next=%2Fchat&step=code"
    house.clock.advance(301)
    page = await browser.send(code=house.code(app))
    assert "Enter your name and password again" in page.notice
    assert 'name="password"' in page.text
    await browser.send(name="anna", password=GOOD)
    page = await browser.send(code=house.code(app))
    assert browser.at == "/chat"


async def test_one_request_may_carry_everything(house: House, browser: Browser) -> None:
    _, owner = await house.owner()
    app, _ = await house.enrol(owner)
    house.clock.advance(30)
    answer = await browser.once("POST", "/login", data={"name": "anna", "password": GOOD, "code": house.code(app)})
    assert (answer.status, answer.location) == (303, "/")
    assert (await browser.go("/")).text == "panel of anna en"


@pytest.mark.parametrize(
    ("wanted", "goes"),
    [
        ("/chat", "/chat"),
        ("/trace/5?a=1", "/trace/5?a=1"),
        ("", "/"),
        ("//evil.example", "/"),
        ("https://evil.example", "/"),
        ("/\\evil.example", "/"),
        ("/%2f/evil.example", "/"),
        ("javascript:alert(1)", "/"),
        ("/chat\r\nset-cookie:a=b", "/"),
        ("/unknown", "/"),
        ("/login?next=/login", "/"),
        ("/logout", "/"),
        ("chat", "/"),
    ],
)
async def test_the_way_back_is_a_page_of_ours(house: House, browser: Browser, wanted: str, goes: str) -> None:
    await house.owner()
    from urllib.parse import quote

    url = f"/login?next={quote(wanted, safe='')}"
    answer = await browser.once("POST", url, data={"name": "anna", "password": GOOD})
    assert answer.location == goes


async def test_languages(house: House, browser: Browser) -> None:
    await house.owner()
    browser.lang = "zh-CN,zh;q=0.9,en;q=0.8"
    page = await browser.go("/login?next=/chat")
    assert '<html lang="zh-CN">' in page.text
    assert '<a href="?next=%2Fchat&amp;lang=en" lang="en" hreflang="en">English</a>' in page.text
    page = await browser.go("/login?next=/chat&lang=en")
    assert '<html lang="en">' in page.text
    assert "The name or the password is wrong" in (await browser.send(name="anna", password=OTHER)).beside("password")
    assert (await browser.send(name="anna", password=GOOD)).text == "panel of anna en"
    browser.lang = ""
    assert '<html lang="zh-CN">' in (await Browser(browser.front, lang="").go("/login")).text


async def test_cookies_by_transport(house: House, browser: Browser) -> None:
    await house.owner()
    await browser.once("POST", "/login", data={"name": "anna", "password": GOOD})
    (line,) = [c for c in browser.set_cookies if c.startswith("zhixing=") and "Max-Age=604800" in c]
    assert "HttpOnly" in line
    assert "SameSite=strict" in line
    assert "Secure" not in line
    await house.addresses.save(ADMIN, Lists(proxies=("127.0.0.1",), hosts=("bot.example.com",)), from_ip="")
    safe = Browser(browser.front, host="bot.example.com", scheme="https")
    await safe.once("POST", "/login", data={"name": "anna", "password": GOOD}, x_forwarded_proto="https")
    lines = [c for c in safe.set_cookies if c.startswith("__Host-zhixing=")]
    assert lines
    assert all("Secure" in c and "Path=/" in c and "Domain" not in c for c in safe.set_cookies)


async def test_each_login_is_a_new_session_and_ends_the_old_one(house: House, browser: Browser) -> None:
    await house.owner()
    await browser.once("POST", "/login", data={"name": "anna", "password": GOOD})
    first = browser.cookies["zhixing"]
    await browser.once("POST", "/login", data={"name": "anna", "password": GOOD})
    assert browser.cookies["zhixing"] != first
    assert await house.live(first) is None


async def test_logout_ends_the_session_on_the_server(house: House, browser: Browser) -> None:
    await house.owner()
    await browser.once("POST", "/login", data={"name": "anna", "password": GOOD})
    value = browser.cookies["zhixing"]
    hostile = await browser.once("POST", "/logout", origin="http://evil.example")
    assert hostile.status == 403
    assert (await browser.once("GET", "/logout")).status == 200
    assert await house.live(value) is not None
    assert (await browser.once("POST", "/logout")).location == "/login"
    assert await house.live(value) is None
    assert "zhixing" not in browser.cookies


@pytest.mark.parametrize("path", ["/login", "/setup/code", "/setup/admin", "/setup/totp", "/logout"])
@pytest.mark.parametrize("origin", ["http://evil.example", "null", ""])
async def test_forms_from_elsewhere_are_refused(house: House, browser: Browser, path: str, origin: str) -> None:
    await house.setup.start()
    answer = await browser.once("POST", path, data={"name": "anna", "password": GOOD, "code": "x"}, origin=origin)
    assert answer.status == 403
    assert "not sent from one of our pages" in answer.text


async def test_scripts_may_sign_in_where_that_is_allowed(house: House) -> None:
    await house.owner()
    script = Browser(front(house, need_origin=False))
    form = {"name": "anna", "password": GOOD}
    assert (await script.once("POST", "/login", data=form, origin="", sec_fetch_site="cross-site")).status == 403
    assert (await script.once("POST", "/login", data=form, origin="", cookie="a=b")).status == 403
    assert (await script.once("POST", "/login", data=form, origin="")).location == "/"


@pytest.mark.parametrize(
    ("headers", "body", "status"),
    [
        ({"content-type": "application/json"}, b'{"name":"anna"}', 422),
        ({"content-type": "application/x-www-form-urlencoded"}, b"name=a&name=b&password=c", 422),
        ({"content-type": "application/x-www-form-urlencoded"}, b"name=%ff&password=c", 422),
        ({"content-type": "application/x-www-form-urlencoded"}, b"&".join(b"a%d=1" % n for n in range(50)), 422),
        ({"content-type": "application/x-www-form-urlencoded"}, b"name=" + b"a" * 9000, 413),
        ({"content-type": "multipart/form-data; boundary=x"}, b"--x--", 422),
    ],
)
async def test_odd_bodies(house: House, browser: Browser, headers: dict[str, str], body: bytes, status: int) -> None:
    import httpx

    await house.owner()
    transport = httpx.ASGITransport(browser.front)  # type: ignore[arg-type]
    own = {"host": browser.host, "origin": f"http://{browser.host}"}
    async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
        answer = await client.post("/login", content=body, headers={**own, **headers})
    assert answer.status_code == status


async def test_unencrypted_use_from_elsewhere_is_told(house: House, browser: Browser) -> None:
    await house.owner()
    warning = "This connection is not encrypted"
    assert warning not in (await browser.go("/login")).text
    assert warning not in (await Browser(browser.front, host="localhost:18789", ip="172.17.0.1").go("/login")).text
    assert warning in (await Browser(browser.front, host="192.168.1.5:18789", ip="192.168.1.9").go("/login")).text
    await house.addresses.save(ADMIN, Lists(proxies=("127.0.0.1",), hosts=("bot.example.com",)), from_ip="")
    page = await Browser(browser.front, host="bot.example.com").go("/login", x_forwarded_proto="https")
    assert warning not in page.text
    assert page.headers["strict-transport-security"]


async def test_a_strange_name_is_refused_but_learned_with_the_code(house: House, browser: Browser) -> None:
    strange = Browser(browser.front, host="bot.example.com")
    code = await house.setup.start()
    assert (await strange.go("/setup/code")).status == 200
    assert (await strange.once("GET", "/setup/admin")).status == 421
    assert (await strange.once("GET", "/")).status == 421
    await strange.send(code=code)
    assert strange.at == "/setup/admin"
    await strange.send(name="anna", password=GOOD, again=GOOD)
    assert strange.at == "/setup/totp"
    other = await Browser(browser.front, host="evil.example").go("/login")
    assert other.status == 421
    assert "evil.example" in other.text


async def test_a_link_from_elsewhere_finds_the_session(house: House, browser: Browser) -> None:
    """A strict cookie stays at home when a link on another site is followed; the browser asks again by itself."""
    value, _ = await house.owner()
    answer = await browser.once("GET", "/trace/5?a=1&b=%22%3E%3Cscript%3E", sec_fetch_site="cross-site")
    assert answer.status == 200
    assert 'content="0;url=/trace/5?a=1&amp;b=%22%3E%3Cscript%3E"' in answer.text
    assert "<script" not in answer.text
    browser.cookies["zhixing"] = value
    assert (await browser.once("GET", "/trace/5", sec_fetch_site="same-origin")).text.startswith("panel of anna")
    stranger = Browser(browser.front)
    assert (await stranger.once("GET", "/trace/5", sec_fetch_site="same-origin")).location == "/login?next=/trace/5"


async def test_pages_forbid_everything_but_their_form(house: House, browser: Browser) -> None:
    code = await house.setup.start()
    pages: list[Answer] = [await browser.go("/setup/code"), await browser.send(code=code)]
    pages.append(await browser.send(name="anna", password=GOOD, again=GOOD))
    pages += [await Browser(browser.front).go("/login"), await Browser(browser.front, host="a.b").go("/login")]
    for page in pages:
        policy = page.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "script-src" not in policy
        assert "<script" not in page.text
        assert not re.search(r"\son\w+=|\sstyle=", page.text)
        assert page.headers["cache-control"] == "no-store"
        assert page.headers["x-content-type-options"] == "nosniff"
        assert not re.findall(r'(?:src|href)="(?:https?:)?//', page.text)


async def test_an_expired_setup_session_is_told(house: House, browser: Browser) -> None:
    code = await house.setup.start()
    await browser.go("/")
    await browser.send(code=code)
    house.clock.advance(3601)
    page = await browser.send(name="anna", password=GOOD, again=GOOD)
    assert browser.at == "/setup/code?step=expired"
    assert "Enter the setup code again" in page.notice
