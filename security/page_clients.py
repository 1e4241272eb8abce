"""NiceGUI's own side of the gate: whose a page's client is, guarded socket handlers, bounds on open pages.

Everything here relies on internals of NiceGUI 3.18 (found by reading its source): `Client.instances`,
`Client._request`, `Client._delete_tasks`, `sio.handlers`. tests/flow/test_gate_socket.py must pass before a newer
version is taken.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Mapping
from typing import Any, cast
from urllib.parse import parse_qs

from nicegui import Client, core

from security.sessions import Sessions

log = logging.getLogger(__name__)

SCOPE_SESSION = "zhixing.session"
MOST_OF_SESSION = 10
MOST_OF_ALL = 300
GUARDED = ("handshake", "event", "javascript_response", "ack", "log")
RELOAD = "Implicit handshake failed"  # what NiceGUI's page understands as: load yourself anew
LEVELS = ("debug", "info", "warning", "error")


def owner_of(client_id: object) -> str | None:
    """The session that a page was built for; None for an unknown page."""
    client = Client.instances.get(client_id) if isinstance(client_id, str) else None
    return None if client is None else _owner(client)


def _owner(client: Client) -> str | None:
    request = client._request
    return None if request is None else cast("str | None", request.scope.get(SCOPE_SESSION))


def only_query_value(query_string: str | bytes, name: str) -> str:
    """The one value of a query parameter; empty if it is missing or stands twice."""
    text = query_string.decode("latin-1") if isinstance(query_string, bytes) else query_string
    values = parse_qs(text, keep_blank_values=True).get(name, [])
    return values[0] if len(values) == 1 else ""


class PageClients:
    """Refuses what does not belong to a socket's session, and keeps open pages bounded."""

    def __init__(self, sessions: Sessions) -> None:
        self.sessions = sessions
        self.refused = 0
        self._installed: dict[str, Callable[..., Any]] = {}

    # --- sockets

    def install(self) -> None:
        """Wrap NiceGUI's socket handlers and switch polling off. Call once, after `ui.run_with`."""
        core.app.config.socket_io_js_transports = ["websocket"]
        core.sio.eio.transports = ["websocket"]
        handlers = core.sio.handlers["/"]
        missing = [name for name in ("connect", *GUARDED) if name not in handlers]
        if missing:
            raise RuntimeError(f"NiceGUI changed its socket handlers: {missing}")  # never start ungated
        for name in ("connect", *GUARDED):
            if getattr(handlers[name], "guarded_by", None) is not None:
                handlers[name] = handlers[name].unguarded
            self._installed[name] = handlers[name]
            handlers[name] = self._connect(handlers[name]) if name == "connect" else self._guard(name, handlers[name])

    def _mark(self, guarded: Any, handler: Any) -> Callable[..., Any]:
        guarded.guarded_by, guarded.unguarded = self, handler
        return cast(Callable[..., Any], guarded)

    def _connect(self, handler: Callable[..., Any]) -> Callable[..., Any]:
        async def guarded(sid: str, environ: Mapping[str, Any], auth: object = None) -> Any:
            from socketio.exceptions import ConnectionRefusedError as Refused  # type: ignore[import-untyped]

            session = environ.get("asgi.scope", {}).get(SCOPE_SESSION)
            owner = owner_of(only_query_value(environ.get("QUERY_STRING", ""), "client_id"))
            if not self.sessions.alive(session) or owner not in (session, None):
                self.refused += 1
                raise Refused("not yours")
            if owner is None:
                raise Refused(RELOAD)
            try:
                return await _result(handler(sid, environ, auth))
            except (TypeError, ValueError, KeyError) as error:
                raise Refused(RELOAD) from error

        return self._mark(guarded, handler)

    def _guard(self, name: str, handler: Callable[..., Any]) -> Callable[..., Any]:
        async def guarded(sid: str, msg: object = None, *_: object) -> Any:
            session = self._session_of(sid)
            live = self.sessions.get(session)
            if live is None or not isinstance(msg, dict) or owner_of(msg.get("client_id")) != session:
                self.refused += 1
                await core.sio.disconnect(sid)
                return None
            if name == "event":
                self.sessions.touch(live)
            if not _well_formed(name, msg):
                self.refused += 1
                return None
            try:
                return await _result(handler(sid, msg))
            except (TypeError, ValueError, KeyError, AttributeError):
                # our own handlers' errors are caught further in: this frame was not made by our page
                log.info("malformed socket message %s ignored", name)
                return None

        return self._mark(guarded, handler)

    def _session_of(self, sid: str) -> str | None:
        environ = core.sio.get_environ(sid) or {}
        return cast("str | None", environ.get("asgi.scope", {}).get(SCOPE_SESSION))

    # --- bounds

    def room(self, session: str) -> bool:
        """True if the session may open one more page. Pages that nobody looks at any more make room first."""
        mine = self.of(session)
        if len(mine) >= MOST_OF_SESSION:
            idle = sorted((c for c in mine if not c.has_socket_connection), key=lambda c: c.created)
            for client in idle[: len(mine) - MOST_OF_SESSION + 1]:
                _delete(client)
                mine.remove(client)
        if len(mine) >= MOST_OF_SESSION:
            return False
        if len(Client.instances) >= MOST_OF_ALL:
            Client.prune_instances(client_age_threshold=5)
        return len(Client.instances) < MOST_OF_ALL

    def prune(self) -> None:
        """Delete pages whose browser never connected; a slow one reloads by itself."""
        Client.prune_instances(client_age_threshold=20)

    def of(self, session: str) -> list[Client]:
        """The open pages of a session."""
        return [client for client in Client.instances.values() if _owner(client) == session]

    def drop(self, session: str) -> None:
        """Delete all pages of a session, with their timers."""
        for client in self.of(session):
            _delete(client)


def _delete(client: Client) -> None:
    if client.id in Client.instances:
        client.delete()


def _well_formed(name: str, msg: dict[str, Any]) -> bool:
    """True if a message has the form that NiceGUI's own script sends."""
    if name == "event":
        args = msg.get("args", [])
        return (
            type(msg.get("id")) is int
            and isinstance(msg.get("listener_id"), str)
            and isinstance(args, list)
            and len(args) <= 20
            and all(arg is None or isinstance(arg, str) for arg in args)
        )
    if name == "handshake":
        return all(isinstance(msg.get(key), str) for key in ("client_id", "tab_id", "document_id"))
    if name == "ack":
        return type(msg.get("next_message_id")) is int
    if name == "log":
        text = msg.get("message")
        if msg.get("level") not in LEVELS or not isinstance(text, str):
            return False
        msg["message"] = text[:2000].replace("\r", " ").replace("\n", " ")
        return True
    return isinstance(msg.get("request_id"), str)


async def _result(value: Any) -> Any:
    return await value if inspect.isawaitable(value) else value
