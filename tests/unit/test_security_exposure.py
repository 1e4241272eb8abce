"""Eight unsafe ways to listen: refused before anything listens, or accepted and recorded."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import trustme

from security.exposure import Exposure, check_exposure, is_wide, record_exposure
from storage.audit import audit_t
from storage.clock import Clock, ManualClock
from storage.database import SqliteDatabase
from storage.errors import Invalid
from storage.settings import Settings, read_settings
from tests.security_house import House


@pytest.fixture
def pair(tmp_path: Path) -> Callable[..., tuple[Path, Path]]:
    """Certificate and key on disk."""
    ca = trustme.CA()

    def make(name: str = "a", **options: object) -> tuple[Path, Path]:
        issued = ca.issue_cert("zhixing.test", **options)  # type: ignore[arg-type]
        cert, key = tmp_path / f"{name}.pem", tmp_path / f"{name}.key"
        cert.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
        key.write_bytes(issued.private_key_pem.bytes())
        key.chmod(0o600)
        return cert, key

    return make


def _check(settings: Settings) -> str:
    try:
        return check_exposure(settings, Clock()).how
    except Invalid as error:
        return error.code


async def test_unsafe_listeners_are_refused_or_accepted_on_purpose(
    tmp_path: Path, pair: Callable[..., tuple[Path, Path]]
) -> None:
    safe = Settings(data=tmp_path)
    assert _check(safe) == "loopback"
    for options, code in (
        ({"host": "0.0.0.0"}, "exposure.plain"),
        ({"host": "::"}, "exposure.plain"),
        ({"host": "192.168.1.5"}, "exposure.plain"),
        ({"host": "zhixing.corp"}, "exposure.plain"),
        ({"host": "0.0.0.0", "proxies": ("0.0.0.0/0",)}, "exposure.proxies_everyone"),
        ({"host": "127.0.0.1", "proxies": ("::/0",)}, "exposure.proxies_everyone"),
        ({"host": "0.0.0.0", "proxies": ("10.0.0.1",), "allow_local_vendors": True}, "exposure.local_vendors"),
        ({"host": "0.0.0.0", "proxies": ("10.0.0.1",), "setup_code": "1234"}, "exposure.setup_code"),
    ):
        settings = replace(safe, **options)
        assert _check(settings) == code, options
        exposure = check_exposure(replace(settings, accept_plain=True), Clock())
        assert code in exposure.accepted
    assert _check(replace(safe, host="0.0.0.0", proxies=("10.0.0.1",))) == "proxy"


def test_a_bad_certificate_is_refused_whatever_is_accepted(
    tmp_path: Path, pair: Callable[..., tuple[Path, Path]]
) -> None:
    cert, key = pair()
    other, _ = pair("b")
    old = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
    expired, expired_key = pair("c", not_after=old)
    open_cert, open_key = pair("d")
    open_key.chmod(0o644)
    base = Settings(data=tmp_path, host="0.0.0.0", accept_plain=True)
    for tls_cert, tls_key, code in (
        (cert, None, "exposure.tls_half"),
        (None, key, "exposure.tls_half"),
        (tmp_path / "none.pem", key, "exposure.tls_unreadable"),
        (other, key, "exposure.tls_mismatch"),
        (key, key, "exposure.tls_mismatch"),
        (expired, expired_key, "exposure.tls_expired"),
        (open_cert, open_key, "exposure.tls_key_open"),
    ):
        assert _check(replace(base, tls_cert=tls_cert, tls_key=tls_key)) == code
    assert _check(replace(base, tls_cert=cert, tls_key=key, accept_plain=False)) == "tls"


@pytest.mark.parametrize(
    ("host", "wide"),
    [
        *((host, False) for host in ("127.0.0.1", "127.9.9.9", "::1", "localhost")),
        *((host, True) for host in ("0.0.0.0", "::", "10.0.0.1", "::ffff:10.0.0.1", "box.corp", "")),
    ],
)
def test_wide(host: str, wide: bool) -> None:
    assert is_wide(host) == wide


async def test_what_is_accepted_is_recorded_once_for_each_change(db: SqliteDatabase, clock: ManualClock) -> None:
    audit = House(db, clock).audit
    safe = Exposure(wide=False, how="loopback")
    accepted = Exposure(wide=True, how="accepted", accepted=("exposure.plain",))
    steps = [(safe, False), (accepted, True), (accepted, False), (safe, True), (safe, False)]
    for exposure, recorded in steps:
        assert await record_exposure(db, audit, clock, exposure) == recorded
    rows = await db.read(lambda c: c.execute(audit_t.select()).all())
    assert [row.action for row in rows] == ["server.exposure", "server.exposure"]
    assert "exposure.plain" in rows[0].after


def test_settings_are_read(tmp_path: Path) -> None:
    settings = read_settings(
        {
            "ZHIXING_DATA": str(tmp_path),
            "ZHIXING_HOSTS": "a.example.com, b.example.com",
            "ZHIXING_PROXIES": "127.0.0.1 10.0.0.0/8",
            "ZHIXING_TLS_CERT": "/x/cert.pem",
            "ZHIXING_ACCEPT_PLAIN": "1",
        }
    )
    assert settings.hosts == ("a.example.com", "b.example.com")
    assert settings.proxies == ("127.0.0.1", "10.0.0.0/8")
    assert settings.tls_cert == Path("/x/cert.pem")
    assert settings.tls_key is None
    assert settings.accept_plain
