"""All tables, imported together so that one metadata knows them."""

from storage.tables import bots, ledger, memory, models, people, system

__all__ = ["bots", "ledger", "memory", "models", "people", "system"]
