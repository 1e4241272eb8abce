"""Limits against guessing. The counters stand in the database, so a restart gives no new tries."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv6Address

from sqlalchemy import Connection, delete, func, insert, select, update

from security.ranges import parse, unwrap
from storage.clock import Clock
from storage.errors import Throttled
from storage.tables.people import Guess

guess_t = Guess.__table__  # type: ignore[attr-defined]
DAY = 86_400_000
MOST_ROWS = 50_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Rule:
    """After `tries` failures within `window` seconds, wait; each further failure waits the next of `delays`."""

    name: str
    tries: int
    window: int
    delays: tuple[int, ...]


ACCOUNT = Rule(name="account", tries=5, window=300, delays=(30, 60, 120, 300, 900))
ADDRESS = Rule(name="address", tries=20, window=600, delays=(600,))
CHALLENGE = Rule(name="challenge", tries=5, window=600, delays=(600,))
SETUP_ALL = Rule(name="setup-all", tries=60, window=600, delays=(60,))
SETUP = Rule(name="setup", tries=5, window=300, delays=(30, 60, 120, 300, 900))


@dataclass(frozen=True, kw_only=True, slots=True)
class Key:
    """One thing that is counted. What a person typed is kept only as a hash: it may be a password."""

    rule: Rule
    value: str

    @property
    def row(self) -> str:
        return f"{self.rule.name}:{hashlib.sha256(self.value.encode()).hexdigest()[:32]}"


def by_account(name_key: str) -> Key:
    """Counts tries for one account, known or not."""
    return Key(rule=ACCOUNT, value=name_key)


def by_address(ip: str, rule: Rule = ADDRESS) -> Key:
    """Counts tries from one address; an IPv6 network of 64 bits counts as one, an IPv4 address in any form too."""
    address = parse(ip)
    if address is not None:
        address = unwrap(address)
        ip = str(IPv6Address(int(address) >> 64 << 64)) if isinstance(address, IPv6Address) else str(address)
    return Key(rule=rule, value=ip)


class Guessing:
    """Counts before the check is made, so that tries side by side gain nothing; a success takes the count back.

    `on_lock` takes part in the transaction in which something is locked: the rule's name, and the counted row's.
    """

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.on_lock: Callable[[Connection, str, str], None] = lambda c, rule, row: None

    def attempt(self, c: Connection, *keys: Key) -> None:
        """Count one try on each key. Call it in a write of its own, before the check.

        Raises:
            Throttled: `login.locked` with `minutes`; nothing was counted.
        """
        now = self.clock.ms()
        rows = {r.key: r for r in c.execute(select(guess_t).where(guess_t.c.key.in_([k.row for k in keys])))}
        until = max((r.locked_until or 0 for r in rows.values()), default=0)
        if until > now:
            wait = (until - now) / 1000
            raise Throttled("login.locked", retry_after=wait, minutes=-(-int(wait + 0.999) // 60))
        for key in keys:
            rule, row = key.rule, rows.get(key.row)
            # growth ends once a whole window has passed without a try
            fresh = row is None or now - max(row.last_at, row.locked_until or 0) > rule.window * 1000
            fails = 1 if fresh or row is None else row.fails + 1
            over = fails - rule.tries
            locked = now + rule.delays[min(over, len(rule.delays) - 1)] * 1000 if over >= 0 else None
            values = {"fails": fails, "last_at": now, "locked_until": locked}
            if locked is not None:
                self.on_lock(c, rule.name, key.row)
            if row is None:
                self._room(c, now)
                c.execute(insert(guess_t).values(key=key.row, first_at=now, **values))
            else:
                c.execute(update(guess_t).where(guess_t.c.key == key.row).values(**values))

    def succeeded(self, c: Connection, *keys: Key) -> None:
        """Forget the account's failures; take back the one try that was counted on an address."""
        for key in keys:
            if key.rule is ADDRESS:
                # not forgotten whole: one known account must not buy an address new tries for others
                less = {"fails": guess_t.c.fails - 1, "locked_until": None}
                c.execute(update(guess_t).where(guess_t.c.key == key.row, guess_t.c.fails > 0).values(**less))
            else:
                c.execute(delete(guess_t).where(guess_t.c.key == key.row))

    def _room(self, c: Connection, now: int) -> None:
        """Keep the table bounded, now and then."""
        if secrets.randbelow(50):
            return
        c.execute(delete(guess_t).where(guess_t.c.last_at < now - DAY))
        if c.execute(select(func.count()).select_from(guess_t)).scalar_one() > MOST_ROWS:
            oldest = select(guess_t.c.key).order_by(guess_t.c.last_at).limit(MOST_ROWS // 10)
            c.execute(delete(guess_t).where(guess_t.c.key.in_(oldest)))
