"""知行 Zhixing: reads settings, builds every part, ties them, serves. `python app.py [serve|doctor|…]`."""

from __future__ import annotations

import sys

if sys.version_info < (3, 11):  # noqa: UP036 - whoever brings their own Python is told, not shown a trace
    sys.exit("知行需要 Python 3.11 或更新版本。 / Zhixing needs Python 3.11 or newer.")

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # two threads wait for each other fifty times as long as one works

import argparse
import asyncio
import json
import logging
import shutil
import signal
import socket
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from security.exposure import Exposure, check_exposure
from security.health.console import plain, report
from security.health.row import HealthRow
from security.tls import uvicorn_options
from storage import migrate, preflight, soundness
from storage.backup.key import read_key
from storage.backup.restore import restore, unfinished
from storage.bundle import write_bundle
from storage.clock import Clock
from storage.crash import CrashPoints
from storage.dispatch import FolderLock
from storage.errors import AppError, Conflict, Unavailable
from storage.logs import Logs
from storage.principal import SYSTEM
from storage.settings import ROOT, VERSION, Settings, read_settings
from storage.words import LANGS, Words

if TYPE_CHECKING:
    from house import House


# The data is not what it was: nothing may write to it.
DAMAGE = ("start.database_damaged", "start.log_missing", "db.damaged")


def build(settings: Settings, words: Words, *, exposure: Exposure, port: int = 0, serving: bool = True) -> House:
    """The whole house. It is imported only by commands that need it: that takes more than a second."""
    from house import House

    return House(settings, words=words, environ=os.environ, exposure=exposure, port=port, serving=serving)


def ready(settings: Settings) -> None:
    """What a command does before it opens the data: look whether it is whole, and bring it to this version."""
    lock = FolderLock(settings.data / "db" / "lock")
    try:
        if lock.free():  # else a server has it open, and has looked
            soundness.look(settings)
    finally:
        lock.release()
    migrate.prepare(settings)


def announce(house: House, code: str) -> None:
    """Tell on the console where to go, and the one-time code until an admin exists."""
    settings = house.settings
    host = "127.0.0.1" if settings.host in ("0.0.0.0", "::", "") else settings.host  # noqa: S104 - shown, not bound
    scheme = "http" if settings.tls_cert is None else "https"
    address = f"{scheme}://{host}:{house.port}"
    lines = ["", f"  知行 Zhixing {VERSION}", f"  打开 / Open:  {address}"]
    if code:
        lines.append(f"  一次性设置码 / One-time setup code:  {code}")
    print("\n".join([*lines, ""]), flush=True)


def serve(settings: Settings, words: Words) -> int:
    """Serve until a signal ends it."""
    preflight.check_data(settings.data)
    preflight.check_space(settings.data)
    preflight.check_config(settings.data)
    if unfinished(settings.data):
        raise Conflict("restore.unfinished", folder=str(settings.data))
    exposure = check_exposure(settings, Clock())
    lock = FolderLock(settings.data / "db" / "lock")
    lock.take()
    sockets = preflight.open_port(settings.host, settings.port)
    logs = Logs(settings.logs_dir, console=sys.stderr, console_level="WARNING")
    logs.start()
    try:
        import uvicorn

        try:
            soundness.look(settings)
            migrate.prepare(settings)
            port = int(sockets[0].getsockname()[1])
            house = build(settings, words, exposure=exposure, port=port)
        except Unavailable as error:
            if error.code not in DAMAGE:
                raise
            return serve_safely(settings, words, error, sockets)
        from door import panel_app
        from routes.listener import bounded

        soundness.begun(settings)
        config = uvicorn.Config(
            panel_app(house, partial(announce, house)),
            http=bounded(house.addresses.trusted),
            ws_max_size=1_100_000,
            ws="websockets-sansio",
            log_level="warning",
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_graceful_shutdown=10,
            lifespan="on",
            **uvicorn_options(settings.tls_cert, settings.tls_key),
        )
        server = uvicorn.Server(config)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, _ended)  # uvicorn raises the signal once more when it has stopped
        server.run(sockets=sockets)
        if server.started:
            soundness.ended(settings)
        return 0 if server.started else 1
    finally:
        logs.stop()
        lock.release()


def serve_safely(settings: Settings, words: Words, error: AppError, sockets: list[socket.socket]) -> int:
    """The database is damaged: touch nothing, say so, and let vendors come again, until somebody has restored it."""
    import uvicorn

    from routes.safe import SafeMode

    print(told(error, words), file=sys.stderr)
    newest = soundness.newest_backup(settings)
    for lang in LANGS:
        key = "safe.backup" if newest else "safe.no_backup"
        print("  " + words.say(lang, key, path=newest), file=sys.stderr, flush=True)
    options = uvicorn_options(settings.tls_cert, settings.tls_key)
    config = uvicorn.Config(SafeMode(error, words), log_level="warning", access_log=False, lifespan="on", **options)
    uvicorn.Server(config).run(sockets=sockets)
    return 1


def _ended(number: int, frame: object) -> None:
    """A signal that has been obeyed already."""


async def create_admin(settings: Settings, words: Words, name: str) -> None:
    """Make an owner from the console; the password is the first line of standard input."""
    password = sys.stdin.readline().rstrip("\r\n")
    ready(settings)
    exposure = Exposure(wide=False, how="loopback")
    house = build(settings, words, exposure=exposure)
    try:
        await house.people.create(SYSTEM, name=name, role="owner", password=password)
    finally:
        house.db.close()


async def create_key(settings: Settings, words: Words, name: str, scopes: Sequence[str], days: int | None) -> None:
    """Make an API key from the console and print it, this once."""
    ready(settings)
    house = build(settings, words, exposure=Exposure(wide=False, how="loopback"))
    try:
        made = await house.keys.create(SYSTEM, name=name, scopes=scopes, days=days)
    finally:
        house.db.close()
    print(made.secret)


async def back_up(settings: Settings, words: Words, *, make_key: bool, to: str) -> None:
    """Make a backup, beside a running server or without one. Prints a new recovery key, this once, and the file."""
    ready(settings)
    house = build(settings, words, exposure=Exposure(wide=False, how="loopback"))
    try:
        await house.keeping.backups.load()
        if make_key:
            print(await house.keeping.backup_settings.make_key(SYSTEM))
        made = await house.keeping.backups.run(SYSTEM, "command")
    finally:
        house.keeping.backups.close()
        await house.background.stop()
        await house.egress.close()
        house.db.close()
    path = settings.backups_dir / made.name
    print(shutil.copy(path, to) if to else path)
    if made.away_error:
        print(told(AppError(made.away_error, path="", reason="", status="", name=made.name), words), file=sys.stderr)


def bring_back(settings: Settings, archive: str) -> None:
    """Restore into the data folder, which must be fresh; the recovery key is the first line of standard input."""
    if sys.stdin.isatty():
        print("恢复密钥 / Recovery key: ", end="", file=sys.stderr, flush=True)
    key = read_key(sys.stdin.readline())
    crash = CrashPoints(settings.crash_at)
    done = restore(Path(archive), key, settings.data, settings.master_key_file, Clock(), reached=crash.reached)
    paused = ", ".join(f"{name} {count}" for name, count in sorted(done.paused.items()))
    print(f"✓ {settings.data}: {done.manifest.rows} rows, {len(done.manifest.files)} files")
    print(f"  已暂停，等待检查 / paused for review: {paused}")


async def rotate_key(settings: Settings, words: Words) -> None:
    """Replace the master key; only without a server, which has its own page for it."""
    lock = FolderLock(settings.data / "db" / "lock")
    lock.take()
    try:
        soundness.look(settings)
        migrate.prepare(settings)
        house = build(settings, words, exposure=Exposure(wide=False, how="loopback"))
        try:
            count = await house.keeping.rotation.rotate(SYSTEM)
        finally:
            house.db.close()
        print(f"✓ {settings.master_key_file}: {count}")
    finally:
        lock.release()


def doctor(settings: Settings, words: Words, *, lang: str, as_json: bool = False, bundle: str = "") -> int:
    """Say what would keep a start from succeeding, then run the health tests, beside a running server or without one.

    Returns 1 if anything is red, else 0.
    """
    if not as_json:
        print(f"知行 Zhixing {VERSION} · Python {sys.version.split()[0]} · {settings.data}")
    lock = FolderLock(settings.data / "db" / "lock") if (settings.data / "db").is_dir() else None
    running = lock is not None and not lock.free()
    found = [error for error in preflight.findings(settings) if not (running and error.code == "start.port_taken")]
    rows: list[HealthRow] = []
    more: dict[str, object] = {}
    try:
        if not running:
            soundness.look(settings)
        if settings.database_url or migrate.revision(settings.db_file) == migrate.revisions()[-1]:
            rows, more = asyncio.run(examine(settings, words))
    except AppError as error:
        found.append(error)
    finally:
        if lock is not None:
            lock.release()
    red = bool(found) or any(row.status == "fail" for row in rows)
    if as_json:
        start = [{"code": error.code, "says": told(error, words)} for error in found]
        print(json.dumps({"ok": not red, "start": start, "tests": plain(words, lang, rows)}, ensure_ascii=False))
    else:
        print("\n".join([*(told(error, words) for error in found), *report(words, lang, rows)]))
        print("\n" + words.say(lang, "health.console.red" if red else "health.console.fine"))
    if bundle:
        write_bundle(settings, Path(bundle), Clock(), found, more)
        print(words.say(lang, "health.console.bundle", path=bundle), file=sys.stderr)
    return 1 if red else 0


async def examine(settings: Settings, words: Words) -> tuple[list[HealthRow], dict[str, object]]:
    """Run the health tests from outside of the serving process. Writes nothing."""
    exposure = check_exposure(settings, Clock())
    house = build(settings, words, exposure=exposure, serving=False)
    try:
        await house.addresses.load()
        await house.router.reload()
        rows = await house.eyes.health.run(SYSTEM)
        return rows, await house.eyes.bundles.gathered(SYSTEM)
    finally:
        await house.background.stop()
        await house.egress.close()
        house.db.close()


def told(error: AppError, words: Words) -> str:
    """A refusal on the console, in both languages, with its remedy."""
    lines = []
    for lang in ("zh_CN", "en"):
        key = f"error.{error.code}"
        what = words.say(lang, key, **error.params) if words.has(lang, key) else str(error)
        remedy = words.say(lang, f"{key}.remedy", **error.params) if words.has(lang, f"{key}.remedy") else ""
        lines.append(f"✗ {what}" + (f"\n  → {remedy}" if remedy else ""))
    return "\n".join(lines)


def main(argv: Sequence[str]) -> int:
    """Run one command. Refusals are told plainly, with a remedy, and end with exit code 1."""
    parser = argparse.ArgumentParser(prog="app.py", description="知行 Zhixing")
    commands = parser.add_subparsers(dest="command")
    for name in ("serve", "version"):
        commands.add_parser(name)
    tests = commands.add_parser("doctor")
    tests.add_argument("--json", action="store_true")
    tests.add_argument("--bundle", default="", metavar="FILE")
    tests.add_argument(
        "--lang", choices=LANGS, default="en" if os.environ.get("LANG", "").startswith("en") else "zh_CN"
    )
    admin = commands.add_parser("create-admin")
    admin.add_argument("--name", required=True)
    key = commands.add_parser("create-key")
    key.add_argument("--name", required=True)
    key.add_argument("--scopes", required=True, nargs="+", help="rights, or '*' for all")
    key.add_argument("--days", type=int, help="until it ends; never, if left out")
    backup = commands.add_parser("backup")
    backup.add_argument("--new-key", action="store_true", help="make the recovery key and print it, this once")
    backup.add_argument("--to", default="", metavar="PLACE", help="a further copy there")
    again = commands.add_parser("restore")
    again.add_argument("file", help="the backup; the recovery key is read from standard input")
    commands.add_parser("rotate-key")
    args = parser.parse_args(argv)
    words = Words(ROOT / "assets" / "locale")
    logging.captureWarnings(True)
    if args.command == "version":
        print(VERSION)
        return 0
    try:
        settings = read_settings()
        if args.command == "doctor":
            return doctor(settings, words, lang=args.lang, as_json=args.json, bundle=args.bundle)
        if args.command == "create-admin":
            asyncio.run(create_admin(settings, words, args.name))
            return 0
        if args.command == "create-key":
            scopes = [scope for text in args.scopes for scope in text.replace(",", " ").split()]
            asyncio.run(create_key(settings, words, args.name, scopes, args.days))
            return 0
        if args.command == "backup":
            asyncio.run(back_up(settings, words, make_key=args.new_key, to=args.to))
            return 0
        if args.command == "restore":
            bring_back(settings, args.file)
            return 0
        if args.command == "rotate-key":
            asyncio.run(rotate_key(settings, words))
            return 0
        return serve(settings, words)
    except AppError as error:
        print(told(error, words), file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
