"""The left rail: the four groups of pages, and who is signed in. On a phone a drawer behind a button."""

from __future__ import annotations

import json

from pages.parts.markup import Markup, box, icon, span, tag
from pages.places import GROUPS, Place, places
from pages.visitor import Visitor

_AGO = ("now", "seconds", "minutes", "hours", "days", "in_seconds", "in_minutes", "in_hours", "in_days")


def rail(v: Visitor, here: str) -> None:
    """Build skip link, phone bar and rail beside the page; everything works without the server once it is there."""
    content = v.client.content.html_id
    with v.client.layout:
        top = box("top")
        with top:
            tag("a", v.t("frame.skip"), "skip", href=f"#{content}")
            with tag("header", "", "topbar"):
                tag("button", "", "iconbtn ic ic-menu", type="button", data_drawer=True).attr(
                    aria_label=v.t("frame.menu"), aria_expanded="false"
                )
                span(v.t("product.name"), "brandname")
        with tag("nav", "", "rail", aria_label=v.t("frame.pages"), data_rail=True).attr(**script_words(v)) as nav:
            with tag("a", "", "brand", href="/"):
                tag("i", "", "logo", aria_hidden="true")
                span(v.t("product.name"), "brandname")
            _groups(v, here)
            _person(v, here)
    for index, part in enumerate((top, nav)):
        part.move(v.client.layout, index)


def _groups(v: Visitor, here: str) -> None:
    seen = places(v.who)
    for group in GROUPS:
        members = [place for place in seen if place.group == group]
        if members:
            box("group", v.t(f"group.{group}"))
            for place in members:
                _entry(v, place, here)


def _entry(v: Visitor, place: Place, here: str) -> Markup:
    link = tag("a", v.t(f"place.{place.name}"), f"nav ic ic-{place.icon}", href=place.path, data_key=place.letter)
    if place.path == here:
        link.classes("on").attr(aria_current="page")
    return link


def _person(v: Visitor, here: str) -> None:
    with box("person"):
        if here == "/account":
            tag("a", v.who.name, "nav ic ic-user on", href="/account", aria_current="page")
        else:
            tag("a", v.who.name, "nav ic ic-user", href="/account")
        with tag("form", "", "", method="post", action="/logout"), tag("button", "", "iconbtn", type="submit") as out:
            icon("logout")
        out.attr(aria_label=v.t("frame.logout"), title=v.t("frame.logout"))


def script_words(v: Visitor) -> dict[str, object]:
    """What `panel.js` says: it has no words of its own."""
    return {
        "data_words": True,
        "data_ago": json.dumps({name: v.t(f"time.{name}") for name in _AGO}, ensure_ascii=False),
        "data_copied": v.t("frame.copied"),
        "data_find": v.t("frame.find"),
        "data_nothing": v.t("frame.find.nothing"),
        "data_close": v.t("frame.close"),
    }
