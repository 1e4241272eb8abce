"""What is chosen for all models of a tenant: the default one and the monthly limits. Kept as settings."""

from __future__ import annotations

import json

from sqlalchemy import Connection, and_, delete, insert, select

from storage.tables.system import Setting

setting_t = Setting.__table__  # type: ignore[attr-defined]
DEFAULT = "model.default"
LIMITS = "model.limits"
CACHE = "model.cache"


def read(c: Connection, tenant: str, key: str) -> object:
    """A setting's value, or None."""
    value = c.execute(
        select(setting_t.c.value).where(and_(setting_t.c.tenant == tenant, setting_t.c.key == key))
    ).scalar()
    return None if value is None else json.loads(value)


def write(c: Connection, tenant: str, key: str, value: object, now: int) -> None:
    """Set it; None removes it."""
    c.execute(delete(setting_t).where(and_(setting_t.c.tenant == tenant, setting_t.c.key == key)))
    if value is not None:
        text = json.dumps(value, ensure_ascii=False)
        c.execute(insert(setting_t).values(tenant=tenant, key=key, value=text, updated_at=now))
