"""How memory is said on its pages: whose it is, where a thing comes from, why it was found."""

from __future__ import annotations

from collections.abc import Sequence

from agent.memory.citing import source_text
from agent.memory.shown import FoundItem, Item, Place
from pages.parts.badge import moment
from pages.parts.markup import Markup, box, span, tag
from pages.parts.views import views
from pages.visitor import Visitor
from security.markdown import visible

PARTS = ("words", "cover", "meaning", "sitting", "section", "shape")
SHARES = ("words", "cover", "meaning")  # between 0 and 1; the others count from the average
KINDS = ("turn", "fact", "preference", "decision", "promise", "summary")


def memory_views(v: Visitor, here: str) -> None:
    """Search, knowledge, forgetting, taking along, index."""
    items = [("/memory", v.t("memory.view.search"))]
    if v.who.may("knowledge.manage"):
        items.append(("/memory/knowledge", v.t("memory.view.knowledge")))
    items += [
        ("/memory/forget", v.t("memory.view.forget")),
        ("/memory/files", v.t("memory.view.files")),
        ("/memory/index", v.t("memory.view.index")),
    ]
    views(v.t("place.memory"), items, here)


def place_name(v: Visitor, place: Place) -> str:
    """Whose memory it is."""
    if place.id == 0:
        return v.t("memory.of.me")
    name = visible(place.name or place.key)
    if place.kind == "person":
        return v.t("memory.of.person", name=name if name == place.key else f"{name} ({place.key})")
    if place.kind == "group":
        return v.t("memory.of.group", name=name)
    return v.t("memory.of.bot", name=name) if place.kind == "bot" else v.t("memory.of.tenant")


def place_select(v: Visitor, places: Sequence[Place], chosen: int, name: str = "of") -> Markup:
    """A choice among memories, with how much each holds."""
    made = tag("select", "", "input", name=name, aria_label=v.t("memory.of"))
    with made:
        for place in places:
            text = f"{place_name(v, place)} · {place.rows:,}"
            tag("option", text, value=str(place.id)).attr(selected=True if place.id == chosen else None)
    return made


def kind_tag(v: Visitor, item: Item) -> None:
    """Kind, and state where it no longer holds."""
    span(v.t(f"memory.kind.{item.kind}"), "tag")
    if item.state != "now":
        span(v.t(f"memory.state.{item.state}"), "tag past")
    if item.pinned:
        span(v.t("memory.pinned"), "tag pin")


def source_words(v: Visitor, item: Item) -> str:
    """Where it comes from."""
    if item.cite:
        return source_text(v.words, v.lang, visible(item.cite))
    kind, _, rest = item.source.partition(":")
    if kind == "document":
        where = item.place.partition(" ")[2]
        return v.t("memory.source.document", number=rest, place=where)
    if kind in ("message", "panel", "import"):
        return v.t(f"memory.source.{kind}", number=rest)
    return item.source or v.t("memory.source.none")


def speaker_words(v: Visitor, item: Item) -> str:
    """Who said it."""
    return v.t("memory.speaker.ours") if item.speaker == "assistant" else visible(item.speaker)


def about(v: Visitor, item: Item) -> Markup:
    """What kind, who, when, from where, how trusted: one quiet line."""
    with box("small muted bar") as made:
        kind_tag(v, item)
        if item.speaker:
            span(speaker_words(v, item))
        if item.kind != "chunk":
            moment(v, item.at or None)
        span(source_words(v, item))
        if item.label >= "t4" and item.speaker != "assistant":
            span(v.t(f"memory.label.{item.label}"), "tag")
    return made


def item_line(v: Visitor, item: Item) -> Markup:
    """A row of a list; more can be put into it with `with`."""
    with box("line memory-row"), box("grow") as grow:
        if item.kind == "chunk":
            box("wrap", visible(item.text)[:400])
        else:
            tag("a", visible(item.text)[:400], "plain wrap", href=f"/memory/row/{item.id}")
        about(v, item)
    return grow


def why(v: Visitor, found: FoundItem) -> None:
    """Each part of a score, as a word, a bar or a number, and what it means."""
    with tag("details", "", "why"):
        tag("summary", v.t("memory.why", score=f"{found.score:.2f}"), "small muted")
        with tag("dl", "", "scores"):
            for name in PARTS:
                if name not in found.parts:
                    continue
                value = found.parts[name]
                tag("dt", v.t(f"memory.part.{name}"))
                with tag("dd", "", "bar"):
                    if name in SHARES:
                        label = v.t(f"memory.part.{name}")
                        tag("meter", "", "meter", min="0", max="1", value=f"{value:.3f}", aria_label=label)
                        span(f"{value:.0%}", "mono")
                    else:
                        span(f"{value:+.2f}", "mono")
                    span(v.t(f"memory.part.{name}.what"), "small muted")
        if "history" in found.parts:
            tag("p", v.t("memory.why.history"), "small muted")
        if not found.fits:
            tag("p", v.t("memory.why.unfit"), "small muted")
