"""A health test, what it found, and how that stands on a page."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

from storage.principal import Principal

GROUPS = ("server", "network", "data", "queue", "model", "bot", "memory")
STATUSES = ("fail", "warn", "unknown", "pass", "off")


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """What a test saw.

    Attributes:
        status: `pass`, `warn`, `fail`, `unknown` (it could not look: never green), `off` (not in use).
        say: names the text: `health.<test>.<say>`, its remedy `health.<test>.<say>.remedy`; both filled with `params`.
        code: an error's code instead: texts `error.<code>` and `error.<code>.remedy`.
        text: a whole catalogue key instead, its remedy `<text>.remedy` unless `remedy` names another.
        subject: of whom, where a test looks at several: a bot, a model, a host.
        step: which step of it, for tests in steps (`probe.<step>`).
        to: address of the page where it is mended.
        fixable: the test's `fix` can mend this.
    """

    status: str
    say: str = ""
    code: str = ""
    text: str = ""
    remedy: str = ""
    params: Mapping[str, object] = field(default_factory=dict)
    subject: str = ""
    step: str = ""
    to: str = ""
    fixable: bool = False
    ms: int = 0


def good(say: str, /, **params: object) -> Found:
    """Proved just now."""
    return Found(status="pass", say=say, params=params)


def warn(say: str, to: str = "", /, **params: object) -> Found:
    """It works, but not as it should."""
    return Found(status="warn", say=say, params=params, to=to)


def bad(say: str, to: str = "", /, **params: object) -> Found:
    """It does not work."""
    return Found(status="fail", say=say, params=params, to=to)


def unknown(say: str, to: str = "", /, **params: object) -> Found:
    """It could not be looked at from here."""
    return Found(status="unknown", say=say, params=params, to=to)


def off(say: str, /, **params: object) -> Found:
    """Not in use here."""
    return Found(status="off", say=say, params=params)


Look = Callable[[], Awaitable[Sequence[Found]]]


@dataclass(frozen=True, kw_only=True, slots=True)
class HealthTest:
    """One test.

    Attributes:
        id: `<group>.<name>`; its title is `health.<id>`.
        look: looks for real. What it raises as an expected error means: it could not look.
        seconds: the longest that it may take.
        inside: only the serving process can look, e.g. at its own event loop.
        asks: it calls a vendor or model; told on the page, since that may cost a few tokens.
        fix: mends what was found about a subject, where that is safe; the test is run again afterwards.
    """

    id: str
    look: Look
    seconds: float = 10.0
    inside: bool = False
    asks: bool = False
    fix: Callable[[Principal, str], Awaitable[None]] | None = None

    @property
    def group(self) -> str:
        return self.id.partition(".")[0]


@dataclass(frozen=True, kw_only=True, slots=True)
class HealthRow:
    """One line of the health tests. Fields as in `Found`; `at` is when it was seen, in ms, 0 for never."""

    id: str
    group: str
    status: str
    say: str = ""
    code: str = ""
    text: str = ""
    remedy: str = ""
    params: Mapping[str, object] = field(default_factory=dict)
    subject: str = ""
    step: str = ""
    to: str = ""
    fixable: bool = False
    at: int = 0
    ms: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """How far a run is. `now` names the tests under way; `total` is 0 while nothing runs."""

    done: int = 0
    total: int = 0
    now: tuple[str, ...] = ()
