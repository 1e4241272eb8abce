"""Time-based one-time codes (RFC 6238, SHA-1, 6 digits, 30 s) and recovery codes. Callers keep single use."""

from __future__ import annotations

import base64
import hashlib
import hmac
import io
import re
import secrets
import unicodedata
from urllib.parse import quote

STEP = 30
DRIFT = 1
RECOVERY_CODES = 10
_LETTERS = "abcdefghjkmnpqrstuvwxyz23456789"


def new_secret() -> str:
    """160 random bits in base32."""
    return base64.b32encode(secrets.token_bytes(20)).decode()


def uri(secret: str, name: str, issuer: str) -> str:
    """The address that an authenticator reads from the QR code."""
    return f"otpauth://totp/{quote(issuer)}:{quote(name)}?secret={secret}&issuer={quote(issuer)}"


def picture(text: str) -> str:
    """A QR code as an inline SVG, black on white also in dark mode, with its quiet zone."""
    import segno

    out = io.BytesIO()
    code = segno.make(text, error="m", micro=False)
    code.save(out, kind="svg", scale=5, border=4, dark="#000", light="#fff", xmldecl=False, svgns=True, omitsize=False)
    return out.getvalue().decode()


def grouped(secret: str) -> str:
    """The secret in groups of four, for typing."""
    return " ".join(secret[i : i + 4] for i in range(0, len(secret), 4))


def digits(code: str) -> str:
    """The code as six ASCII digits, or empty if it is none. Full-width digits and gaps are forgiven."""
    text = re.sub(r"[\s\-]", "", unicodedata.normalize("NFKC", code))
    return text if re.fullmatch(r"[0-9]{6}", text) else ""


def matching_step(secret: str, code: str, ms: int, last_step: int) -> int | None:
    """The time step that the code belongs to, if it is now (one step of drift) and later than the last one used."""
    import pyotp

    given, now = digits(code), ms // 1000 // STEP
    if not given:
        return None
    totp = pyotp.TOTP(secret)
    found = None
    for step in range(now - DRIFT, now + DRIFT + 1):
        if hmac.compare_digest(totp.at(step * STEP), given) and step > last_step:
            found = step
    return found


def recovery_codes() -> list[str]:
    """Ten codes of 12 letters (59 bits) like `abcd-efgh-jkmn`, each for one use."""
    codes = []
    for _ in range(RECOVERY_CODES):
        text = "".join(secrets.choice(_LETTERS) for _ in range(12))
        codes.append("-".join(text[i : i + 4] for i in range(0, 12, 4)))
    return codes


def recovery_hash(code: str) -> str:
    """What is kept of a recovery code. SHA-256 is enough for 59 random bits behind a limit of tries."""
    text = re.sub(r"[^a-z0-9]", "", unicodedata.normalize("NFKC", code).casefold())
    return hashlib.sha256(f"recovery:{text}".encode()).hexdigest()
