"""Bots as a page shows them: settings, tails of secrets, proof of life. And who asked to talk with them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from sqlalchemy import Connection, and_, func, select

from channels.access import access_t
from channels.bot_rows import BotRows, Kept
from channels.hooks import Pulse
from channels.manifests import MANIFESTS
from channels.registry import Bots, state_t
from storage.ledger import job_t

DAY = 86_400_000
CALLED = frozenset({"webhook", "http", "app"})
"""Modes in which the vendor calls us; in the others we connect to it, or only push."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BotRow:
    """A bot for a page. The secrets themselves are never part of it.

    Attributes:
        secrets: last characters of each secret that is kept (empty for a short one).
        callback: path that the vendor calls; empty for a mode that has none.
        connection: see `Pulse.connection`.
        error_params: values for the texts of `last_error`.
        requests: how many requests came in the last 24 hours.
        asking: how many people wait to be let in.
    """

    id: int
    name: str
    type: str
    mode: str
    settings: dict[str, str]
    secrets: dict[str, str]
    events: tuple[str, ...]
    model: str
    managed_by: str
    paused_at: int | None
    callback: str
    connection: str = "off"
    last_in: int | None = None
    last_out: int | None = None
    reconnects: int = 0
    identity: str = ""
    checked_at: int | None = None
    last_error: str = ""
    last_error_at: int | None = None
    error_params: dict[str, str] = field(default_factory=dict)
    requests: int = 0
    asking: int = 0

    @property
    def paused(self) -> bool:
        """True if the bot takes no messages now."""
        return self.paused_at is not None


@dataclass(frozen=True, kw_only=True, slots=True)
class AccessRow:
    """Somebody, or a group, who may or may not talk with a bot. status: `asked`, `allowed`, `refused`."""

    id: int
    bot: str
    subject: str
    name: str
    status: str
    asked_at: int | None
    decided_at: int | None
    decided_by: str


def bot_view(c: Connection, tenant: str, rows: BotRows, bots: Bots, now: int, only: str = "") -> list[BotRow]:
    """All bots by name, or the one that is asked for."""
    kept = [one for one in rows.all(c, tenant) if not only or one.name == only]
    ids = [one.id for one in kept]
    states = {row.bot_id: row for row in c.execute(select(state_t).where(state_t.c.bot_id.in_(ids)))}
    asked = select(access_t.c.bot_id, func.count()).where(
        and_(access_t.c.bot_id.in_(ids), access_t.c.status == "asked")
    )
    asking = {row[0]: row[1] for row in c.execute(asked.group_by(access_t.c.bot_id))}
    came = select(job_t.c.bot, func.count()).where(and_(job_t.c.tenant == tenant, job_t.c.created_at > now - DAY))
    requests = {row[0]: row[1] for row in c.execute(came.group_by(job_t.c.bot))}
    made = []
    for one in kept:
        made.append(
            BotRow(
                id=one.id,
                name=one.name,
                type=one.type,
                mode=one.mode,
                settings=one.settings,
                secrets=rows.tails(c, tenant, one),
                events=one.events,
                model=one.model,
                managed_by=one.managed_by,
                paused_at=one.paused_at,
                callback=callback_of(one),
                requests=requests.get(one.name, 0),
                asking=asking.get(one.id, 0),
                **_proof(bots.pulse(tenant, one.name), states.get(one.id)),
            )
        )
    return made


def callback_of(kept: Kept) -> str:
    """The path that the vendor calls, for modes that it calls."""
    manifest = MANIFESTS.get(kept.type)
    if manifest is None or not manifest.receives or kept.mode not in CALLED:
        return ""
    return f"/webhooks/{kept.type}/{quote(kept.name)}"


def _proof(pulse: Pulse | None, state: Any) -> dict[str, Any]:
    """What happens now, from memory; what happened last, also from before this process began."""
    found: dict[str, Any] = {}
    for name in ("last_in", "last_out", "checked_at"):
        found[name] = (pulse and getattr(pulse, name)) or (state and getattr(state, name)) or None
    found["identity"] = (pulse and pulse.identity) or (state and state.identity) or ""
    if pulse is not None:
        found |= {
            "connection": pulse.connection,
            "reconnects": pulse.reconnects,
            "last_error": pulse.last_error,
            "last_error_at": pulse.last_error_at,
            "error_params": dict(pulse.params),
        }
    return found
