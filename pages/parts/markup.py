"""Plain HTML elements with text: what most of a page is made of. Text is always escaped."""

from __future__ import annotations

from nicegui.elements.mixins.text_element import TextElement


class Markup(TextElement):
    """An HTML element of any tag that may hold text or other elements."""

    def __init__(self, tag: str, text: str = "", css: str = "") -> None:
        super().__init__(tag=tag, text=text)
        if css:
            self.classes(css)

    def attr(self, **values: object) -> Markup:
        """Set attributes; underscores become dashes. None and False remove one, True sets it empty."""
        with self._props.suspend_updates():
            for key, value in values.items():
                name = key.strip("_").replace("_", "-")
                if value is None or value is False:
                    self._props.pop(name, None)
                else:
                    self._props[name] = "" if value is True else value
        self.update()
        return self


def tag(name: str, text: str = "", css: str = "", /, **attrs: object) -> Markup:
    """An element in the current place, e.g. `tag("h2", v.t("x"), "r", title="y")`."""
    made = Markup(name, text, css)
    return made.attr(**attrs) if attrs else made


def box(css: str = "", text: str = "", /, **attrs: object) -> Markup:
    """A `div`."""
    return tag("div", text, css, **attrs)


def span(text: str = "", css: str = "", /, **attrs: object) -> Markup:
    """A `span`."""
    return tag("span", text, css, **attrs)


def icon(name: str, css: str = "") -> Markup:
    """A picture of `assets/icons/`, in the colour of the text around; hidden from screen readers."""
    return tag("i", "", f"ic ic-{name} {css}".strip(), aria_hidden="true")
