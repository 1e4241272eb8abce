"""Typed errors that cross layers as themselves.

An error is typed by what its receiver does next. Its `code` is at once the translation key
(`error.<code>` says what happened, `error.<code>.remedy` how to mend it), the API code and the log field.
"""

from __future__ import annotations


class AppError(Exception):
    """Base of every expected failure.

    Args:
        code: stable dotted code, e.g. `bot.managed_by_file`.
        params: values for the message's placeholders. Never secrets: they are shown and logged.
    """

    status = 500

    def __init__(self, code: str, /, **params: object) -> None:
        super().__init__(code)
        self.code = code
        self.params = params

    def __str__(self) -> str:
        if not self.params:
            return self.code
        return f"{self.code} ({', '.join(f'{k}={v}' for k, v in self.params.items())})"


class Invalid(AppError):
    """The input is wrong; the caller can mend it. `field` names the input where there is one."""

    status = 422

    def __init__(self, code: str, /, field: str | None = None, **params: object) -> None:
        super().__init__(code, **params)
        self.field = field


class Unauthenticated(AppError):
    """No valid session, key or signature."""

    status = 401


class Denied(AppError):
    """Known, but without the right."""

    status = 403


class NotFound(AppError):
    """No such thing for this tenant (another tenant's row counts as absent)."""

    status = 404


class Conflict(AppError):
    """The present state does not allow it."""

    status = 409


class TooLarge(AppError):
    """More bytes than the bound allows."""

    status = 413


class Throttled(AppError):
    """Too fast; try again after `retry_after` seconds."""

    status = 429

    def __init__(self, code: str, /, retry_after: float = 1.0, **params: object) -> None:
        super().__init__(code, **params)
        self.retry_after = retry_after


class Unavailable(AppError):
    """A part that is needed does not work now; the same call may succeed later."""

    status = 503


class Rejected(AppError):
    """A vendor or model refused for good; repeating the call cannot help. `reason` is safe to show."""

    status = 502

    def __init__(self, code: str, /, reason: str = "", **params: object) -> None:
        super().__init__(code, reason=reason, **params)
        self.reason = reason


class OutcomeUnknown(AppError):
    """The request had left, the answer never came: it may or may not have happened."""

    status = 502


class Lost(AppError):
    """This attempt no longer owns its job: another worker took it over, or it was cancelled."""

    status = 409

    def __init__(self, job: int) -> None:
        super().__init__("job.lost", job=job)
