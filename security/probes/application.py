"""Application: the gate, guessing, passwords, factors, foreign text, switches that belong in tests."""

from __future__ import annotations

import asyncio
import base64
import re

from sqlalchemy import Connection, Row, select

from security import markdown
from security.checklist import Check, Finding, fail, ok, unknown, warn
from security.guessing import ACCOUNT, by_account
from security.page_clients import owner_of
from security.probes.facts import Facts
from security.user_rows import user_t
from storage.errors import Throttled
from storage.tables.people import ApiKey

key_t = ApiKey.__table__  # type: ignore[attr-defined]
DAY = 86_400_000
NOT_THERE = ("/docs", "/openapi.json", "/redoc", "/wp-login.php", "/.env", "/_nicegui/auto")
SOCKET = "/_nicegui_ws/socket.io/?EIO=4&transport=websocket&client_id=probe&implicit_handshake=true"
HOSTILE = "http://evil.example"
PAYLOADS = (
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "[x](javascript:alert(1))",
    "[x](JaVaScRiPt:alert(1))",
    "[x](data:text/html,<script>alert(1)</script>)",
    "![x](http://evil.example/pixel.png)",
    "![x][y]\n\n[y]: http://evil.example/p.png",
    "<svg onload=alert(1)>",
    "<iframe src=http://evil.example></iframe>",
    "<a href='javascript:alert(1)'>x</a>",
    "<style>*{background:url(http://evil.example)}</style>",
    "<form action=http://evil.example><input name=a></form>",
    "<div style='position:fixed;top:0'>x</div>",
    "`<script>alert(1)</script>`",
    "```html\n<script>alert(1)</script>\n```",
    "<math><mtext><table><mglyph><style><img src=x onerror=alert(1)>",
    "&#60;script&#62;alert(1)&#60;/script&#62;",
    "<object data=http://evil.example></object>",
    "<meta http-equiv=refresh content='0;url=http://evil.example'>",
    "[x](vbscript:msgbox(1))",
    "<link rel=stylesheet href=http://evil.example/x.css>",
    "<base href=http://evil.example/>",
    "<video src=http://evil.example/x.mp4 autoplay></video>",
    "| a |\n|---|\n| <img src=x onerror=alert(1)> |",
)
# Looked for in real tags only: a payload shown as text is what is wanted.
_TAG = re.compile(r"<[a-zA-Z][^>]*>")
_ACTIVE = re.compile(
    r"^<(script|iframe|object|embed|form|meta|link|base|style|svg|math|video|audio|img)\b"
    r"|\son\w+\s*=|\sstyle\s*=|(href|src)\s*=\s*[\"']?\s*(javascript|data|vbscript):",
    re.IGNORECASE,
)
# At least as long as the rules ask, so that only what they let through is tried.
GUESSES = (
    "password1234 password12345 passwordpassword admin1234567 administrator administrator1 adminadminadmin "
    "123456789012 1234567890123 1q2w3e4r5t6y qwertyuiop123 qwertyuiopas asdfghjkl123 zhixing12345 zhixing2026! "
    "zhixingadmin openclaw1234 dingtalk1234 feishu123456 woaini1314520 woaini5201314 welcome12345 changeme1234 "
    "letmein12345 iloveyou1234 abcd12345678 aa1234567890 test12345678"
)


async def gate(facts: Facts) -> Finding:
    """The attacks that NiceGUI alone lets through, on our own door: sockets and uploads without a session."""
    own = ("https://" if facts.door.tls else "http://") + facts.door.authority
    key = base64.b64encode(b"probe-probe-prob").decode()
    upgrade = [("Upgrade", "websocket"), ("Sec-WebSocket-Key", key), ("Sec-WebSocket-Version", "13")]
    cookie = ("Cookie", "zhixing=" + "A" * 43)
    through = []
    for name, extra in (
        ("no_session", [("Origin", own)]),
        ("made_up", [("Origin", own), cookie]),
        ("origin", [("Origin", HOSTILE), cookie]),
        ("no_origin", [cookie]),
    ):
        reply = await facts.door.ask("GET", SOCKET, headers=[*upgrade, *extra])
        if reply.status in (101, 200):
            through.append(f"socket {name}")
    for name, origin in (("session", own), ("origin", HOSTILE)):
        reply = await facts.door.ask("POST", "/_nicegui/client/probe/upload/1", headers=[("Origin", origin)], body=b"x")
        if reply.status not in (401, 403, 413):
            through.append(f"upload {name}")
    if owner_of("probe") is not None:
        through.append("owner")
    return fail("through", what=", ".join(through)) if through else ok("refused", tried=6)


async def anonymous(facts: Facts) -> Finding:
    """Pages answer nobody without a session; what does not exist answers nobody at all."""
    answered = []
    for path in facts.pages():
        reply = await facts.door.ask("GET", path)
        if reply.status not in (303, 401, 403, 404):
            answered.append(f"{path} {reply.status}")
    for path in NOT_THERE:
        reply = await facts.door.ask("GET", path)
        if reply.status not in (401, 403, 404):
            answered.append(f"{path} {reply.status}")
    if answered:
        return fail("answered", what=", ".join(answered))
    return ok("refused", tried=len(facts.pages()) + len(NOT_THERE))


async def guessing(facts: Facts) -> Finding:
    """One try too many on an account that does not exist is refused. Leaves nothing behind."""
    key = by_account("\x00probe")

    def run(c: Connection) -> None:
        for _ in range(ACCOUNT.tries + 1):
            facts.guessing.attempt(c, key)
        facts.guessing.succeeded(c, key)

    try:
        await facts.db.write(run)
    except Throttled as error:  # which also undoes the write
        return ok("locked", tries=ACCOUNT.tries, seconds=int(error.retry_after))
    return fail("endless", tries=ACCOUNT.tries + 1)


async def passwords(facts: Facts) -> Finding:
    """Often used passwords are tried on those who may administer; slowly, so that nobody waits for it at the login."""
    able = (user_t.c.disabled_at.is_(None), user_t.c.role.in_(("owner", "admin")))
    rows = await facts.db.read(lambda c: c.execute(select(user_t).where(*able).limit(5)).all())
    if not rows:
        return unknown("nobody")
    weak = []
    for row in rows:
        for guess in (*GUESSES.split(), f"{row.name_key}123456789", f"{row.name_key}{row.name_key}123456"):
            if await facts.passwords.verify(guess, row.password_hash):
                weak.append(row.name)
                break
            await asyncio.sleep(0.05)
    return fail("weak", names=", ".join(weak)) if weak else ok("held", tried=len(GUESSES.split()) + 2, people=len(rows))


async def totp(facts: Facts) -> Finding:
    """Whoever may administer signs in with a second factor."""
    able = (user_t.c.disabled_at.is_(None), user_t.c.role.in_(("owner", "admin")))
    rows = await facts.db.read(lambda c: c.execute(select(user_t.c.name, user_t.c.totp_secret).where(*able)).all())
    if not rows:
        return unknown("nobody")
    without = [row.name for row in rows if not row.totp_secret]
    if not without:
        return ok("all", count=len(rows))
    names = ", ".join(without)[:200]
    return fail("without", names=names) if facts.exposure.wide else warn("without", names=names)


async def setup(facts: Facts) -> Finding:
    """The one-time code is void once an admin exists, and is not fixed for good."""
    if await facts.setup.needed():
        return fail("open") if facts.exposure.wide else warn("open")
    origin = ("https://" if facts.door.tls else "http://") + facts.door.authority
    reply = await facts.door.ask("GET", "/setup/code", headers=[("Origin", origin)])
    if reply.status != 303 or not reply.header("location").startswith("/login"):
        return fail("answers", status=reply.status)
    return warn("fixed") if facts.settings.setup_code else ok("void")


async def rendering(facts: Facts) -> Finding:
    """Hostile text is shown as text: no script, no picture from outside, no form."""
    bad = []
    for payload in PAYLOADS:
        html = await asyncio.to_thread(markdown.render, payload)
        if any(_ACTIVE.search(tag) for tag in _TAG.findall(html)):
            bad.append(payload[:40])
    return fail("active", what="; ".join(bad)) if bad else ok("harmless", tried=len(PAYLOADS))


async def keys(facts: Facts) -> Finding:
    """API keys end, and are used."""
    rows = await facts.db.read(_keys)
    now = facts.clock.ms()
    endless = [row.name for row in rows if row.expires_at is None]
    idle = [row.name for row in rows if (row.used_at or row.created_at) < now - 90 * DAY]
    if endless:
        return warn("endless", names=", ".join(endless)[:200])
    if idle:
        return warn("idle", names=", ".join(idle)[:200])
    return ok("good", count=len(rows))


def _keys(c: Connection) -> list[Row[tuple[object, ...]]]:
    return list(c.execute(select(key_t).where(key_t.c.revoked_at.is_(None))))


async def switches(facts: Facts) -> Finding:
    """No switch that belongs in tests is on."""
    found = []
    if facts.settings.allow_local_vendors:
        found.append("ZHIXING_ALLOW_LOCAL_VENDORS")
    if facts.settings.crash_at:
        found.append("ZHIXING_CRASH_AT")
    return fail("on", names=", ".join(found)) if found else ok("off")


CHECKS: tuple[Check[Facts], ...] = (
    Check(id="application.gate", probe=gate, critical=True),
    Check(id="application.anonymous", probe=anonymous, critical=True),
    Check(id="application.guessing", probe=guessing, critical=True),
    Check(id="application.passwords", probe=passwords, critical=True, deep=True),
    Check(id="application.totp", probe=totp),
    Check(id="application.setup", probe=setup, critical=True),
    Check(id="application.rendering", probe=rendering),
    Check(id="application.keys", probe=keys),
    Check(id="application.switches", probe=switches),
)
