"""What probes look at, and how they knock at our own door."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import Connection

from security.addresses import Addresses
from security.egress_client import EgressClient
from security.exposure import Exposure
from security.guessing import Guessing
from security.passwords import Passwords
from security.sessions import Sessions
from security.setup import Setup
from storage.audit import Audit
from storage.clock import Clock
from storage.database import Database
from storage.settings import ROOT, Settings
from storage.vault import Vault

MOST = 256 * 1024
SECONDS = 2.0


@dataclass(frozen=True, kw_only=True, slots=True)
class BackupFacts:
    """The newest backup. Times in ms; `tested_at` 0: never restored as a trial."""

    at: int
    size: int
    before: int = 0
    tested_at: int = 0
    off_host: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Reply:
    """What our own door answered. `status` 0: it closed without a word."""

    status: int
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""

    def header(self, name: str) -> str:
        return next((value for key, value in self.headers if key == name), "")

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key == name]


@dataclass(frozen=True, kw_only=True, slots=True)
class Door:
    """Our own listener, knocked at over the network like anybody."""

    host: str
    port: int
    tls: bool = False

    @property
    def name(self) -> str:
        """Where to connect to: a listener on all addresses answers on loopback too."""
        return {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(self.host, self.host)  # noqa: S104 - compared

    @property
    def authority(self) -> str:
        return f"[{self.name}]:{self.port}" if ":" in self.name else f"{self.name}:{self.port}"

    async def ask(
        self,
        method: str,
        path: str,
        *,
        headers: Sequence[tuple[str, str]] = (),
        body: bytes = b"",
        length: int | None = None,
        local: str = "",
    ) -> Reply:
        """One request.

        Args:
            length: the length to announce, if it shall not be the body's.
            local: address to come from.

        Raises:
            OSError: nobody is there. TimeoutError: no answer within two seconds.
        """
        # the certificate is another check's matter; here it is our own process that we talk to
        context = unverified() if self.tls else None
        names = {name.lower() for name, _ in headers}
        lines = [f"{method} {path} HTTP/1.1"]
        if "host" not in names:
            lines.append(f"Host: {self.authority}")
        lines += [f"{name}: {value}" for name, value in headers]
        if body or length is not None:
            lines.append(f"Content-Length: {len(body) if length is None else length}")
        lines.append("Connection: Upgrade" if "upgrade" in names else "Connection: close")
        source = (local, 0) if local else None
        reader, writer = await asyncio.open_connection(
            self.name, self.port, ssl=context, local_addr=source, server_hostname="localhost" if context else None
        )
        try:
            writer.write("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body)
            await writer.drain()
            async with asyncio.timeout(SECONDS):
                return await _reply(reader)
        except (ConnectionError, asyncio.IncompleteReadError):
            return Reply(status=0)
        finally:
            writer.close()


def unverified() -> ssl.SSLContext:
    """A client context that looks at a certificate without judging it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


async def _reply(reader: asyncio.StreamReader) -> Reply:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.LimitOverrunError:
        return Reply(status=0)
    first, *rest = head.decode("latin-1").split("\r\n")
    parts = first.split(" ", 2)
    status = int(parts[1]) if len(parts) > 1 and parts[1].isdigit() else 0
    headers = tuple((k.strip().lower(), v.strip()) for k, _, v in (line.partition(":") for line in rest if line))
    if status == 101:
        return Reply(status=status, headers=headers)
    body = bytearray()
    while len(body) < MOST and (piece := await reader.read(MOST - len(body))):
        body += piece
    return Reply(status=status, headers=headers, body=bytes(body))


@dataclass(frozen=True, kw_only=True)
class Facts:
    """Everything that probes look at. Tests give one part of it in a bad state at a time.

    Attributes:
        door: our own listener.
        pages: paths of pages that must not answer without a session.
        backup: the newest backup, or None if there is none; no function: backups are not built in.
        attested: True while an admin's declaration of a check holds.
        anchor: how the audit log's end fits the note outside of the database (`storage.anchor`).
    """

    settings: Settings
    exposure: Exposure
    door: Door
    db: Database
    clock: Clock
    vault: Vault
    audit: Audit
    addresses: Addresses
    egress: EgressClient
    passwords: Passwords
    guessing: Guessing
    sessions: Sessions
    setup: Setup
    pages: Callable[[], Sequence[str]] = lambda: ("/", "/chat", "/models", "/security", "/audit")
    backup: Callable[[], Awaitable[BackupFacts | None]] | None = None
    attested: Callable[[str], bool] = lambda _: False
    anchor: Callable[[Connection], str] = lambda _: "ok"
    root: Path = field(default=ROOT)
    proc: Path = field(default=Path("/proc/self"))
    block: Path = field(default=Path("/sys/dev/block"))
    run: Path = field(default=Path("/var/run"))
