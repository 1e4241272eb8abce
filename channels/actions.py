"""What a person or an API key may do with bots. Pages and REST routes call the same functions."""

from __future__ import annotations

import builtins
import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, and_, select, update

from channels.access import access_t
from channels.base import BotConfig, Manifest, ProbeResult
from channels.bot_draft import BotDraft, BotEntry, checked, fields_of, need
from channels.bot_rows import BotRows
from channels.bot_view import AccessRow, BotRow, bot_view
from channels.manifests import MANIFESTS
from channels.registry import Bots, bot_t, config_of
from channels.targets import address_of
from storage.audit import Audit
from storage.clock import Clock
from storage.database import Database
from storage.envelope import Outgoing
from storage.errors import Conflict, Invalid, NotFound
from storage.ledger import lane_of
from storage.principal import SYSTEM, Principal
from storage.vault import Vault

__all__ = ["AccessRow", "BotActions", "BotDraft", "BotEntry", "BotRow"]

MOST_DECIDED = 1_000


@dataclass(frozen=True, kw_only=True, slots=True)
class BotActions:
    """Use cases of the Bots page, the set-up, the API and `channels.yaml`."""

    db: Database
    vault: Vault
    audit: Audit
    clock: Clock
    bots: Bots

    @property
    def rows(self) -> BotRows:
        """The rows, inside a transaction."""
        return BotRows(vault=self.vault, audit=self.audit, clock=self.clock)

    # ---- seen

    def manifests(self) -> Sequence[Manifest]:
        """Every type of channel that can be added."""
        return tuple(MANIFESTS.values())

    async def list(self, who: Principal) -> builtins.list[BotRow]:
        """All bots, by name. Right: bot.view."""
        who.require("bot.view")
        rows, now = self.rows, self.clock.ms()
        return await self.db.read(lambda c: bot_view(c, who.tenant, rows, self.bots, now))

    async def export(self, who: Principal) -> builtins.list[dict[str, object]]:
        """Items for `channels:` of `channels.yaml`, secrets as names of environment variables. Right: bot.view."""
        made: builtins.list[dict[str, object]] = []
        for row in await self.list(who):
            item: dict[str, object] = {"name": row.name, "type": row.type}
            if row.type != "webhook":
                item["mode"] = row.mode
            item |= row.settings
            item |= {name: f"${{BOT_{row.id}_{name.upper()}}}" for name in row.secrets}
            if row.events:
                item["events"] = [*row.events]
            made.append(item)
        return made

    # ---- changed

    async def save(self, who: Principal, draft: BotDraft, *, create: bool = False) -> BotRow:
        """Make a bot, or change the one of this name, and start it. Right: bot.manage.

        What the vendor says against it stands in its row: a bot that cannot start is saved all the same.

        Args:
            create: refuse if one of that name exists.

        Raises:
            Invalid: with the field; also `bot.secret_again` where an address moved to another host, so that a kept
                secret is never sent to a place that it was not entered for.
            Conflict: `bot.name_taken`, `bot.managed_by_file`.
        """
        who.require("bot.manage")
        draft = checked(draft, local=self.bots.local)
        rows = self.rows
        await self.db.write(lambda c: rows.save(c, who, draft, create=create))
        await self.bots.reload(who.tenant, draft.name)
        return await self._one(who, draft.name)

    async def remove(self, who: Principal, name: str) -> None:
        """Stop a bot and remove it with its secrets and its list of people. Right: bot.manage.

        Raises:
            NotFound; Conflict: managed by a file.
        """
        who.require("bot.manage")
        rows = self.rows
        await self.db.write(lambda c: rows.drop(c, who, rows.editable(c, who.tenant, name)))
        await self.bots.drop(who.tenant, name)

    async def pause(self, who: Principal, name: str) -> BotRow:
        """Stop accepting messages for a bot; accepted ones are still answered. Right: bot.manage.

        Safe to repeat: a second call changes and audits nothing. Raises `NotFound`; `Conflict` (managed by a file).
        """
        return await self._pause(who, name, paused=True)

    async def resume(self, who: Principal, name: str) -> BotRow:
        """Undo `pause`."""
        return await self._pause(who, name, paused=False)

    async def _pause(self, who: Principal, name: str, *, paused: bool) -> BotRow:
        who.require("bot.manage")
        rows = self.rows
        if await self.db.write(lambda c: rows.pause(c, who, rows.editable(c, who.tenant, name), paused=paused)):
            await self.bots.reload(who.tenant, name)
        return await self._one(who, name)

    # ---- tried out

    async def probe(self, who: Principal, what: BotDraft | str) -> Sequence[ProbeResult]:
        """Test credentials and permissions at the vendor; nothing is said to anybody. Right: bot.manage.

        Args:
            what: a draft (secrets that it leaves out: the kept ones), or the name of a saved bot.

        Raises:
            Invalid: a field of the draft is wrong or missing. NotFound.
        """
        who.require("bot.manage")
        if isinstance(what, str):
            running = self.bots.channel(who.tenant, what)
            if running is not None:
                return await running.probe()
            config = await self.db.read(lambda c: self._saved(c, who.tenant, what))
            try:
                channel = self.bots.try_out(config)
            except Invalid as error:
                params = {key: str(value) for key, value in error.params.items()}
                return [ProbeResult(name="config", status="fail", code=error.code, params=params)]
        else:
            draft = checked(what, local=self.bots.local)
            config = await self.db.read(lambda c: self._tried(c, who, draft))
            channel = self.bots.try_out(config)
        try:
            return await channel.probe()
        finally:
            await channel.stop()

    async def send_test(self, who: Principal, name: str, target: str = "") -> int:
        """Push a short message, to see that one arrives; its delivery is listed like any other. Right: bot.manage.

        Args:
            target: as the vendor names a person or group; a webhook has one address only.

        Returns:
            The delivery's id.

        Raises:
            NotFound; Invalid: `<type>.target_form`.
        """
        who.require("bot.manage")
        kept = await self.db.read(lambda c: self.rows.get(c, who.tenant, name))
        try:
            address = address_of(kept.type, target)
        except Invalid as error:
            raise Invalid(error.code, field="target", **error.params) from error
        key = f"test:{kept.id}:{secrets.token_hex(8)}"
        found = await self.bots.outbox.push(
            tenant=who.tenant,
            bot=name,
            channel=kept.type,
            lane=lane_of(who.tenant, name, f"push:{target.strip()}"),
            key=key,
            address=address,
            out=Outgoing(kind="push", text=self.bots.words.say(who.lang, "bots.test_message", name=name)),
        )
        await self.db.write(lambda c: self.audit.record(c, who, "bot.test", name, after={"target": target[:128]}))
        return found or 0

    # ---- who may talk

    async def access_requests(
        self, who: Principal, *, status: str = "asked", bot: str = "", limit: int = 500
    ) -> builtins.list[AccessRow]:
        """People and groups who asked to talk, oldest first; or those let in or refused. Right: bot.view.

        Args:
            status: `asked`, `allowed`, `refused`, or empty for all.
        """
        who.require("bot.view")

        def fn(c: Connection) -> builtins.list[AccessRow]:
            query = (
                select(access_t, bot_t.c.name.label("bot"))
                .join(bot_t, bot_t.c.id == access_t.c.bot_id)
                .where(access_t.c.tenant == who.tenant)
                .order_by(access_t.c.asked_at, access_t.c.id)
                .limit(max(1, min(limit, 1_000)))
            )
            if status:
                query = query.where(access_t.c.status == status)
            if bot:
                query = query.where(bot_t.c.name == bot)
            names = ("id", "bot", "subject", "name", "status", "asked_at", "decided_at", "decided_by")
            return [AccessRow(**{name: getattr(row, name) for name in names}) for row in c.execute(query)]

        return await self.db.read(fn)

    async def decide(self, who: Principal, ids: Sequence[int], allow: bool) -> int:
        """Let people in, or refuse them; as many as are named, whatever was decided before. Right: bot.manage.

        Returns:
            How many changed. Ids of another tenant count as absent.
        """
        who.require("bot.manage")
        wanted = builtins.list(dict.fromkeys(ids))
        if len(wanted) > MOST_DECIDED:
            raise Invalid("bot.too_many", field="ids", most=MOST_DECIDED)
        status, now = "allowed" if allow else "refused", self.clock.ms()

        def fn(c: Connection) -> int:
            mine = and_(access_t.c.tenant == who.tenant, access_t.c.id.in_(wanted), access_t.c.status != status)
            query = select(access_t.c.id, access_t.c.subject, access_t.c.status, bot_t.c.name.label("bot"))
            found = c.execute(query.join(bot_t, bot_t.c.id == access_t.c.bot_id).where(mine)).all()
            if not found:
                return 0
            changed = {"status": status, "decided_at": now, "decided_by": who.id}
            c.execute(update(access_t).where(access_t.c.id.in_([row.id for row in found])).values(**changed))
            for row in found:
                target = f"{row.bot}:{row.subject}"
                self.audit.record(c, who, "bot.access", target, before=row.status, after=status)
            return len(found)

        return await self.db.write(fn)

    # ---- provided by a file

    async def provision(self, source_file: str, entries: Sequence[BotEntry]) -> tuple[str, ...]:
        """Bring the bots of one file in line with it, whole or not at all. Safe to repeat.

        Entries that left the file are removed; those made in the panel stay as they are. An entry that lacks what
        its mode needs is kept: it does not start, and says why.

        Returns:
            Names that changed; the caller has the registry reload them.

        Raises:
            Invalid: with the field and `bot`, the entry's name. Conflict: `bot.name_taken`, twice in the file, or by
                the panel or another file.
        """
        drafts = [_draft(entry, local=self.bots.local) for entry in entries]
        names = [draft.name for draft in drafts]
        if twice := next((name for name in names if names.count(name) > 1), ""):
            raise Conflict("bot.name_taken", name=twice)
        rows = self.rows

        def fn(c: Connection) -> tuple[str, ...]:
            changed = []
            for kept in rows.all(c, SYSTEM.tenant):
                if kept.managed_by == source_file and kept.name not in names:
                    rows.drop(c, SYSTEM, kept)
                    changed.append(kept.name)
            changed += [draft.name for draft in drafts if rows.provide(c, SYSTEM, draft, source_file)]
            return tuple(changed)

        return await self.db.write(fn)

    # ---- inside

    async def _one(self, who: Principal, name: str) -> BotRow:
        rows, now = self.rows, self.clock.ms()
        found = await self.db.read(lambda c: bot_view(c, who.tenant, rows, self.bots, now, only=name))
        if not found:  # removed by somebody else in between
            raise NotFound("bot.unknown", name=name[:60])
        return found[0]

    def _saved(self, c: Connection, tenant: str, name: str) -> BotConfig:
        row = c.execute(select(bot_t).where(and_(bot_t.c.tenant == tenant, bot_t.c.name == name))).first()
        if row is None:
            raise NotFound("bot.unknown", name=name[:60])
        return config_of(c, self.vault, row)

    def _tried(self, c: Connection, who: Principal, draft: BotDraft) -> BotConfig:
        """The draft with the secrets that it leaves as they are, opened."""
        old = self.rows.find(c, who.tenant, draft.name)
        given = dict(draft.secrets)
        if old is not None and old.type == draft.type:
            staying = self.rows.staying(c, who.tenant, old, draft)
            given |= {name: v for name, v in self.rows.secrets(c, who.tenant, old).items() if name in staying}
        need(draft, frozenset(given))
        known = {spec.name for spec in fields_of(draft.type, draft.mode)}
        return BotConfig(
            id=old.id if old is not None else 0,
            tenant=who.tenant,
            name=draft.name,
            type=draft.type,
            mode=draft.mode,
            settings=draft.settings,
            secrets={name: value for name, value in given.items() if name in known},
        )


def _draft(entry: BotEntry, *, local: bool) -> BotDraft:
    """An entry, checked. Raises `Invalid` with the entry's name as `bot`."""
    mode = entry.mode.strip()
    if not mode and entry.type in MANIFESTS:
        mode = MANIFESTS[entry.type].modes[0]
    draft = BotDraft(
        name=entry.name,
        type=entry.type,
        mode=mode,
        settings=entry.settings,
        secrets=entry.secrets,
        model=entry.model,
        events=entry.events,
    )
    try:
        return checked(draft, local=local, strict=True)
    except Invalid as error:
        raise Invalid(error.code, field=error.field, **{**error.params, "bot": entry.name[:60]}) from error
