"""One number with its name, its goal, and how it went."""

from __future__ import annotations

from collections.abc import Sequence

from pages.parts.markup import Markup, box, span, tag


def figure(name: str, value: str, unit: str = "", under: str = "", line: Sequence[float] = ()) -> Markup:
    """A figure card. `line` draws its course, oldest first; its meaning is the figure's own."""
    with box("card fig") as made:
        with box():
            box("k", name)
            with box("v"):
                span(value)
                if unit:
                    tag("small", unit)
            box("t", under)
        if len(line) > 1:
            spark(line)
    return made


def spark(line: Sequence[float]) -> Markup:
    """A line without axes, 76 by 32, from the lowest to the highest value; decoration beside a number."""
    low, high = min(line), max(line)
    span_y = (high - low) or 1.0
    step = 72 / (len(line) - 1)
    points = " ".join(f"{2 + i * step:.1f},{29 - 26 * (y - low) / span_y:.1f}" for i, y in enumerate(line))
    with tag("svg", viewBox="0 0 76 32", aria_hidden="true") as made:
        tag("polyline", points=points)
    return made
