"""All tables, imported together so that one metadata knows them."""

from storage.tables import (
    api,
    approvals,
    backups,
    bots,
    events,
    hooks,
    ledger,
    memory,
    models,
    people,
    schedules,
    shared,
    system,
)

__all__ = [
    "api",
    "approvals",
    "backups",
    "bots",
    "events",
    "hooks",
    "ledger",
    "memory",
    "models",
    "people",
    "schedules",
    "shared",
    "system",
]
