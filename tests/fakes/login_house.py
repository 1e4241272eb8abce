"""The plain login behind the real front, asked by a small browser that keeps cookies and sends its origin."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

import httpx
from starlette.responses import PlainTextResponse
from starlette.routing import Route, Router
from starlette.types import Receive, Scope, Send

from routes.front import Front, Pages
from routes.login import Login
from routes.plain_page import PlainPages
from security.gate import SCOPE_WHO, Gate
from storage.background import Background
from storage.settings import ROOT
from storage.words import Words
from tests.security_house import House


async def inner(scope: Scope, receive: Receive, send: Send) -> None:
    """Stands for NiceGUI: says who asks."""
    await PlainTextResponse(f"panel of {scope[SCOPE_WHO].name} {scope[SCOPE_WHO].lang}")(scope, receive, send)


def front(house: House, *, need_origin: bool = True) -> Front:
    """Front, gate and login, as app.py ties them."""
    pages = Pages(lambda: ["/", "/chat", "/setup", "/trace/{n}"])
    plain = PlainPages(Words(ROOT / "assets" / "locale"), house.addresses, ROOT / "assets" / "templates")
    login = Login(
        sign_in=house.sign_in,
        setup=house.setup,
        account=house.account,
        sessions=house.sessions,
        addresses=house.addresses,
        plain=plain,
        known=pages,
        need_origin=need_origin,
    )
    gate = Gate(
        sessions=house.sessions,
        setup=house.setup,
        addresses=house.addresses,
        background=Background(),
        clock=house.clock,
        refuse=plain.refuse,
    )
    gate.app = inner
    routes: list[Route] = login.routes()
    return Front(Router(routes), gate, addresses=house.addresses, pages=pages)


@dataclass
class Answer:
    """What a person sees."""

    status: int
    text: str
    place: str
    headers: httpx.Headers

    @property
    def location(self) -> str:
        return self.headers.get("location", "")

    def beside(self, name: str) -> str:
        """The error beside a field; empty if there is none."""
        found = re.search(rf'<p class="err" id="{name}-note" role="alert">(.*?)</p>', self.text, re.DOTALL)
        return html.unescape(re.sub("<[^>]+>", "", found[1])) if found else ""

    @property
    def notice(self) -> str:
        found = re.search(r'<div class="note bad" role="alert">(.*?)</div>', self.text, re.DOTALL)
        return html.unescape(re.sub("<[^>]+>", "", found[1])) if found else ""


@dataclass
class Browser:
    """Follows redirects and keeps cookies; `send` fills the form of the page it is on."""

    front: Front
    ip: str = "127.0.0.1"
    host: str = "127.0.0.1:18789"
    scheme: str = "http"
    lang: str = "en"
    cookies: dict[str, str] = field(default_factory=dict)
    at: str = "/"
    set_cookies: list[str] = field(default_factory=list)

    async def once(self, method: str, url: str, *, data: Mapping[str, str] | None = None, **headers: str) -> Answer:
        """One request, as a browser makes it."""
        sent = {"host": self.host, "accept-language": self.lang, **{k.replace("_", "-"): v for k, v in headers.items()}}
        if method == "POST" and "origin" not in sent:
            sent["origin"] = f"{self.scheme}://{self.host}"
        if self.cookies:
            sent["cookie"] = "; ".join(f"{k}={v}" for k, v in self.cookies.items())
        sent = {k: v for k, v in sent.items() if v}
        transport = httpx.ASGITransport(self.front, client=(self.ip, 5))  # type: ignore[arg-type]
        async with httpx.AsyncClient(transport=transport, base_url=f"{self.scheme}://x") as client:
            answer = await client.request(method, url, data=data, headers=sent)
        for line in answer.headers.get_list("set-cookie"):
            self.set_cookies.append(line)
            name, _, value = line.partition(";")[0].partition("=")
            self.cookies[name] = value.strip('"')
            if not self.cookies[name]:
                del self.cookies[name]
        return Answer(answer.status_code, answer.text, url, answer.headers)

    async def go(self, url: str, **headers: str) -> Answer:
        """Open an address."""
        answer = await self.once("GET", url, **headers)
        for _ in range(6):
            if not answer.location:
                break
            answer = await self.once("GET", answer.location)
        self.at = answer.place
        self.page = answer
        return answer

    async def send(self, **data: str) -> Answer:
        """Submit the form of the present page."""
        action = re.search(r'<form method="post" action="([^"]*)"', self.page.text)
        assert action is not None, self.page.text[:500]
        answer = await self.once("POST", html.unescape(action[1]), data=data)
        if answer.location:
            return await self.go(answer.location)
        self.at, self.page = answer.place, answer
        return answer
