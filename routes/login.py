"""Signing in and the first admin, as plain HTML forms without script."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import parse_qsl

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from routes.body import read_body
from routes.plain_page import Field, Form, PlainPages, Step, View, with_error
from security.account import AccountActions
from security.addresses import Addresses
from security.gate import COOKIE, SCOPE_PEER, SECURE_COOKIE, cookie, header, same_origin, session_cookie
from security.sessions import ABSOLUTE, CHALLENGE, SETUP, Live, Sessions
from security.setup import Setup
from security.sign_in import SignIn
from security.sign_in import Step as Signed
from storage.errors import AppError, Conflict, Denied, Invalid, Unauthenticated

MOST_BODY = 8192
STEP_COOKIE = "zhixing-step"
STEPS = ("code", "admin", "model", "bot", "done")
Handler = Callable[[Request, View], Awaitable[Response]]


@dataclass(frozen=True, kw_only=True)
class Login:
    """The plain routes `/login`, `/logout`, `/setup/code`, `/setup/admin`, `/setup/totp`.

    Attributes:
        known: tells which paths are pages; the login goes back only to those.
        need_origin: refuse a form that says neither Origin nor Referer. Browsers always say one; False lets scripts
            without cookies sign in as well, which no foreign page in a browser can make use of.
    """

    sign_in: SignIn
    setup: Setup
    account: AccountActions
    sessions: Sessions
    addresses: Addresses
    plain: PlainPages
    known: Callable[[str], bool]
    need_origin: bool = True

    def routes(self) -> list[Route]:
        """For the front's plain router."""
        return [
            Route("/login", self._edge(self._login_page, self._login), methods=["GET", "POST"]),
            Route("/logout", self._edge(self._logout_page, self._logout), methods=["GET", "POST"]),
            Route("/setup/code", self._edge(self._code_page, self._code), methods=["GET", "POST"]),
            Route("/setup/admin", self._edge(self._admin_page, self._admin), methods=["GET", "POST"]),
            Route("/setup/totp", self._edge(self._totp_page, self._totp), methods=["GET", "POST"]),
        ]

    def _edge(self, shown: Handler, sent: Callable[[Request, View, dict[str, str]], Awaitable[Response]]) -> Any:
        """What all of them check first: the name we are called by, where a form comes from, its size and kind."""

        async def run(request: Request) -> Response:
            scope, view = request.scope, self.plain.view(request.scope, dict(request.query_params))
            try:
                first_run = await self.setup.needed() and request.url.path == "/setup/code"
                if not (self.addresses.known_host(header(scope, b"host")) or first_run):
                    return _refusal(self.plain, view, Denied("gate.host", host=header(scope, b"host")[:100]), 421)
                if request.method in ("GET", "HEAD"):
                    return await shown(request, view)
                if not (same_origin(scope) or self._script(scope)):
                    return _refusal(self.plain, view, Denied("gate.origin"), 403)
                return await sent(request, view, await _form(request))
            except AppError as error:
                return _refusal(self.plain, view, error, error.status)

        return run

    def _script(self, scope: Mapping[str, Any]) -> bool:
        said = (b"origin", b"referer", b"cookie", b"sec-fetch-site", b"sec-fetch-mode")
        return not self.need_origin and not any(name in said for name, _ in scope["headers"])

    async def _live(self, request: Request) -> Live | None:
        return await self.sessions.find(session_cookie(request.scope, secure=_secure(request)))

    # --- sign in

    async def _login_page(self, request: Request, view: View) -> Response:
        if await self.setup.needed():
            return _go(view.url("/setup/code"))
        live = await self._live(request)
        wanted = self._next(view.query.get("next", ""))
        if live is not None and live.who.may("account.own"):
            return _go(wanted)
        if view.query.get("step") == "code":
            if await self.sessions.find_challenge(_step_value(request)) is None:
                error = Conflict("login.expired")
                return self.plain.render(view, with_error(view, self._password(view), error, fallback=""))
            return self.plain.render(view, self._second(view))
        return self.plain.render(view, self._password(view))

    def _password(self, view: View, name: str = "") -> Form:
        say = view.say
        return Form(
            title=say("login.title"),
            action=view.url("/login", next=view.query.get("next", "")),
            submit=say("login.submit"),
            fields=(
                Field(name="name", label=say("login.name"), value=name[:100], autocomplete="username"),
                Field(
                    name="password",
                    label=say("login.password"),
                    kind="password",
                    most=1024,
                    autocomplete="current-password",
                ),
            ),
        )

    def _second(self, view: View) -> Form:
        say = view.say
        return Form(
            title=say("login.code.title"),
            intro=say("login.code.intro"),
            action=view.url("/login", next=view.query.get("next", ""), step="code"),
            submit=say("login.submit"),
            fields=(Field(name="code", label=say("login.code"), autocomplete="one-time-code", most=40),),
            foot=say("login.code.lost"),
        )

    async def _login(self, request: Request, view: View, sent: dict[str, str]) -> Response:
        if await self.setup.needed():
            return _go(view.url("/setup/code"))
        ip, agent = _ip(request), _agent(request)
        if "code" in sent and "password" not in sent:
            return await self._login_code(request, view, _step_value(request), sent["code"])
        name, password = sent.get("name", ""), sent.get("password", "")
        try:
            lang = view.lang if view.chosen else ""
            step = await self.sign_in.password(name, password, ip=ip, agent=agent, lang=lang)
        except AppError as error:
            form = with_error(view, self._password(view, name), error, fallback="password")
            return self.plain.render(view, form, error.status)
        if step.done:
            return await self._signed_in(request, view, step)
        if "code" in sent:
            return await self._login_code(request, view, step.value, sent["code"])
        answer = _go(view.url("/login", next=view.query.get("next", ""), step="code"))
        _set(answer, request, STEP_COOKIE, step.value, CHALLENGE // 1000)
        return answer

    async def _login_code(self, request: Request, view: View, challenge: str, code: str) -> Response:
        try:
            step = await self.sign_in.code(challenge, code, ip=_ip(request), agent=_agent(request))
        except Conflict as error:
            form = with_error(view, self._password(view), error, fallback="")
            return self.plain.render(view, form, error.status)
        except AppError as error:
            form = with_error(view, self._second(view), error, fallback="code")
            answer: Response = self.plain.render(view, form, error.status)
            _set(answer, request, STEP_COOKIE, challenge, CHALLENGE // 1000)
            return answer
        return await self._signed_in(request, view, step)

    async def _signed_in(self, request: Request, view: View, step: Signed) -> Response:
        before = await self._live(request)
        if before is not None and before.id != step.sid:
            await self.sessions.revoke(before.id)
        answer = _go(self._next(view.query.get("next", "")))
        _set(answer, request, COOKIE, step.value, ABSOLUTE // 1000)
        _unset(answer, request, STEP_COOKIE)
        return answer

    def _next(self, wanted: str) -> str:
        """A page of ours, or the first one. Never an address that a browser could read as another host."""
        path = wanted.partition("?")[0].partition("#")[0]
        strange = not wanted.isascii() or any(ch in "\\" or ord(ch) <= 32 for ch in wanted)
        if strange or not wanted.startswith("/") or wanted.startswith("//") or len(wanted) > 1000:
            return "/"
        return wanted if self.known(path) else "/"

    async def _logout_page(self, request: Request, view: View) -> Response:
        if await self._live(request) is None:
            return _go(view.url("/login"))
        form = Form(title=view.say("logout.title"), action=view.url("/logout"), submit=view.say("logout.submit"))
        return self.plain.render(view, form)

    async def _logout(self, request: Request, view: View, sent: dict[str, str]) -> Response:
        live = await self._live(request)
        if live is not None:
            await self.sign_in.out(live.principal(_ip(request)))
        answer = _go(view.url("/login"))
        _unset(answer, request, COOKIE)
        return answer

    # --- the first run

    async def _code_page(self, request: Request, view: View) -> Response:
        if not await self.setup.needed():
            return _go(view.url("/login"))
        live = await self._live(request)
        if live is not None and live.who.may("setup.run"):
            return _go(view.url("/setup/admin"))
        form = self._setup_code(view)
        if view.query.get("step") == "expired":
            form = with_error(view, form, Conflict("setup.expired"), fallback="")
        return self.plain.render(view, form)

    def _setup_code(self, view: View) -> Form:
        say = view.say
        return Form(
            title=say("welcome.title"),
            intro=say("welcome.intro"),
            action=view.url("/setup/code"),
            submit=say("welcome.submit"),
            steps=_rail(view, "code"),
            fields=(
                Field(
                    name="code",
                    label=say("welcome.code"),
                    help=say("welcome.code.help"),
                    autocomplete="off",
                    most=100,
                ),
            ),
        )

    async def _code(self, request: Request, view: View, sent: dict[str, str]) -> Response:
        if not await self.setup.needed():
            return _go(view.url("/login"))
        try:
            value, _ = await self.setup.enter(sent.get("code", ""), ip=_ip(request), agent=_agent(request))
        except AppError as error:
            form = with_error(view, self._setup_code(view), error, fallback="code")
            return self.plain.render(view, form, error.status)
        await self.addresses.learn_host(header(request.scope, b"host"))
        answer = _go(view.url("/setup/admin"))
        _set(answer, request, COOKIE, value, SETUP // 1000)
        return answer

    async def _admin_page(self, request: Request, view: View) -> Response:
        live = await self._live(request)
        if live is None or not live.who.may("setup.run"):
            return await self._back(request, view, live)
        return self.plain.render(view, self._first_admin(view))

    async def _back(self, request: Request, view: View, live: Live | None) -> Response:
        """Where someone belongs who has no part in this step."""
        if live is not None and live.who.may("account.own"):
            return _go("/setup" if live.who.may("setting.manage") else "/")
        if await self.setup.needed():
            return _go(view.url("/setup/code", step="expired" if request.method == "POST" else ""))
        return _go(view.url("/login"))

    def _first_admin(self, view: View, name: str = "") -> Form:
        say = view.say
        new = {"kind": "password", "most": 1024, "autocomplete": "new-password"}
        return Form(
            title=say("welcome.admin.title"),
            intro=say("welcome.admin.intro"),
            action=view.url("/setup/admin"),
            submit=say("welcome.admin.submit"),
            steps=_rail(view, "admin"),
            fields=(
                Field(
                    name="name",
                    label=say("login.name"),
                    value=name[:100],
                    help=say("welcome.admin.name"),
                    autocomplete="username",
                ),
                Field(name="password", label=say("login.password"), help=say("welcome.admin.password"), **new),  # type: ignore[arg-type]
                Field(name="again", label=say("welcome.admin.again"), **new),  # type: ignore[arg-type]
            ),
        )

    async def _admin(self, request: Request, view: View, sent: dict[str, str]) -> Response:
        live = await self._live(request)
        if live is None or not live.who.may("setup.run"):
            return await self._back(request, view, live)
        name = sent.get("name", "")
        try:
            value, _ = await self.setup.create_admin(
                live.principal(_ip(request)),
                name=name,
                password=sent.get("password", ""),
                again=sent.get("again", sent.get("password2", "")),
                ip=_ip(request),
                agent=_agent(request),
                lang=view.lang if view.chosen else "",
            )
        except AppError as error:
            form = with_error(view, self._first_admin(view, name), error, fallback="password")
            return self.plain.render(view, form, error.status)
        answer = _go(view.url("/setup/totp"))
        _set(answer, request, COOKIE, value, ABSOLUTE // 1000)
        return answer

    async def _totp_page(self, request: Request, view: View) -> Response:
        live = await self._live(request)
        if live is None or not live.who.may("account.own"):
            return await self._back(request, view, live)
        who = live.principal(_ip(request))
        if (await self.account.view(who)).totp:
            return _go("/setup")
        return self.plain.render(view, await self._codes_form(live, request, view))

    async def _codes_form(self, live: Live, request: Request, view: View) -> Form:
        from markupsafe import Markup

        say, enrolment = view.say, await self.account.totp_begin(live.principal(_ip(request)))
        return Form(
            title=say("codes.title"),
            intro=say("codes.what"),
            action=view.url("/setup/totp"),
            submit=say("codes.confirm"),
            skip=say("welcome.later"),
            steps=_rail(view, "admin"),
            lead=say("codes.scan"),
            svg=Markup(enrolment.svg),  # noqa: S704 - drawn by us, nothing of it was typed
            svg_label=say("codes.picture"),
            secret_label=say("codes.type"),
            secret=enrolment.grouped,
            fields=(
                Field(
                    name="code",
                    label=say("codes.first"),
                    autocomplete="one-time-code",
                    inputmode="numeric",
                    most=20,
                ),
            ),
        )

    async def _totp(self, request: Request, view: View, sent: dict[str, str]) -> Response:
        live = await self._live(request)
        if live is None or not live.who.may("account.own"):
            return await self._back(request, view, live)
        if "skip" in sent:
            return _go("/setup")
        try:
            codes = await self.account.totp_confirm(live.principal(_ip(request)), sent.get("code", ""))
        except Conflict:
            return _go(view.url("/setup/totp"))
        except (Invalid, Unauthenticated) as error:
            form = await self._codes_form(live, request, view)
            return self.plain.render(view, with_error(view, form, error, fallback="code"), error.status)
        say = view.say
        form = Form(
            title=say("codes.done"),
            intro=say("codes.recovery"),
            codes=codes,
            link="/setup",
            submit=say("codes.kept"),
            steps=_rail(view, "admin"),
        )
        return self.plain.render(view, form)


async def _form(request: Request) -> dict[str, str]:
    """The fields of a form of at most 8 KB.

    Raises:
        Invalid: `form.unreadable`. TooLarge: `http.body_size`.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    body = await read_body(request.scope, request.receive, most=MOST_BODY, seconds=10)
    if body and kind != "application/x-www-form-urlencoded":
        raise Invalid("form.unreadable")
    try:
        pairs = parse_qsl(body.decode("utf-8"), keep_blank_values=True, max_num_fields=20, errors="strict")
    except (ValueError, UnicodeError) as error:
        raise Invalid("form.unreadable") from error
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise Invalid("form.unreadable")
    return fields


def _refusal(plain: PlainPages, view: View, error: AppError, status: int) -> Response:
    what, remedy = view.explain(error)
    form = Form(title=what, intro=remedy)
    if status != 421:
        form = replace(form, link=view.url("/login"), submit=view.say("login.back"))
    return plain.render(view, form, status)


def _rail(view: View, now: str) -> tuple[Step, ...]:
    at = STEPS.index(now)
    states = ["done" if n < at else "on" if n == at else "" for n in range(len(STEPS))]
    return tuple(Step(label=view.say(f"setup.{name}"), state=states[n]) for n, name in enumerate(STEPS))


def _go(place: str) -> RedirectResponse:
    return RedirectResponse(place, 303, headers={"cache-control": "no-store", "referrer-policy": "same-origin"})


def _secure(request: Request) -> bool:
    peer = request.scope.get(SCOPE_PEER)
    return peer.secure if peer is not None else request.scope.get("scheme") == "https"


def _ip(request: Request) -> str:
    peer = request.scope.get(SCOPE_PEER)
    return str(peer.ip) if peer is not None else (request.client.host if request.client else "")


def _agent(request: Request) -> str:
    return request.headers.get("user-agent", "")[:200]


def _step_value(request: Request) -> str:
    return cookie(request.scope, _cookie_name(request, STEP_COOKIE))


def _cookie_name(request: Request, name: str) -> str:
    if name == COOKIE:
        return SECURE_COOKIE if _secure(request) else COOKIE
    return f"__Host-{name}" if _secure(request) else name


def _set(answer: Response, request: Request, name: str, value: str, seconds: int) -> None:
    secure = _secure(request)
    answer.set_cookie(
        _cookie_name(request, name), value, max_age=seconds, path="/", secure=secure, httponly=True, samesite="strict"
    )


def _unset(answer: Response, request: Request, name: str) -> None:
    _set(answer, request, name, "", 0)
