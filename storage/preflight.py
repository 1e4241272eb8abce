"""What is checked before the process serves: data folder, disk space, port. Each refusal has a remedy.

`doctor` runs the same checks. Nothing here needs the database or the event loop.
"""

from __future__ import annotations

import errno
import os
import shutil
import socket
import tempfile
from collections.abc import Callable
from pathlib import Path

from storage.errors import AppError, Conflict, Invalid, Unavailable
from storage.settings import Settings

LEAST_FREE_MB = 200
BACKLOG = 2048


def check_data(folder: Path) -> None:
    """Make the data folder if it is missing and prove that it can be written.

    Raises:
        Invalid: `start.data_not_folder`.
        Unavailable: `start.data_unwritable`, `start.disk_full`.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        # a trial: permissions do not tell of a read-only disk or a volume of another user
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"zhixing")
            file.flush()
            os.fsync(file.fileno())
    except (FileExistsError, NotADirectoryError) as error:
        raise Invalid("start.data_not_folder", field="ZHIXING_DATA", folder=str(folder)) from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise Unavailable("start.disk_full", folder=str(folder), free=0, need=LEAST_FREE_MB) from error
        reason = error.strerror or type(error).__name__
        raise Unavailable("start.data_unwritable", folder=str(folder), uid=os.geteuid(), reason=reason) from error


def check_space(folder: Path, need_mb: int = LEAST_FREE_MB) -> None:
    """Refuse to start where the disk is about to be full: a database that cannot write loses what it is told.

    Raises:
        Unavailable: `start.disk_full`.
    """
    free = shutil.disk_usage(folder).free // 1_048_576
    if free < need_mb:
        raise Unavailable("start.disk_full", folder=str(folder), free=free, need=need_mb)


def open_port(host: str, port: int) -> list[socket.socket]:
    """Bind and listen; the server takes the sockets over, so nobody can take the port in between.

    Args:
        host: address or name; `localhost` may give two sockets.
        port: 0 lets the system choose one.

    Raises:
        Conflict: `start.port_taken` (`holder` names the program where it can be known).
        Invalid: `start.host_unknown`, `start.port_denied`.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise Invalid("start.host_unknown", field="ZHIXING_HOST", host=host) from error
    sockets: list[socket.socket] = []
    missing: OSError | None = None
    try:
        for family, kind, protocol, _, address in dict.fromkeys(found):
            try:
                sockets.append(_listen(family, kind, protocol, address))
            except OSError as error:
                # a name with an IPv6 address on a machine without IPv6 still works by its other address
                if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                    raise
                missing = error
        if not sockets:
            raise Invalid("start.host_unknown", field="ZHIXING_HOST", host=host) from missing
    except (OSError, Invalid) as error:
        for made in sockets:
            made.close()
        raise _refusal(error, port) from error
    return sockets


def _listen(family: int, kind: int, protocol: int, address: tuple[object, ...]) -> socket.socket:
    made = socket.socket(family, kind, protocol)
    try:
        # a restart must not wait for the old connections to time out
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        made.bind(address)
        made.listen(BACKLOG)
        made.setblocking(False)
    except OSError:
        made.close()
        raise
    return made


def _refusal(error: OSError | Invalid, port: int) -> AppError:
    if isinstance(error, Invalid):
        return error
    if error.errno in (errno.EACCES, errno.EPERM):
        return Invalid("start.port_denied", field="ZHIXING_PORT", port=port)
    return Conflict("start.port_taken", port=port, holder=holder_of(port) or "?")


def holder_of(port: int) -> str:
    """`name (pid)` of the process that listens on a port; empty where the system does not tell."""
    import psutil

    try:
        listening = [c for c in psutil.net_connections("tcp") if c.status == "LISTEN"]
        pids = {c.pid for c in listening if getattr(c.laddr, "port", 0) == port}
        names = [f"{psutil.Process(pid).name()} (pid {pid})" for pid in sorted(p for p in pids if p)]
    except (psutil.Error, OSError):
        return ""
    return ", ".join(names)


def check_config(folder: Path) -> None:
    """`zhixing.env` holds settings and may hold secrets: nobody else may read it.

    Raises:
        Invalid: `start.env_open`.
    """
    path = folder / "zhixing.env"
    if path.is_file() and path.stat().st_mode & 0o077:
        raise Invalid("start.env_open", field="zhixing.env", path=str(path))


def findings(settings: Settings) -> list[AppError]:
    """All that would keep a start from succeeding, or is unsafe, for `doctor`. Opens the port and lets go of it."""

    def port() -> None:
        for made in open_port(settings.host, settings.port):
            made.close()

    checks: list[Callable[[], None]] = [
        lambda: check_data(settings.data),
        lambda: check_space(settings.data),
        lambda: check_config(settings.data),
        port,
    ]
    found: list[AppError] = []
    for check in checks:
        try:
            check()
        except AppError as error:
            found.append(error)
        except OSError as error:  # the folder vanished between two checks
            where, reason = str(settings.data), error.strerror or ""
            found.append(Unavailable("start.data_unwritable", folder=where, uid=os.geteuid(), reason=reason))
    return found
