"""`/backup`: is there a young backup, elsewhere too, that was proved to come back? And how does it come back?"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from nicegui import ui

from pages.backup_plan import place_card, plan_card
from pages.frame import Panel
from pages.parts.badge import badge, moment
from pages.parts.button import button
from pages.parts.copying import copy_line
from pages.parts.dialog import confirm, dialog
from pages.parts.download import byte_size, hand_over
from pages.parts.markup import box, span, tag
from pages.parts.state import empty
from pages.visitor import Visitor
from security.backup_rows import BackupRow
from security.backup_settings import BackupSettings
from security.backups import BackupActions, BackupView
from security.restored import RestoredActions
from storage.errors import AppError

Redraw = Callable[[], Awaitable[None]]
OLD = 26 * 3_600_000
TESTED = 8 * 86_400_000


def mount(panel: Panel, backups: BackupActions, settings: BackupSettings, restored: RestoredActions) -> None:
    """Register `/backup`."""

    @ui.page("/backup")
    async def page() -> None:
        v = panel.enter()
        with panel.frame(v, "place.backup", place="/backup", css=("keeping.css",)) as frame:
            place = box("stack")
            manage = v.who.may("backup.manage")

            async def show() -> None:
                view = await backups.view(v.who)
                place.clear()
                main.attr(hidden=not (manage and view.plan.recipient and view.ours))
                with place:
                    if view.review is not None:
                        _review(panel, v, restored, view.review, show, manage)
                    if not view.ours:
                        empty(v.t("backup.shared"), v.t("backup.shared.hint"))
                        return
                    if not view.plan.recipient:
                        _first(panel, v, settings, show, manage)
                        return
                    _verdict(v, view, backups.clock.ms())
                    _list(panel, v, backups, view, show, manage)
                    if manage:
                        with box("grid2"):
                            plan_card(panel, v, settings, view, show)
                            place_card(panel, v, settings, view, show)
                    _how(panel, v, settings, view, show, manage)

            async def now() -> None:
                made = await backups.run(v.who)
                panel.say(v, v.t("backup.done", size=byte_size(made.size)))
                await show()

            with frame.actions:
                main = button(v.t("backup.now"), panel.act(v, now), "pri", hidden=True)
            await show()


def _verdict(v: Visitor, view: BackupView, now: int) -> None:
    """One sentence, the worst first."""
    done = [row for row in view.rows if row.status == "done" and row.here]
    tested = max((row.tested_at or 0 for row in view.rows if not row.test_error), default=0)
    state, key = "ok", "fine"
    if not done:
        state, key = "bad", "none"
    elif now - (done[0].ended_at or 0) > OLD:
        state, key = "bad", "old"
    elif done[0].test_error:
        state, key = "bad", "broken"
    elif done[0].away_error:
        state, key = "warn", "away"
    elif view.plan.target.kind == "none":
        state, key = "warn", "here_only"
    elif tested < now - TESTED:
        state, key = "warn", "untried"
    with box(f"verdict {state}", role="status"):
        tag("b", v.t(f"backup.verdict.{key}"))
        with box("r small"):
            span(v.t("backup.next"))
            moment(v, view.next_at or None)


def _list(panel: Panel, v: Visitor, backups: BackupActions, view: BackupView, show: Redraw, manage: bool) -> None:
    rows = [row for row in view.rows if row.here or row.status != "done"][:40]
    if not rows:
        return
    with (
        box("card"),
        box("scroll-x", tabindex="0", role="region", aria_label=v.t("place.backup")),
        tag("table", "", "t"),
    ):
        with tag("thead"), tag("tr"):
            for name in ("made", "state", "size", "away", "tested", "act"):
                with tag("th", "", "num" if name in ("size", "act") else "", scope="col"):
                    span(v.t(f"backup.col.{name}"), "sr" if name == "act" else "")
        with tag("tbody"):
            for row in rows:
                _row(panel, v, backups, row, show, manage)


def _row(panel: Panel, v: Visitor, backups: BackupActions, row: BackupRow, show: Redraw, manage: bool) -> None:
    with tag("tr", data_backup=str(row.id)):
        with tag("td"):
            moment(v, row.started_at)
            box("small muted", v.t(f"backup.kind.{row.kind}"))
        with tag("td"):
            state = {"done": "ok", "failed": "bad", "running": "run"}.get(row.status, "unknown")
            badge(v, state, v.t(f"backup.status.{row.status}"))
            _why(v, row, row.error)
        tag("td", byte_size(row.size) if row.size else "–", "num nowrap")
        with tag("td"):
            _proof(v, "away", row.away, row.away_error, "warn")
            _why(v, row, row.away_error)
        with tag("td"):
            _proof(v, "tested", row.tested_at, row.test_error, "bad")
            _why(v, row, row.test_error)
        with tag("td", "", "num"):
            if manage and row.here:
                _acts(panel, v, backups, row, show)


def _proof(v: Visitor, name: str, at: int | None, error: str, worse: str) -> None:
    if error:
        badge(v, worse, v.t(f"backup.{name}.no"))
    elif at:
        badge(v, "ok", v.t(f"backup.{name}.yes"))
        with box("small muted"):
            moment(v, at)
    else:
        span("–", "faint")


def _why(v: Visitor, row: BackupRow, code: str) -> None:
    if code:
        box("small", v.explain(_error(row, code))[0])


def _error(row: BackupRow, code: str) -> AppError:
    """A kept code as an error; what its text would like to fill in is not kept."""
    return AppError(code, path="", reason="", status="", free="–", need="–", folder="", row="–", name=row.name)


def _acts(panel: Panel, v: Visitor, backups: BackupActions, row: BackupRow, show: Redraw) -> None:
    async def test() -> None:
        found = await backups.test(v.who, row.id)
        if found.test_error:
            panel.tell(v, _error(row, found.test_error))
        else:
            panel.say(v, v.t("backup.tested.fine"))
        await show()

    async def take() -> None:
        hand_over(v, await backups.file(v.who, row.id))

    async def ask() -> None:
        confirm(
            panel,
            v,
            title=v.t("backup.remove.ask"),
            text=v.t("backup.remove.what", name=row.name),
            act=v.t("backup.remove"),
            handler=panel.act(v, remove),
        )

    async def remove() -> None:
        await backups.remove(v.who, row.id)
        await show()

    with box("bar end"):
        for name, act in (("test", test), ("take", take)):
            label = f"{v.t(f'backup.{name}')}: {row.name}"
            button(v.t(f"backup.{name}"), panel.act(v, act), "small", aria_label=label)
        label = f"{v.t('backup.remove')}: {row.name}"
        button("", panel.act(v, ask), "small quiet ic ic-trash", aria_label=label, title=v.t("backup.remove"))


def _first(panel: Panel, v: Visitor, settings: BackupSettings, show: Redraw, manage: bool) -> None:
    async def make() -> None:
        _shown_once(panel, v, await settings.make_key(v.who), show)

    with empty(v.t("backup.empty"), v.t("backup.empty.hint")):
        if manage:
            button(v.t("backup.key.make"), panel.act(v, make), "pri")


def _shown_once(panel: Panel, v: Visitor, key: str, show: Redraw) -> None:
    """The recovery key; it is nowhere else, so the dialog stays until somebody says that it is kept."""

    async def kept() -> None:
        made.close()
        await show()

    with dialog(v.t("backup.key.title"), broad=True) as made:
        made.stay()
        tag("p", v.t("backup.key.what"), "muted")
        copy_line(v, key)
        tag("p", v.t("backup.key.where"), "small muted")
        with box("formend"):
            button(v.t("backup.key.kept"), panel.act(v, kept), "pri")


def _how(panel: Panel, v: Visitor, settings: BackupSettings, view: BackupView, show: Redraw, manage: bool) -> None:
    async def ask() -> None:
        confirm(
            panel,
            v,
            title=v.t("backup.key.again"),
            text=v.t("backup.key.again.what"),
            act=v.t("backup.key.again"),
            handler=panel.act(v, again),
        )

    async def again() -> None:
        _shown_once(panel, v, await settings.make_key(v.who), show)

    newest = next((row.name for row in view.rows if row.here), "zhixing-….age")
    with box("card"):
        tag("h2", v.t("backup.how"))
        tag("p", v.t("backup.how.what"), "muted")
        copy_line(v, f"ZHIXING_DATA=/srv/zhixing-new python app.py restore {view.folder}/{newest}")
        tag("p", v.t("backup.how.after"), "small muted")
        with box("bar"):
            span(v.t("backup.key.since"), "small muted")
            moment(v, view.plan.key_at or None)
            if manage:
                button(v.t("backup.key.again"), panel.act(v, ask), "small quiet")


def _review(
    panel: Panel, v: Visitor, restored: RestoredActions, review: dict[str, object], show: Redraw, manage: bool
) -> None:
    async def go_on() -> None:
        count = await restored.reviewed(v.who, resume=True)
        panel.say(v, v.t("backup.review.resumed", n=count))
        await show()

    async def leave() -> None:
        await restored.reviewed(v.who, resume=False)
        await show()

    counts = review.get("counts")
    with box("card", role="alert"):
        tag("h2", v.t("backup.review"))
        with box("bar small muted"):
            span(v.t("backup.review.made"))
            made_at = review.get("made_at")
            moment(v, int(made_at) if isinstance(made_at, int) else None, "exact")
        tag("p", v.t("backup.review.what"))
        if isinstance(counts, dict) and counts:
            with tag("ul", "", "small"):
                for name, count in sorted(counts.items()):
                    key = f"backup.review.of.{name}"
                    tag("li", v.t(key, n=count) if v.words.has(v.lang, key) else f"{name}: {count}")
        if manage:
            with box("bar"):
                button(v.t("backup.review.go"), panel.act(v, go_on), "pri")
                button(v.t("backup.review.leave"), panel.act(v, leave))
