"""Charts: few lines, direct labels, the target as a thin line, and the same numbers as a table behind a toggle."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nicegui import ui

from pages.parts.badge import moment
from pages.parts.folds import Fold
from pages.parts.markup import box, tag
from pages.visitor import Visitor

# read well on light and on dark: a canvas knows no style sheet
TEXT, LINE = "#6f7c83", "#8a969c40"
ACCENT, SECOND, BAD = "#16808a", "#8a6fb0", "#c2483b"
FONT = '"PingFang SC","Microsoft YaHei","Noto Sans SC",system-ui,sans-serif'


def axes(categories: Sequence[str] = (), *, sideways: bool = False, unit: str = "") -> dict[str, Any]:
    """The plain frame of a chart; without categories over time, which the browser writes in its own zone."""
    label = {"color": TEXT, "fontSize": 11, "fontFamily": FONT}
    names = {
        **({"type": "category", "data": list(categories)} if categories else {"type": "time"}),
        "axisLabel": {**label, "width": 110, "overflow": "truncate"} if sideways else {**label, "hideOverlap": True},
        "axisLine": {"lineStyle": {"color": LINE}},
        "axisTick": {"show": False},
        "inverse": sideways,
    }
    values = {
        "type": "value",
        "minInterval": 1,
        "axisLabel": {**label, "formatter": f"{{value}}{unit}"},
        "splitLine": {"lineStyle": {"color": LINE}},
        "splitNumber": 3,
    }
    return {
        "animation": False,
        "textStyle": {"fontFamily": FONT, "color": TEXT},
        "grid": {"left": 8, "right": 16, "top": 34, "bottom": 4, "containLabel": True},
        "legend": {"top": 0, "left": 0, "itemWidth": 10, "itemHeight": 10, "icon": "roundRect", "textStyle": label},
        "tooltip": {"trigger": "axis", "confine": True, "axisPointer": {"type": "shadow" if sideways else "line"}},
        "xAxis": values if sideways else names,
        "yAxis": names if sideways else values,
    }


Value = float | None | tuple[int, float | None]
"""A value of a category, or one at a time in ms."""


def bars(name: str, values: Sequence[Value], color: str, *, stack: str = "all") -> dict[str, Any]:
    """One stacked row of bars."""
    return {"type": "bar", "name": name, "data": list(values), "stack": stack, "color": color, "barMaxWidth": 22}


def curve(name: str, values: Sequence[Value], color: str, *, target: float | None = None) -> dict[str, Any]:
    """A line; gaps where nothing was measured. `target` is drawn as a thin line of its own."""
    made: dict[str, Any] = {
        "type": "line",
        "name": name,
        "data": list(values),
        "color": color,
        "symbolSize": 5,
        "lineStyle": {"width": 2},
        "connectNulls": False,
    }
    if target is not None:
        made["markLine"] = {
            "silent": True,
            "symbol": "none",
            "lineStyle": {"color": BAD, "width": 1, "type": "dashed"},
            "label": {"color": TEXT, "fontSize": 11, "position": "insideEndTop", "formatter": "{b}"},
            "data": [{"yAxis": target, "name": f"{target:g} ms"}],
        }
    return made


def chart(v: Visitor, title: str, options: dict[str, Any], *, css: str = "chart") -> ui.echart:
    """A drawn chart; screen readers are told its title and go on to the table."""
    made = ui.echart(options).classes(css)
    made.props["role"] = "img"
    made.props["aria-label"] = title
    return made


def numbers(v: Visitor, heads: Sequence[str], rows: Sequence[Sequence[str | int]], fold: Fold | None = None) -> None:
    """The same as a table, behind a toggle. A number in the first column is a time in ms."""
    with fold or tag("details"):
        tag("summary", v.t("chart.table"))
        with box("scroll-x", tabindex="0", role="region", aria_label=v.t("chart.table")), tag("table", "", "t"):
            with tag("thead"), tag("tr"):
                for n, head in enumerate(heads):
                    tag("th", head, "num" if n else "", scope="col")
            with tag("tbody"):
                for row in rows:
                    with tag("tr"):
                        for n, cell in enumerate(row):
                            with tag("td", "" if isinstance(cell, int) else cell, "num nowrap" if n else ""):
                                if isinstance(cell, int):
                                    moment(v, cell, "exact")
