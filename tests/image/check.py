"""Answers the wizard of a container that runs, or signs in to the next one on the same data: for build_and_run.sh.

Usage: check.py first|second ADDRESS FOLDER   (FOLDER holds `log` and `data`)
"""

from __future__ import annotations

import http.cookiejar
import re
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

NAME, PASSWORD = "admin", "quiet river 42 stones"
CODE = re.compile(r"\b[A-Z0-9]{4}-[A-Z0-9]{4}-[A-Z0-9]{4}\b")


class Stay(urllib.request.HTTPRedirectHandler):
    """Redirections are what is checked, so none is followed."""

    def redirect_request(self, *_: object) -> None:
        return None


class Browser:
    """Keeps cookies and sends forms as a browser would."""

    def __init__(self, address: str) -> None:
        jar = urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar())
        self.address = address
        self.opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), jar, Stay())

    def open(self, path: str, **form: str) -> tuple[int, str, str]:
        """Status, where it leads, text."""
        data = urllib.parse.urlencode(form).encode() if form else None
        headers = {"Origin": self.address} if form else {"Accept": "text/html"}
        request = urllib.request.Request(self.address + path, data, headers)
        try:
            with self.opener.open(request, timeout=20) as answer:
                return answer.status, "", answer.read().decode(errors="replace")
        except urllib.error.HTTPError as error:
            return error.code, error.headers.get("Location", ""), error.read().decode(errors="replace")


def expect(what: str, seen: object, wanted: object) -> None:
    """Stop with a plain line where they differ."""
    if seen != wanted:
        sys.exit(f"{what}: expected {wanted!r}, saw {seen!r}")
    print(f"  {what}: {seen}")


def ready(browser: Browser) -> None:
    """Wait until it is able to work."""
    started = time.monotonic()
    while time.monotonic() - started < 60:
        try:
            if browser.open("/readyz")[0] == 200:
                print(f"  ready after {time.monotonic() - started:.1f} s")
                return
        except OSError:
            pass
        time.sleep(0.1)
    sys.exit("not ready within 60 s")


def embedder(index: Path) -> bool:
    """True once the model has been converted and kept: it loads in the background after the start."""
    started = time.monotonic()
    while time.monotonic() - started < 60:
        if list(index.rglob("e5-*.onnx")):
            return True
        time.sleep(0.2)
    return False


def first(browser: Browser, log: Path) -> None:
    expect("anonymous visitor of the panel", browser.open("/chat")[0] in (302, 303, 307, 401, 403), True)
    expect("wrong setup code", browser.open("/setup/code", code="AAAA-BBBB-CCCC")[0], 422)
    codes = CODE.findall(log.read_text(encoding="utf-8"))
    expect("setup codes in the log", len(set(codes)), 1)
    expect("setup code", browser.open("/setup/code", code=codes[0])[:2], (303, "/setup/admin"))
    expect(
        "first admin",
        browser.open("/setup/admin", name=NAME, password=PASSWORD, again=PASSWORD)[:2],
        (303, "/setup/totp"),
    )
    expect("wizard goes on", browser.open("/setup")[0], 200)
    expect("embedder of the memory works", embedder(log.parent / "data" / "index"), True)
    expect("warnings of the embedder", re.findall(r".*embedder.*", log.read_text(encoding="utf-8")), [])


def second(browser: Browser, log: Path) -> None:
    expect("setup codes in the log", CODE.findall(log.read_text(encoding="utf-8")), [])
    expect("setup is over", browser.open("/setup/code")[:2], (303, "/login"))
    expect("wrong password", browser.open("/login", name=NAME, password="not this one")[0] in (401, 422), True)
    expect("sign-in with the account of the first run", browser.open("/login", name=NAME, password=PASSWORD)[0], 303)
    expect("panel", browser.open("/chat")[0], 200)


def main() -> None:
    run, address, folder = sys.argv[1], sys.argv[2], Path(sys.argv[3])
    browser = Browser(address)
    ready(browser)
    {"first": first, "second": second}[run](browser, folder / "log")
    owners = {path.stat().st_uid for path in [folder / "data", *(folder / "data").rglob("*")]}
    expect("owners of the data", owners, {10001})


if __name__ == "__main__":
    main()
