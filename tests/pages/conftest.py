"""The real process, and Debian's Chromium in front of it.

`start_site` starts `python app.py serve` in a fresh folder; `site` is one such process for a test. `browser` is
Chromium, `open_page` a page in it that fails the test on an outside request, a policy breach or a script
error. `signed_in_page` is a page of an administrator on a site that is set up.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from playwright.async_api import Browser, BrowserContext, Page, async_playwright, expect

ROOT = Path(__file__).resolve().parents[2]
CHROMIUM = Path("/usr/bin/chromium")
SETUP_CODE = "1234-5678-test"
ADMIN, PASSWORD = "admin", "correct horse battery 9 staple"
START_SECONDS = 40.0
_ARGS = [
    "--no-sandbox",
    "--disable-dev-shm-usage",
    "--disable-gpu",
    "--disable-background-networking",
    "--no-first-run",
]

expect.set_options(timeout=10_000)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Site:
    """A running process of ours. `log` is what it has printed."""

    folder: Path
    port: int
    env: dict[str, str]
    setup_code: str = SETUP_CODE
    process: subprocess.Popen[bytes] | None = None

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        return (self.folder / "log.txt").read_text(errors="replace")

    def start(self) -> None:
        """Start it and wait until it is ready."""
        with (self.folder / "log.txt").open("ab") as out:
            self.process = subprocess.Popen(
                [sys.executable, "app.py", "serve"], cwd=ROOT, env=self.env, stdout=out, stderr=subprocess.STDOUT
            )
        end = time.monotonic() + START_SECONDS
        with httpx.Client(trust_env=False) as client:
            while True:
                if self.process.poll() is not None or time.monotonic() > end:
                    raise AssertionError(f"the process did not get ready:\n{self.log[-4000:]}")
                try:
                    if client.get(f"{self.base}/readyz", timeout=2).status_code == 200:
                        return
                except httpx.TransportError:
                    pass
                time.sleep(0.1)

    def stop(self) -> None:
        """End it gently, then hard."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(15)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(5)

    def command(self, *words: str, typed: str = "") -> str:
        """Run another command of app.py on the same data; `typed` is its standard input."""
        done = subprocess.run(
            [sys.executable, "app.py", *words],
            cwd=ROOT,
            env=self.env,
            input=typed,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def create_admin(self, name: str = ADMIN, password: str = PASSWORD) -> None:
        self.command("create-admin", "--name", name, typed=password + "\n")


def environment(folder: Path, **extra: str) -> dict[str, str]:
    """What a process sees: nothing of ours but what is said here."""
    return {
        "PATH": os.environ.get("PATH", ""),
        "HOME": str(folder),
        "LANG": "C.UTF-8",
        "PYTHONUNBUFFERED": "1",
        "ZHIXING_DATA": str(folder / "data"),
        "ZHIXING_METRICS_PORT": "0",
        "ZHIXING_SETUP_CODE": SETUP_CODE,
        "ZHIXING_KEY_FILE": str(folder / "key" / "master.key"),
        "ZHIXING_EMBEDDER": "none",  # loading one takes as long as all the rest of a start; who needs it says so
        **extra,
    }


StartSite = Callable[..., Site]


@pytest.fixture(scope="session")
def administered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a process that has an administrator and has never been started: made once, copied for each."""
    folder = tmp_path_factory.mktemp("administered")
    Site(folder=folder, port=0, env=environment(folder)).create_admin()
    return folder


@pytest.fixture(scope="module")
def start_site(tmp_path_factory: pytest.TempPathFactory, administered: Path) -> Iterator[StartSite]:
    """Starts processes in fresh folders and ends them after the module. `admin=True` makes an administrator first."""
    sites: list[Site] = []

    def start(*, admin: bool = False, **extra: str) -> Site:
        folder = tmp_path_factory.mktemp("site")
        port = free_port()
        env = environment(folder, ZHIXING_PORT=str(port), **extra)
        site = Site(folder=folder, port=port, env=env)
        sites.append(site)
        if admin:
            for part in ("data", "key"):
                shutil.copytree(administered / part, folder / part)
        site.start()
        return site

    yield start
    for site in sites:
        site.stop()


@pytest.fixture
def site(start_site: StartSite) -> Site:
    """A process that nobody has set up."""
    return start_site()


@pytest.fixture(scope="module")
def ready_site(start_site: StartSite) -> Site:
    """A process with an administrator, shared by the tests of a module."""
    return start_site(admin=True)


class Chromium:
    """One browser for all tests, each of which gets contexts of its own; started anew where it has died."""

    def __init__(self, folder: Path) -> None:
        self.folder, self._address = folder, ""
        self.process: subprocess.Popen[str] | None = None

    def address(self) -> str:
        """Where its debugging protocol is served."""
        if self.process is None or self.process.poll() is not None:
            command = [str(CHROMIUM), *_ARGS, f"--user-data-dir={self.folder}", "--remote-debugging-port=0"]
            log = self.folder / "chromium.log"
            with log.open("w") as out:
                self.process = subprocess.Popen([*command, "--headless", "about:blank"], stdout=out, stderr=out)
            end = time.monotonic() + START_SECONDS
            while not (found := re.search(r"DevTools listening on (ws://\S+)", log.read_text())):
                alive = self.process.poll() is None and time.monotonic() < end
                assert alive, log.read_text()[-2000:]
                time.sleep(0.05)
            self._address = found[1]
        return self._address

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait(10)


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    if not CHROMIUM.exists():
        pytest.skip(f"{CHROMIUM} is not installed (Debian: apt install chromium)")
    made = Chromium(tmp_path_factory.mktemp("chromium"))
    yield made
    made.stop()


@pytest.fixture
async def browser(chromium: Chromium) -> AsyncIterator[Browser]:
    """Chromium; what a test opens in it is closed with the test."""
    async with async_playwright() as playwright:
        made = await playwright.chromium.connect_over_cdp(chromium.address())
        yield made
        for context in made.contexts:
            await context.close()
        await made.close()


@dataclass
class Watched:
    """What went on in a page that should not."""

    base: str
    outside: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def see(self, page: Page) -> None:
        own = urlsplit(self.base).netloc
        page.on("request", lambda r: None if urlsplit(r.url).netloc in (own, "") else self.outside.append(r.url))
        page.on("pageerror", lambda e: self.errors.append(str(e)))
        page.on("console", lambda m: self.errors.append(m.text) if _bad(m.type, m.text) else None)


def _bad(kind: str, text: str) -> bool:
    return "Content Security Policy" in text or (kind == "error" and "Failed to load resource" not in text)


OpenPage = Callable[..., Awaitable[Page]]


@pytest.fixture
async def open_page(browser: Browser) -> AsyncIterator[OpenPage]:
    """Opens `path` of a site in a fresh context; the test fails on outside requests and script errors.

    Arguments: `lang` (`zh-CN` or `en-US`), `dark`, `phone`, `context` (for a second tab of the same person).
    """
    seen: list[Watched] = []
    contexts: list[BrowserContext] = []

    async def start(
        site: Site,
        path: str = "/",
        *,
        lang: str = "zh-CN",
        dark: bool = False,
        phone: bool = False,
        context: BrowserContext | None = None,
    ) -> Page:
        if context is None:
            context = await browser.new_context(
                locale=lang,
                color_scheme="dark" if dark else "light",
                viewport={"width": 390, "height": 844} if phone else {"width": 1280, "height": 800},
            )
            contexts.append(context)
        page = await context.new_page()
        watched = Watched(site.base)
        watched.see(page)
        seen.append(watched)
        await page.goto(site.base + path)
        return page

    yield start
    for context in contexts:
        await context.close()
    for watched in seen:
        assert watched.outside == []
        assert watched.errors == []


async def connected(page: Page) -> None:
    """Wait until a panel page talks with the server."""
    await page.wait_for_function("window.did_handshake === true", timeout=15_000)


async def sign_in(page: Page, site: Site, name: str = ADMIN, password: str = PASSWORD) -> None:
    """Through the login form, as a person."""
    await page.goto(f"{site.base}/login")
    await page.fill("input[name=name]", name)
    await page.fill("input[name=password]", password)
    await page.click("button[type=submit]")
    await page.wait_for_url(lambda url: "/login" not in url)


async def make_admin(page: Page) -> None:
    """The first run's plain forms, as a person fills them in; ends on the wizard's model step."""
    await page.fill("input[name=code]", SETUP_CODE)
    await page.click("button[type=submit]")
    await page.wait_for_url("**/setup/admin*")
    await page.fill("input[name=name]", ADMIN)
    await page.fill("input[name=password]", PASSWORD)
    await page.fill("input[name=again]", PASSWORD)
    await page.click("button[type=submit]")
    await page.wait_for_url("**/setup/totp*")
    await page.click("button[name=skip]")
    await page.wait_for_url(lambda url: "/setup/" not in url)


@pytest.fixture
async def signed_in_page(ready_site: Site, open_page: OpenPage) -> Page:
    """The start page of an administrator."""
    page = await open_page(ready_site, "/login")
    await sign_in(page, ready_site)
    await connected(page)
    return page
