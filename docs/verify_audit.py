#!/usr/bin/env python3
"""Checks an audit export of Zhixing, alone: python3 verify_audit.py EXPORT.jsonl [VERIFICATION-KEY]

It needs nothing but Python 3.8. The key is shown on the panel's audit page: note it once, in another place, and give
it here; without it the export is only checked against the key that it carries itself.
Exit code 0: whole and signed. 1: something was removed, edited, reordered or cut off.
"""

import hashlib
import json
import sys

# --- Ed25519, verification only (RFC 8032, section 6) ---

P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P
ROOT = pow(2, (P - 1) // 4, P)


def add(a, b):
    x1, y1, z1, t1 = a
    x2, y2, z2, t2 = b
    e, f = (y1 - x1) * (y2 - x2) % P, (y1 + x1) * (y2 + x2) % P
    g, h = 2 * t1 * t2 * D % P, 2 * z1 * z2 % P
    i, j, k, m = f - e, h - g, h + g, f + e
    return i * j % P, k * m % P, j * k % P, i * m % P


def times(n, point):
    result = (0, 1, 1, 0)
    while n:
        if n & 1:
            result = add(result, point)
        point, n = add(point, point), n >> 1
    return result


def point_of(data):
    y = int.from_bytes(data, "little")
    sign, y = y >> 255, y & (1 << 255) - 1
    square = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    x = pow(square, (P + 3) // 8, P)
    if (x * x - square) % P:
        x = x * ROOT % P
    if y >= P or (x * x - square) % P or (x == 0 and sign):
        raise ValueError("not a point of the curve")
    if x & 1 != sign:
        x = P - x
    return x, y, 1, x * y % P


def signed(key, message, signature):
    if len(key) != 32 or len(signature) != 64:
        return False
    try:
        a, r = point_of(key), point_of(signature[:32])
    except ValueError:
        return False
    s = int.from_bytes(signature[32:], "little")
    h = int.from_bytes(hashlib.sha512(signature[:32] + key + message).digest(), "little") % L
    base = point_of((4 * pow(5, P - 2, P) % P).to_bytes(32, "little"))
    left, right = times(s, base), add(r, times(h, a))
    same_x = (left[0] * right[2] - right[0] * left[2]) % P == 0
    return s < L and same_x and (left[1] * right[2] - right[1] * left[2]) % P == 0


# --- the export ---


def check(path, expected=""):
    """Returns what is wrong, or an empty text."""
    total, count, last, end = hashlib.sha256(), 0, None, None
    key = ""
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            try:
                row = json.loads(line)
            except ValueError:
                return f"line {number} is no JSON"
            if end is not None:
                return f"line {number} stands after the end"
            if "end" in row:
                end = row
                continue
            total.update(line)
            if number == 1:
                key = row.get("key", "")
                continue
            if last is not None and (row["id"] <= last["id"] or row["prev"] != last["hash"]):
                return f"entry {row['id']} does not follow entry {last['id']}: something was removed or reordered"
            last, count = row, count + 1
    if end is None:
        return "the end is missing: the file was cut off"
    if end["end"] != count or end["sha256"] != total.hexdigest():
        return "the content does not fit its checksum: something was edited"
    if expected and key != expected.strip().lower():
        return "it was signed with another key than the one you gave"
    text = f"zhixing audit export 1\n{count}\n{total.hexdigest()}"
    if not signed(bytes.fromhex(key), text.encode(), bytes.fromhex(end["signature"])):
        return "the signature does not fit"
    note = "" if expected else " (compare this key with your note)"
    sys.stdout.write(f"{count} entries, whole and signed with {key}{note}\n")
    return ""


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    wrong = check(*sys.argv[1:])
    sys.exit(f"NOT WHOLE: {wrong}" if wrong else 0)
