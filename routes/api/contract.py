"""The contract: OpenAPI at `/api/v1/openapi.json`, and the same as one page that loads nothing from elsewhere."""

from __future__ import annotations

import re
from html import escape
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.openapi.utils import get_openapi
from starlette.responses import HTMLResponse, JSONResponse

from routes.api.problems import OPENAI, TYPE, Problem
from storage.settings import VERSION
from storage.words import Words, negotiate

API = "1"
REFUSALS = {
    "401": "No key or token, or one that works no more.",
    "403": "Known, but without the right.",
    "404": "No such thing for this caller.",
    "405": "Not this method.",
    "409": "The present state does not allow it.",
    "413": "The body is too large (1 MB).",
    "422": "The input is wrong; `fields` says where.",
    "429": "Too fast; `Retry-After` says how many seconds to wait.",
    "502": "A vendor or model refused, or did not answer.",
    "503": "A part that is needed does not work now; try again.",
}
FREE = {("post", "/api/v1/token"), ("get", "/api/v1/openapi.json"), ("get", "/api/v1/docs")}
ABOUT = (
    "Give the agent tasks, send messages, look after bots, models, memory. "
    "Authorise with `Authorization: Bearer <API key or token>`; times are milliseconds since the epoch, UTC. "
    "Refusals are `application/problem+json` in the language of `Accept-Language` (zh, en)."
)


def contract(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document, made once."""
    if app.openapi_schema is not None:
        return app.openapi_schema
    made = get_openapi(
        title=app.title,
        version=f"{API} (Zhixing {VERSION})",
        description=ABOUT,
        routes=app.routes,
        openapi_version="3.1.0",
    )
    schemas = made.setdefault("components", {}).setdefault("schemas", {})
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    own = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas |= own.pop("$defs", {})
    schemas["Problem"] = own
    schemas["OpenAIError"] = {"type": "object", "properties": {"error": {"type": "object"}}, "required": ["error"]}
    for path, methods in made["paths"].items():
        for method, operation in methods.items():
            _refusals(operation, path, free=(method, path) in FREE)
    app.openapi_schema = made
    return made


def _refusals(operation: dict[str, Any], path: str, *, free: bool) -> None:
    """Every operation may be refused in these ways, each in the one form."""
    if free:
        operation.pop("security", None)
    kind = ("application/json", "OpenAIError") if path.startswith(OPENAI) else (TYPE, "Problem")
    content = {kind[0]: {"schema": {"$ref": f"#/components/schemas/{kind[1]}"}}}
    for status, what in REFUSALS.items():
        operation["responses"][status] = {"description": what, "content": content}
    operation["responses"]["429"]["headers"] = {"Retry-After": {"schema": {"type": "integer"}}}


def methods_at(app: FastAPI, path: str) -> list[str]:
    """All methods that are taken at a path."""
    paths = contract(app)["paths"]
    if path in paths:
        return sorted(method.upper() for method in paths[path])
    found: set[str] = set()
    for template, methods in paths.items():
        pattern = re.escape(template)
        for one in next(iter(methods.values())).get("parameters", ()):
            kind = r"\d+" if one["schema"].get("type") == "integer" else "[^/]+"
            pattern = pattern.replace(re.escape("{" + one["name"] + "}"), kind)
        if re.fullmatch(pattern, path):
            found |= {method.upper() for method in methods}
    return sorted(found)


def contract_router(app: FastAPI, words: Words) -> APIRouter:
    """Routes of the contract; open to everybody: they say what is in this product, not what is in this installation."""
    router = APIRouter(prefix="/api/v1", include_in_schema=False)

    @router.get("/openapi.json")
    async def openapi() -> JSONResponse:
        return JSONResponse(contract(app))

    @router.get("/docs")
    async def docs(request: Request) -> HTMLResponse:
        lang = negotiate(request.headers.get("accept-language", ""))
        return HTMLResponse(_page(contract(app), words, lang))

    return router


CSS = """
:root{color-scheme:light dark}body{font:14px/1.5 system-ui,"PingFang SC","Microsoft YaHei",sans-serif;margin:0 auto;
max-width:60rem;padding:1.5rem;color:CanvasText;background:Canvas}h1{font-size:20px}h2{font-size:16px;margin-top:2rem}
section{border:1px solid color-mix(in srgb,CanvasText 18%,Canvas);border-radius:8px;padding:.75rem 1rem;margin:.5rem 0}
code{font-family:ui-monospace,Menlo,monospace;overflow-wrap:anywhere}
b{display:inline-block;min-width:4rem}p{margin:.3rem 0}
td{padding:.1rem 1rem .1rem 0;vertical-align:top}small{opacity:.75}
"""


def _page(made: dict[str, Any], words: Words, lang: str) -> str:
    """The contract as a page without script."""
    groups: dict[str, list[str]] = {}
    for path, methods in made["paths"].items():
        for method, operation in methods.items():
            tag = (operation.get("tags") or ["api"])[0]
            groups.setdefault(tag, []).append(_operation(method, path, operation, made["components"]["schemas"]))
    html = "zh-CN" if lang == "zh_CN" else "en"
    title, about = escape(words.say(lang, "api.docs.title")), escape(words.say(lang, "api.docs.about"))
    body = "".join(f"<h2>{escape(tag)}</h2>{''.join(parts)}" for tag, parts in groups.items())
    return (
        f'<!doctype html><html lang="{html}"><head><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{CSS}</style></head><body><h1>{title}</h1>'
        f'<p>{about}</p><p><a href="/api/v1/openapi.json">openapi.json</a></p>{body}</body></html>'
    )


def _operation(method: str, path: str, operation: dict[str, Any], schemas: dict[str, Any]) -> str:
    rows = [_row(p["name"], p["in"], p["schema"], p.get("required", False)) for p in operation.get("parameters", ())]
    for kind in operation.get("requestBody", {}).get("content", {}).values():
        for one in (kind["schema"], *kind["schema"].get("anyOf", ())):
            schema = schemas.get(str(one.get("$ref", "")).rpartition("/")[2], {})
            needed = schema.get("required", ())
            rows += [_row(name, "body", field, name in needed) for name, field in schema.get("properties", {}).items()]
    said = escape(operation.get("description") or operation.get("summary") or "")
    table = f"<table>{''.join(rows)}</table>" if rows else ""
    return f"<section><b>{method.upper()}</b> <code>{escape(path)}</code><p>{said}</p>{table}</section>"


def _row(name: str, where: str, schema: dict[str, Any], required: bool) -> str:
    kinds = [schema, *schema.get("anyOf", ())]
    kind = "/".join(str(one.get("type") or one.get("$ref", "").rpartition("/")[2]) for one in kinds).strip("/")
    said = " ".join([where, kind, *(repr(one) for one in schema.get("enum", ()) if one), schema.get("description", "")])
    star = " *" if required else ""
    return f"<tr><td><code>{escape(name)}</code>{star}</td><td><small>{escape(said)}</small></td></tr>"
