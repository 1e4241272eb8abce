"""Whom the listener can be reached by, and whether that is safe enough to listen at all."""

from __future__ import annotations

import json
from dataclasses import dataclass
from ipaddress import ip_address

from sqlalchemy import Connection, delete, insert, select

from security.addresses import read_ranges
from security.tls import check_files
from storage.audit import Audit
from storage.clock import Clock
from storage.database import Database
from storage.errors import Invalid
from storage.principal import SYSTEM, TENANT
from storage.settings import Settings
from storage.tables.system import Setting

setting_t = Setting.__table__  # type: ignore[attr-defined]
RECORD = "server.exposure"
LEAST_CODE = 10


@dataclass(frozen=True, kw_only=True, slots=True)
class Exposure:
    """How the listener is protected.

    Attributes:
        wide: others than this machine can reach it.
        how: `loopback`, `tls` (served by us), `proxy` (a trusted one in front) or `accepted` (not at all, on purpose).
        accepted: codes of what was accepted on purpose.
    """

    wide: bool
    how: str
    accepted: tuple[str, ...] = ()

    @property
    def encrypted_only(self) -> bool:
        """True if whoever is not on this machine has to come encrypted."""
        return self.how in ("tls", "proxy")


def is_wide(host: str) -> bool:
    """True if an address to listen on can be reached from elsewhere. A name counts as wide, but for localhost."""
    try:
        return not ip_address(host.strip("[]").partition("%")[0]).is_loopback
    except ValueError:
        return host.lower() != "localhost"


def check_exposure(settings: Settings, clock: Clock, *, proxies: tuple[str, ...] = ()) -> Exposure:
    """Say how the listener would be protected. Call it before anything listens.

    Args:
        proxies: trusted proxies that an admin set in the panel, beside those of the settings.

    Raises:
        Invalid: `exposure.plain`, `exposure.proxies_everyone`, `exposure.local_vendors`, `exposure.setup_code`,
            `exposure.tls_*`: nothing may listen. All but the last are let through, and named in the result, where
            the settings accept a plain listener.
    """
    if settings.tls_cert is not None or settings.tls_key is not None:
        check_files(settings.tls_cert, settings.tls_key, clock)
    wide = is_wide(settings.host)
    tls = settings.tls_cert is not None
    trusted = read_ranges((*settings.proxies, *proxies), "ZHIXING_PROXIES")
    problems: list[Invalid] = []
    if wide and not tls and not trusted:
        problems.append(Invalid("exposure.plain", "ZHIXING_HOST", host=settings.host))
    for net in trusted:
        if net.prefixlen < (8 if net.version == 4 else 16):
            problems.append(Invalid("exposure.proxies_everyone", "ZHIXING_PROXIES", entry=str(net)))
    if wide and settings.allow_local_vendors:
        problems.append(Invalid("exposure.local_vendors", "ZHIXING_ALLOW_LOCAL_VENDORS"))
    if wide and settings.setup_code and len(settings.setup_code) < LEAST_CODE:
        problems.append(Invalid("exposure.setup_code", "ZHIXING_SETUP_CODE", least=LEAST_CODE))
    if problems and not settings.accept_plain:
        raise problems[0]
    how = "loopback" if not wide else "tls" if tls else "proxy" if trusted else "accepted"
    return Exposure(wide=wide, how=how, accepted=tuple(dict.fromkeys(problem.code for problem in problems)))


async def record_exposure(db: Database, audit: Audit, clock: Clock, exposure: Exposure) -> bool:
    """Write into the audit log what was accepted, once for each change.

    Returns:
        True if something was recorded.
    """
    now = {"how": exposure.how, "accepted": list(exposure.accepted)}

    def run(c: Connection) -> bool:
        where = (setting_t.c.tenant == TENANT, setting_t.c.key == RECORD)
        row = c.execute(select(setting_t.c.value).where(*where)).first()
        before = None if row is None else json.loads(row.value)
        if before == now or (before is None and not exposure.accepted):
            return False
        c.execute(delete(setting_t).where(*where))
        values = {"tenant": TENANT, "key": RECORD, "value": json.dumps(now), "updated_at": clock.ms()}
        c.execute(insert(setting_t).values(**values))
        audit.record(c, SYSTEM, "server.exposure", "listener", before=before, after=now)
        return True

    return await db.write(run)
