"""TLS served directly: version 1.2 or newer, forward secrecy only, a certificate that fits before anything listens.

Cipher choice: Mozilla's intermediate recommendation without CBC and without RSA key exchange.
"""

from __future__ import annotations

import ssl
import stat
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from storage.clock import Clock
from storage.errors import Invalid

CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20:!aNULL:!MD5:!DSS"


@dataclass(frozen=True, kw_only=True, slots=True)
class Certificate:
    """What a certificate says of itself."""

    names: tuple[str, ...]
    not_after: datetime
    self_signed: bool
    key_bits: int

    def days_left(self, now: datetime) -> int:
        """Whole days until it ends; negative once it is over."""
        return (self.not_after - now) // timedelta(days=1)


def server_context(cert: Path, key: Path) -> ssl.SSLContext:
    """The context to serve with.

    Raises:
        Invalid: `exposure.tls_unreadable`, `exposure.tls_mismatch`; `field` names the setting.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_CIPHER_SERVER_PREFERENCE | ssl.OP_NO_RENEGOTIATION
    context.set_ciphers(CIPHERS)
    context.set_alpn_protocols(["http/1.1"])
    for path, field in ((cert, "ZHIXING_TLS_CERT"), (key, "ZHIXING_TLS_KEY")):
        try:
            path.read_bytes()
        except OSError as error:
            why = error.strerror or type(error).__name__
            raise Invalid("exposure.tls_unreadable", field, path=str(path), why=why) from error
    try:
        # an encrypted key would be asked for on the terminal, where nobody sits
        context.load_cert_chain(cert, key, password=lambda: b"")
    except (ssl.SSLError, ValueError) as error:
        raise Invalid("exposure.tls_mismatch", "ZHIXING_TLS_KEY", cert=str(cert), key=str(key)) from error
    return context


def read_certificate(pem: bytes) -> Certificate:
    """Read the first certificate of a chain.

    Raises:
        ValueError: there is none.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import rsa

    cert = x509.load_pem_x509_certificate(pem)
    try:
        names = cert.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        shown = tuple(str(item.value) for item in names)
    except x509.ExtensionNotFound:
        shown = ()
    public = cert.public_key()
    bits = public.key_size if isinstance(public, rsa.RSAPublicKey) else getattr(public, "key_size", 256)
    after = cert.not_valid_after_utc
    return Certificate(names=shown, not_after=after, self_signed=cert.issuer == cert.subject, key_bits=int(bits))


def check_files(cert: Path | None, key: Path | None, clock: Clock) -> None:
    """Refuse a certificate that browsers would refuse, and a key that others can read.

    Raises:
        Invalid: `exposure.tls_half`, `exposure.tls_unreadable`, `exposure.tls_mismatch`, `exposure.tls_expired`,
            `exposure.tls_key_open`.
    """
    if cert is None or key is None:
        raise Invalid("exposure.tls_half", "ZHIXING_TLS_CERT" if cert is None else "ZHIXING_TLS_KEY")
    server_context(cert, key)
    try:
        found = read_certificate(cert.read_bytes())
    except ValueError as error:
        raise Invalid("exposure.tls_mismatch", "ZHIXING_TLS_CERT", cert=str(cert), key=str(key)) from error
    if found.not_after <= datetime.fromtimestamp(clock.ms() / 1000, UTC):
        raise Invalid("exposure.tls_expired", "ZHIXING_TLS_CERT", path=str(cert), day=f"{found.not_after:%Y-%m-%d}")
    if key.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO) & ~stat.S_IRGRP:
        raise Invalid("exposure.tls_key_open", "ZHIXING_TLS_KEY", path=str(key))


def uvicorn_options(cert: Path | None, key: Path | None) -> dict[str, Any]:
    """Options for `uvicorn.Config`; none if TLS is not served by us."""
    if cert is None or key is None:
        return {}
    return {"ssl_context_factory": lambda _config, _default: server_context(cert, key)}
