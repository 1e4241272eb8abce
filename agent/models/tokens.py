"""How many tokens a text has, roughly, without a vendor's tokenizer."""

from __future__ import annotations

from agent.models.base import ModelRequest


def wide(text: str) -> int:
    """Characters outside ASCII."""
    return 0 if text.isascii() else len(text) - len(text.encode("ascii", "ignore"))


def estimate(text: str) -> int:
    """A fair guess: 0.75 tokens for a Chinese character, one for four others."""
    many = wide(text)
    return round(many * 0.75 + (len(text) - many) / 4) + (1 if text else 0)


def at_most(request: ModelRequest) -> int:
    """More tokens than the request can reasonably have: what a reservation counts with."""
    total = 16
    for message in request.messages:
        total += _bound(message.text) + 12
        for call in message.calls:
            total += _bound(str(call.arguments)) + len(call.name) + 16
    for tool in request.tools:
        total += _bound(tool.description) + _bound(str(tool.parameters)) + 24
    return total


def _bound(text: str) -> int:
    many = wide(text)
    return round(many * 1.5 + (len(text) - many) / 2) + 1
