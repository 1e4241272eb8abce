"""What went wrong, in one form (RFC 9457) and the caller's language: a stable code, what happened, what to do."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from typing import Any

from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from storage.errors import AppError, Invalid, Throttled
from storage.principal import Principal
from storage.words import Words, negotiate

TYPE = "application/problem+json"
OPENAI = "/v1/"
MOST_FIELDS = 20
KINDS = {
    "missing": "missing",
    "string_too_long": "long",
    "too_long": "long",
    "string_too_short": "short",
    "too_short": "short",
    "extra_forbidden": "unknown",
    "json_invalid": "json",
    "greater_than_equal": "range",
    "less_than_equal": "range",
    "greater_than": "range",
    "less_than": "range",
    "literal_error": "choice",
    "enum": "choice",
}


class FieldProblem(BaseModel):
    """One input that is wrong."""

    field: str = Field(description="Name of the input, with dots into objects.")
    code: str = Field(description="What is wrong with it: stable.")
    message: str = Field(description="The same for people.")


class Problem(BaseModel):
    """Why a request was refused (RFC 9457)."""

    type: str = Field(default="about:blank")
    title: str = Field(description="What happened, for people.")
    status: int
    code: str = Field(description="What happened: stable, the same as in the panel and the log.")
    remedy: str = Field(default="", description="What to do about it, for people.")
    fields: list[FieldProblem] = Field(default_factory=list)


class NoRoute(AppError):
    """A path or method that is not there."""

    def __init__(self, status: int) -> None:
        super().__init__("api.method" if status == 405 else "api.no_path")
        self.status = status


class Broken(AppError):
    """A mistake of ours; the log has its trace."""

    status = 500

    def __init__(self) -> None:
        super().__init__("api.defect")


class Problems:
    """Turns errors into answers; below `/v1/` in the form that OpenAI's clients read.

    `methods` says which methods a path takes: the router knows of one route at a time.
    """

    def __init__(self, words: Words) -> None:
        self.words = words
        self.methods: Callable[[str], Sequence[str]] = lambda path: ()

    async def answer(self, scope: Scope, receive: Receive, send: Send, error: AppError) -> None:
        """Answer a request that reached no route."""
        await self.response(Request(scope), error)(scope, receive, send)

    def response(self, request: Request, error: AppError, fields: Sequence[FieldProblem] = ()) -> Response:
        """The answer to an expected error."""
        lang = language(request)
        title, remedy = self.explain(lang, error)
        headers = {"vary": "accept-language", "content-language": "zh-CN" if lang == "zh_CN" else "en"}
        if isinstance(error, Throttled):
            headers["retry-after"] = str(math.ceil(error.retry_after))
        elif error.status == 401:
            headers["www-authenticate"] = 'Bearer realm="zhixing"'
        elif error.status == 503:
            headers["retry-after"] = "2"
        if isinstance(error, Invalid) and error.field and not fields:
            fields = (FieldProblem(field=error.field, code=error.code, message=title),)
        if request.url.path.startswith(OPENAI):
            return JSONResponse(_openai(error, f"{title} {remedy}".strip(), fields), error.status, headers=headers)
        body = Problem(title=title, status=error.status, code=error.code, remedy=remedy, fields=list(fields))
        return JSONResponse(body.model_dump(), error.status, headers=headers, media_type=TYPE)

    def explain(self, lang: str, error: AppError) -> tuple[str, str]:
        """What happened and what to do."""
        key = f"error.{error.code}"
        if not self.words.has(lang, key):
            return self.words.say(lang, f"error.status.{error.status}", code=error.code), ""
        remedy = f"{key}.remedy"
        more = self.words.say(lang, remedy, **error.params) if self.words.has(lang, remedy) else ""
        return self.words.say(lang, key, **error.params), more

    # ---- as exception handlers of the application

    async def expected(self, request: Request, error: Exception) -> Response:
        """A refusal of a use case."""
        return self.response(request, error if isinstance(error, AppError) else Broken())

    async def routing(self, request: Request, error: Exception) -> Response:
        """No such path, or not this method."""
        status = error.status_code if isinstance(error, HTTPException) else 404
        if status == 400:  # a body that no parser could read
            message = self.words.say(language(request), "api.field.json", field="body")
            return self.response(
                request, Invalid("api.input"), [FieldProblem(field="body", code="field.json", message=message)]
            )
        answer = self.response(request, NoRoute(status))
        if status == 405:
            answer.headers["allow"] = ", ".join(self.methods(request.url.path))
        return answer

    async def validation(self, request: Request, error: Exception) -> Response:
        """Input in the wrong form. What was sent is not repeated: it may be a secret."""
        lang, fields = language(request), []
        found: Sequence[Any] = error.errors() if isinstance(error, RequestValidationError) else ()
        for one in found[:MOST_FIELDS]:
            kind = KINDS.get(str(one["type"]), "wrong")
            where = [str(part) for part in one["loc"][1:]] or [str(part) for part in one["loc"][:1]]
            name = re.sub(r"[^\w.\-]", "", ".".join(where))[:120]
            message = self.words.say(lang, f"api.field.{kind}", field=name)
            fields.append(FieldProblem(field=name, code=f"field.{kind}", message=message))
        return self.response(request, Invalid("api.input"), fields)

    async def defect(self, request: Request, error: Exception) -> Response:
        """What should not have happened."""
        return self.response(request, Broken())


def language(request: Request) -> str:
    """The caller's language."""
    who = request.scope.get("zhixing.who")
    return who.lang if isinstance(who, Principal) else negotiate(request.headers.get("accept-language", ""))


def _openai(error: AppError, message: str, fields: Sequence[FieldProblem]) -> dict[str, object]:
    kinds = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
    kind = kinds.get(error.status, "invalid_request_error" if error.status < 500 else "server_error")
    param = fields[0].field if fields else None
    more = "; ".join(field.message for field in fields if field.message not in message)
    text = f"{message} ({more})" if more else message
    return {"error": {"message": text, "type": kind, "param": param, "code": error.code}}
