"""The outbox half of the ledger: what is to be sent and what became of it. The senders in `channels/` drive it."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, and_, bindparam, insert, select, update

from storage.database import new_id
from storage.envelope import Outgoing
from storage.ledger import DeliveryView, Ledger, delivery_t

OPEN = ("pending", "sending")
_SENDING = (
    update(delivery_t)
    .where(and_(delivery_t.c.id == bindparam("i"), delivery_t.c.status.in_(OPEN)))  # never over what became of it
    .values(status="sending", attempts=bindparam("n"))
)
_DELIVERED = (
    update(delivery_t)
    .where(delivery_t.c.id == bindparam("i"))
    .values(
        status="delivered",
        vendor_id=bindparam("vid"),
        written_at=bindparam("at"),
        error="",
        detail="",
        ended_at=bindparam("now"),
    )
)


class Outbox:
    """State changes of deliveries. Every one is a single write."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger, self.db, self.clock = ledger, ledger.db, ledger.clock

    async def push(
        self,
        *,
        tenant: str,
        bot: str,
        channel: str,
        lane: str,
        key: str,
        address: str,
        out: Outgoing,
        event: str = "",
        job_id: int | None = None,
        conversation_id: int | None = None,
    ) -> int | None:
        """Put a message that answers nobody into the outbox. None if this key was pushed before."""
        row = await self.db.write(
            lambda c: self.add(
                c,
                tenant=tenant,
                bot=bot,
                channel=channel,
                lane=lane,
                key=key,
                address=address,
                out=out,
                event=event,
                job_id=job_id,
                conversation_id=conversation_id,
            )
        )
        if row is None:
            return None
        self.ledger.on_deliveries((row,))
        return row.id

    def add(
        self,
        c: Connection,
        *,
        tenant: str,
        bot: str,
        channel: str,
        lane: str,
        key: str,
        address: str,
        out: Outgoing,
        event: str = "",
        job_id: int | None = None,
        conversation_id: int | None = None,
    ) -> DeliveryView | None:
        """As `push`, inside the caller's transaction; the caller tells `on_deliveries` once it is committed."""
        if c.execute(select(delivery_t.c.id).where(delivery_t.c.key == key)).first() is not None:
            return None
        now, payload = self.clock.ms(), out.to_json()
        made = c.execute(
            insert(delivery_t),
            {
                "tenant": tenant,
                "bot": bot,
                "channel": channel,
                "lane": lane,
                "key": key,
                "job_id": job_id,
                "conversation_id": conversation_id,
                "address": address,
                "payload": payload,
                "event": event,
                "status": "pending",
                "attempts": 0,
                "vendor_id": "",
                "error": "",
                "detail": "",
                "committed_at": now,
            },
        )
        return DeliveryView(
            id=new_id(made),
            tenant=tenant,
            bot=bot,
            channel=channel,
            lane=lane,
            key=key,
            job_id=job_id,
            conversation_id=conversation_id,
            address=address,
            payload=payload,
            attempts=0,
            committed_at=now,
        )

    async def open(self) -> list[DeliveryView]:
        """Deliveries that have not ended, in order; `status` tells which were being sent when the process ended."""

        def fn(c: Connection) -> list[DeliveryView]:
            query = select(delivery_t).where(delivery_t.c.status.in_(OPEN)).order_by(delivery_t.c.id)
            return [view(row) for row in c.execute(query)]

        return await self.db.read(fn)

    async def sending(self, row: DeliveryView, *, durable: bool) -> None:
        """Mark before the request is written. Durable where the vendor has no idempotency key."""
        values = {"i": row.id, "n": row.attempts + 1}

        def fn(c: Connection) -> None:
            c.execute(_SENDING, values)

        await self.db.write(fn, durable=durable, shared=True)
        self.ledger.crash.reached("send.before")

    async def delivered(self, row: DeliveryView, vendor_id: str, written_at: int) -> None:
        """The vendor's receipt."""
        self.ledger.crash.reached("send.answered")
        values = {"i": row.id, "vid": vendor_id, "at": written_at, "now": self.clock.ms()}

        def fn(c: Connection) -> None:
            c.execute(_DELIVERED, values)

        await self.db.write(fn, durable=False, shared=True)
        self.ledger.crash.reached("delivered")

    async def retry(self, row: DeliveryView, next_at: int, error: str, detail: str) -> None:
        """To be tried again at `next_at` (ms)."""
        await self._set(row.id, {"status": "pending", "next_at": next_at, "error": error, "detail": detail[:1000]})

    async def failed(self, row: DeliveryView, error: str, detail: str) -> None:
        """Refused for good: a dead letter, with the reason."""
        await self._dead(row, "failed", error, detail)

    async def unknown(self, row: DeliveryView, error: str, detail: str) -> None:
        """It may or may not have arrived; it is shown, and never repeated by itself."""
        await self._dead(row, "unknown", error, detail)

    async def _dead(self, row: DeliveryView, status: str, error: str, detail: str) -> None:
        now = self.clock.ms()
        values = {"status": status, "error": error, "detail": detail[:1000], "ended_at": now}

        def fn(c: Connection) -> Sequence[DeliveryView]:
            c.execute(update(delivery_t).where(delivery_t.c.id == row.id).values(**values))
            return self.ledger.in_dead_letter(c, row, error, now)

        if told := await self.db.write(fn, shared=True):
            self.ledger.on_deliveries(told)

    async def split(self, row: DeliveryView, parts: Sequence[Outgoing]) -> list[DeliveryView]:
        """Replace one delivery by its parts, each with its own key and receipt, in one transaction."""
        now = self.clock.ms()

        def fn(c: Connection) -> list[DeliveryView]:
            base = c.execute(select(delivery_t).where(delivery_t.c.id == row.id)).one()
            whole = and_(delivery_t.c.id == row.id, delivery_t.c.status.in_(OPEN))
            if c.execute(update(delivery_t).where(whole).values(status="split", ended_at=now)).rowcount != 1:
                # committed already, by this call before the connection broke or by another process
                keys = [f"{base.key}.{n}" for n in range(len(parts))]
                left = and_(delivery_t.c.key.in_(keys), delivery_t.c.status.in_(OPEN))
                return [view(found) for found in c.execute(select(delivery_t).where(left).order_by(delivery_t.c.id))]
            made: list[DeliveryView] = []
            for n, out in enumerate(parts):
                values = {
                    k: getattr(base, k)
                    for k in (
                        "tenant",
                        "bot",
                        "channel",
                        "lane",
                        "job_id",
                        "conversation_id",
                        "message_id",
                        "address",
                        "event",
                        "committed_at",
                    )
                }
                values |= {
                    "key": f"{base.key}.{n}",
                    "payload": out.to_json(),
                    "status": "pending",
                    "attempts": 0,
                    "vendor_id": "",
                    "error": "",
                    "detail": "",
                }
                key = new_id(c.execute(insert(delivery_t), values))
                made.append(view(c.execute(select(delivery_t).where(delivery_t.c.id == key)).one()))
            return made

        return await self.db.write(fn, shared=True)

    async def again(self, tenant: str, delivery_id: int) -> bool:
        """Send a failed or unknown delivery again because a person asked for it."""

        def fn(c: Connection) -> DeliveryView | None:
            done = c.execute(
                update(delivery_t)
                .where(
                    and_(
                        delivery_t.c.id == delivery_id,
                        delivery_t.c.tenant == tenant,
                        delivery_t.c.status.in_(("failed", "unknown")),
                    )
                )
                .values(status="pending", attempts=0, next_at=None, ended_at=None, error="", detail="")
            )
            if done.rowcount != 1:
                return None
            return view(c.execute(select(delivery_t).where(delivery_t.c.id == delivery_id)).one())

        row = await self.db.write(fn, shared=True)
        if row is None:
            return False
        self.ledger.on_deliveries((row,))
        return True

    async def _set(self, delivery_id: int, values: dict[str, object], *, durable: bool = True) -> None:
        def fn(c: Connection) -> None:
            c.execute(update(delivery_t).where(delivery_t.c.id == delivery_id).values(**values))

        await self.db.write(fn, durable=durable, shared=True)


def put(
    c: Connection,
    now: int,
    *,
    tenant: str,
    bot: str,
    channel: str,
    lane: str,
    key: str,
    address: str,
    out: Outgoing,
    event: str = "",
    job_id: int | None = None,
    conversation_id: int | None = None,
) -> DeliveryView | None:
    """`Outbox.push` inside a transaction; its caller hands the row to `Ledger.on_deliveries` once it is committed."""
    if c.execute(select(delivery_t.c.id).where(delivery_t.c.key == key)).first() is not None:
        return None
    values = {
        "tenant": tenant,
        "bot": bot,
        "channel": channel,
        "lane": lane,
        "key": key,
        "job_id": job_id,
        "conversation_id": conversation_id,
        "address": address,
        "payload": out.to_json(),
        "event": event,
        "status": "pending",
        "attempts": 0,
        "vendor_id": "",
        "error": "",
        "detail": "",
        "committed_at": now,
    }
    made = new_id(c.execute(insert(delivery_t), values))
    return view(c.execute(select(delivery_t).where(delivery_t.c.id == made)).one())


def view(row: object) -> DeliveryView:
    """A row of the outbox as the sender needs it."""
    names = (
        "id",
        "tenant",
        "bot",
        "channel",
        "lane",
        "key",
        "job_id",
        "conversation_id",
        "address",
        "payload",
        "attempts",
        "committed_at",
        "status",
        "next_at",
    )
    return DeliveryView(**{name: getattr(row, name) for name in names})
