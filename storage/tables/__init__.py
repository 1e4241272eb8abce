"""All tables, imported together so that one metadata knows them."""

from storage.tables import bots, hooks, ledger, memory, models, people, system

__all__ = ["bots", "hooks", "ledger", "memory", "models", "people", "system"]
