"""Usage and limits, the second view of `/models`: what was used by whom, and what a month may cost."""

from __future__ import annotations

from collections.abc import Sequence

from agent.models.limits import Limits
from agent.models.usage_actions import UsageActions, UsageSum
from pages.frame import Panel
from pages.parts.badge import duration
from pages.parts.form import Form, Values
from pages.parts.markup import box, span, tag
from pages.parts.state import empty
from pages.visitor import Visitor
from storage.errors import Invalid

VIEWS = ("model", "bot", "person")


async def usage_view(panel: Panel, v: Visitor, usage: UsageActions, by: str) -> None:
    """Sums of 30 days, then the limits."""
    shown = by if by in VIEWS else "model"
    rows = await usage.usage(v.who, shown)
    limits = await usage.limits(v.who)
    with box("card"):
        with tag("h2", v.t("usage.title")), box("r"), tag("nav", "", "segments", aria_label=v.t("usage.by")):
            for name in VIEWS:
                made = tag("a", v.t(f"usage.by.{name}"), "seg", href=f"/models?view=usage&by={name}")
                if name == shown:
                    made.attr(aria_current="true")
        if rows:
            _table(v, rows)
        else:
            empty(v.t("usage.empty"), v.t("usage.empty.hint"))
    with box("card"):
        tag("h2", v.t("usage.limits"))
        if v.who.may("model.manage"):
            _limits(panel, v, usage, limits)
        else:
            tag("p", v.t("usage.limits.what"), "muted")


def _table(v: Visitor, rows: Sequence[UsageSum]) -> None:
    columns = ("name", "calls", "failed", "tokens_in", "tokens_out", "first", "cost")
    with (
        box("scroll-x", tabindex="0", role="region", aria_label=v.t("usage.title")),
        tag("table", "", "t"),
    ):
        with tag("thead"), tag("tr"):
            for name in columns:
                tag("th", v.t(f"usage.col.{name}"), "" if name == "name" else "num", scope="col")
        with tag("tbody"):
            for row in rows:
                with tag("tr"):
                    tag("td", row.key or v.t("usage.nobody"), "wide-cell")
                    for text in (
                        f"{row.calls:,}",
                        f"{row.failed:,}",
                        f"{row.tokens_in:,}",
                        f"{row.tokens_out:,}",
                        duration(row.first_token_ms),
                        f"¥{row.cost:,.2f}",
                    ):
                        tag("td", text, "num nowrap")


def _limits(panel: Panel, v: Visitor, usage: UsageActions, limits: Limits) -> None:
    async def send(values: Values, _do: str) -> None:
        bots = _lines(values["bots"], "bots")
        people = _lines(values["people"], "people")
        for name, named in (("all_bots", bots), ("all_people", people)):
            if values[name]:
                named[""] = _amount(values[name], name)
        await usage.set_limits(v.who, Limits(bots=bots, people=people))
        form.sent()
        panel.say(v, v.t("usage.limits.saved"))

    with Form(panel, v, send, name="limits", css="form") as form:
        tag("p", v.t("usage.limits.what"), "small muted")
        for name, given in (("bots", limits.bots), ("people", limits.people)):
            whole = given.get("")
            form.text(
                f"all_{name}",
                v.t(f"usage.limits.all_{name}"),
                value="" if whole is None else f"{whole:g}",
                optional=True,
                inputmode="decimal",
            )
            lines = "\n".join(f"{key} = {amount:g}" for key, amount in given.items() if key)
            form.area(
                name, v.t(f"usage.limits.{name}"), value=lines, optional=True, help=v.t(f"usage.limits.{name}.help")
            )
        with box("formend"):
            form.submit(v.t("frame.save"))
            span(v.t("usage.limits.estimated"), "small muted")


def _lines(text: str, field: str) -> dict[str, float]:
    out: dict[str, float] = {}
    for line in text.splitlines():
        if line.strip():
            name, _, amount = line.rpartition("=")
            if not name.strip():
                raise Invalid("model.limit", field=field)
            out[name.strip()] = _amount(amount, field)
    return out


def _amount(text: str, field: str) -> float:
    try:
        return float(text.strip())
    except ValueError as error:
        raise Invalid("model.limit", field=field) from error
