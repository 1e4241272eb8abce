"""Transport: encryption on the way in and out, certificate, headers, cookies."""

from __future__ import annotations

import asyncio
import datetime
import socket
import ssl
import tempfile
import warnings
from pathlib import Path

from security.checklist import Check, Finding, fail, ok, unknown, warn
from security.egress import ADMIN
from security.probes.facts import Facts, unverified
from security.tls import Certificate, read_certificate
from storage.errors import AppError, Unavailable

WEAK_VERSIONS = (ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1)
WEAK_CIPHERS = ("RC4-SHA", "DES-CBC3-SHA", "AES128-SHA", "AES128-GCM-SHA256", "ECDHE-RSA-AES128-SHA", "NULL-SHA256")
WANTED = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cache-control": "no-store",
    "cross-origin-opener-policy": "same-origin",
}
POLICY = ("default-src 'none'", "frame-ancestors 'none'", "base-uri 'none'", "form-action 'self'")
WARN_DAYS, FAIL_DAYS = 21, 3


def _public(facts: Facts) -> str:
    """The name under which a proxy serves us, if one is known."""
    names = (*facts.addresses.lists.hosts, *facts.settings.hosts)
    return names[0] if names else ""


async def https(facts: Facts) -> Finding:
    """Whoever is not on this machine comes encrypted."""
    how, host = facts.exposure.how, _public(facts)
    if how == "accepted":
        return fail("plain")
    if facts.door.tls:
        return ok("served", version=await asyncio.to_thread(_version, await _socket(facts)))
    if not host:
        return ok("local") if how == "loopback" else unknown("no_name")
    try:
        answer = await facts.egress.request("GET", f"https://{host}/healthz", policy=ADMIN)
        plain = await facts.egress.request("GET", f"http://{host}/login", policy=ADMIN)
    except Unavailable as error:
        return unknown("unreachable", host=host, why=error.code)
    if answer.status_code != 200:
        return fail("no_answer", host=host, status=answer.status_code)
    place = plain.headers.get("location", "")
    if plain.status_code not in (301, 308) or not place.startswith("https://"):
        return fail("no_redirect", host=host, status=plain.status_code)
    return ok("proxied", host=host)


async def _socket(facts: Facts) -> socket.socket:
    """A connection to where TLS is served for us: our own listener, or the proxy's.

    Raises:
        LookupError: no TLS is served that we know of.
    """
    loop = asyncio.get_running_loop()
    if facts.door.tls:
        info = await loop.getaddrinfo(facts.door.name, facts.door.port, type=socket.SOCK_STREAM)
        sock = socket.socket(info[0][0], socket.SOCK_STREAM)
        sock.setblocking(False)
        await loop.sock_connect(sock, info[0][4])
    elif host := _public(facts):
        sock, _, _ = await facts.egress.connect(f"https://{host}/", policy=ADMIN)
    else:
        raise LookupError("no TLS to look at")
    return sock


def _version(sock: socket.socket) -> str:
    sock.settimeout(3)
    with unverified().wrap_socket(sock, server_hostname="localhost") as wrapped:
        return str(wrapped.version())


async def versions(facts: Facts) -> Finding:
    """Old versions and weak ciphers are offered, one by one; each must be refused."""
    if not facts.door.tls and not _public(facts):
        return ok("local") if facts.exposure.how == "loopback" else fail("none")
    taken, offered = [], 0
    for name, context in await asyncio.to_thread(_offers):
        offered += 1
        sock = await _socket(facts)
        if await asyncio.to_thread(_accepted, context, sock, _public(facts) or "localhost"):
            taken.append(name)
    if not offered:
        return unknown("no_offers")
    return fail("weak", names=", ".join(taken)) if taken else ok("refused", offered=offered)


def _offers() -> list[tuple[str, ssl.SSLContext]]:
    """Contexts that offer one weak thing each, as far as this machine's OpenSSL still can."""
    offers = []
    for version in WEAK_VERSIONS:
        context = unverified()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)
                context.set_ciphers("ALL:@SECLEVEL=0")
                context.minimum_version = context.maximum_version = version
            offers.append((version.name, context))
        except (ssl.SSLError, ValueError):
            continue
    for cipher in WEAK_CIPHERS:
        context = unverified()
        try:
            context.maximum_version = ssl.TLSVersion.TLSv1_2
            context.set_ciphers(f"{cipher}:@SECLEVEL=0")
            offers.append((cipher, context))
        except ssl.SSLError:
            continue
    return offers


def _accepted(context: ssl.SSLContext, sock: socket.socket, host: str) -> bool:
    sock.settimeout(3)
    try:
        with context.wrap_socket(sock, server_hostname=host):
            return True
    except (ssl.SSLError, OSError):
        return False
    finally:
        sock.close()


async def certificate(facts: Facts) -> Finding:
    """The certificate that is really served: how long it lasts, whom it names."""
    if not facts.door.tls and not _public(facts):
        return ok("local") if facts.exposure.how == "loopback" else fail("none")
    host = _public(facts)
    pem = await asyncio.to_thread(_peer, await _socket(facts), host or "localhost")
    found = read_certificate(pem)
    days = found.days_left(facts.clock.now())
    if days < 0:
        return fail("over", days=-days)
    if host and not _names(found, host):
        return fail("other_name", host=host, names=", ".join(found.names)[:200])
    if days < FAIL_DAYS:
        return fail("ends", days=days)
    if days < WARN_DAYS:
        return warn("ends", days=days)
    if found.self_signed:
        return warn("self_signed", days=days)
    return ok("good", days=days)


def _names(found: Certificate, host: str) -> bool:
    parts = host.split(".", 1)
    return any(
        item == host or (item.startswith("*.") and len(parts) == 2 and item[2:] == parts[1]) for item in found.names
    )


def _peer(sock: socket.socket, host: str) -> bytes:
    sock.settimeout(3)
    with unverified().wrap_socket(sock, server_hostname=host) as wrapped:
        return ssl.DER_cert_to_PEM_cert(wrapped.getpeercert(binary_form=True) or b"").encode()


async def headers(facts: Facts) -> Finding:
    """The headers of the page that everyone sees first."""
    reply = await facts.door.ask("GET", "/login")
    if reply.status == 303:
        reply = await facts.door.ask("GET", reply.header("location"))
    if reply.status != 200:
        return unknown("no_page", status=reply.status)
    missing = [name for name, value in WANTED.items() if reply.header(name).lower() != value.lower()]
    policy = reply.header("content-security-policy")
    missing += [part for part in POLICY if part not in policy]
    return fail("missing", names=", ".join(missing)) if missing else ok("set", count=len(WANTED) + len(POLICY))


async def cookies(facts: Facts) -> Finding:
    """The flags of the session cookie, read from the answer that takes it away."""
    origin = ("https://" if facts.door.tls else "http://") + facts.door.authority
    reply = await facts.door.ask("POST", "/logout", headers=[("Origin", origin)])
    lines = [line for line in reply.all("set-cookie") if "zhixing" in line.partition("=")[0]]
    if not lines:
        return unknown("none", status=reply.status)
    flags = ["httponly", "samesite=strict", "path=/"] + (["secure"] if facts.door.tls else [])
    missing = sorted({flag for line in lines for flag in flags if flag not in line.lower()})
    if facts.door.tls and not all(line.startswith("__Host-") for line in lines):
        missing.append("__Host-")
    return fail("missing", flags=", ".join(missing)) if missing else ok("set", flags=", ".join(flags))


async def outgoing(facts: Facts) -> Finding:
    """Our own client refuses a certificate that nobody vouches for: tried on one made for the occasion."""
    context = await asyncio.to_thread(_self_signed)
    reached = 0

    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal reached
        reached += 1
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    async with server:
        try:
            await facts.egress.request("GET", f"https://localhost:{port}/", policy=ADMIN)
        except AppError as error:
            return ok("refused") if error.code == "egress.tls" and not reached else unknown("other", why=error.code)
    return fail("taken")


def _self_signed() -> ssl.SSLContext:
    """A server context with a fresh certificate that no authority has signed."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    today = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
    cert = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(today)
        .not_valid_after(today + datetime.timedelta(days=20_000))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    form = serialization.Encoding.PEM
    secret = key.private_bytes(form, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pair.pem"
        path.write_bytes(cert.public_bytes(form) + secret)
        context.load_cert_chain(path)
    return context


async def remembered(facts: Facts) -> Finding:
    """Browsers are told to come encrypted from now on (HSTS)."""
    host = _public(facts)
    if not host:
        return {"loopback": ok("local"), "accepted": fail("plain")}.get(facts.exposure.how, unknown("no_name"))
    if facts.door.tls:
        held = (await facts.door.ask("GET", "/login", headers=[("Host", host)])).header("strict-transport-security")
    else:
        answer = await facts.egress.request("GET", f"https://{host}/login", policy=ADMIN)
        held = answer.headers.get("strict-transport-security", "")
    age = held.partition("max-age=")[2].partition(";")[0].strip()
    if not age.isdigit() or int(age) < 15_000_000:
        return fail("missing", host=host)
    return ok("set", host=host, days=int(age) // 86_400)


CHECKS: tuple[Check[Facts], ...] = (
    Check(id="transport.https", probe=https, critical=True),
    Check(id="transport.versions", probe=versions),
    Check(id="transport.certificate", probe=certificate),
    Check(id="transport.remembered", probe=remembered),
    Check(id="transport.headers", probe=headers),
    Check(id="transport.cookies", probe=cookies),
    Check(id="transport.outgoing", probe=outgoing, critical=True),
)
