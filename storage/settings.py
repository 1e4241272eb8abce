"""What the environment and `zhixing.env` may set. One model is default, check and reference."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from storage.errors import Invalid

VERSION = "0.1.0"
ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """The process's own settings; everything else lives in the database and is edited in the panel.

    Attributes:
        data: folder of everything that must be kept.
        host: address to listen on.
        port: port of panel, webhooks and API.
        metrics_port: port of Prometheus metrics on loopback; 0 switches it off.
        setup_code: fixes the one-time code of the first run; empty makes a random one.
        key_file: master key, outside the data folder; none means the platform's usual configuration folder.
        database_url: PostgreSQL address; empty means SQLite in the data folder.
        files: folder of uploads and workspaces, where several machines share one; default: `files` in the data folder.
        allow_local_vendors: tests only: vendor addresses may be on loopback and without TLS.
        crash_at: tests only: `point[:n]`, kill the process there the n-th time.
        tls_cert: certificate chain to serve TLS with; `tls_key` is its key.
        hosts: names that the panel answers to, beside addresses and local names.
        proxies: addresses and ranges of reverse proxies whose forwarding headers are believed.
        accept_plain: an admin accepts that a wider listener is served without encryption; recorded in the audit log.
    """

    data: Path
    host: str = "127.0.0.1"
    port: int = 18789
    metrics_port: int = 9090
    setup_code: str = ""
    key_file: Path | None = None
    database_url: str = ""
    files: Path | None = None
    allow_local_vendors: bool = False
    crash_at: str = ""
    embedder: str = "auto"
    tls_cert: Path | None = None
    tls_key: Path | None = None
    hosts: tuple[str, ...] = ()
    proxies: tuple[str, ...] = ()
    accept_plain: bool = False

    @property
    def config_dir(self) -> Path:
        return self.data / "config"

    @property
    def db_file(self) -> Path:
        return self.data / "db" / "zhixing.db"

    @property
    def files_dir(self) -> Path:
        return self.files or self.data / "files"

    @property
    def index_dir(self) -> Path:
        return self.data / "index"

    @property
    def backups_dir(self) -> Path:
        return self.data / "backups"

    @property
    def logs_dir(self) -> Path:
        return self.data / "logs"

    @property
    def master_key_file(self) -> Path:
        """`key_file`, or `zhixing/<data folder's name>.key` in the user's configuration folder."""
        if self.key_file is not None:
            return self.key_file
        base = os.environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
        return Path(base) / "zhixing" / "master.key"


def _file_values(path: Path) -> dict[str, str]:
    values: dict[str, str] = {}
    if path.is_file():
        for line in path.read_text(encoding="utf-8").splitlines():
            text = line.strip()
            if text and not text.startswith("#") and "=" in text:
                key, _, value = text.partition("=")
                values[key.strip()] = value.strip().strip("'\"")
    return values


def _port(values: Mapping[str, str], name: str, default: int) -> int:
    text = values.get(name, "")
    if not text:
        return default
    if not text.isdigit() or not 0 <= int(text) <= 65535:
        raise Invalid("settings.port", field=name, value=text)
    return int(text)


def _path(values: Mapping[str, str], name: str) -> Path | None:
    text = values.get(name, "")
    return Path(text).expanduser().absolute() if text else None


def _list(values: Mapping[str, str], name: str) -> tuple[str, ...]:
    return tuple(item for item in values.get(name, "").replace(",", " ").split() if item)


def read_settings(environ: Mapping[str, str] | None = None) -> Settings:
    """Read the environment, then `zhixing.env` in the data folder for what the environment leaves open.

    Raises:
        Invalid: a value that cannot be used; `field` is the variable's name.
    """
    env = dict(os.environ if environ is None else environ)
    data = Path(env.get("ZHIXING_DATA") or "data").expanduser().absolute()
    values = {**_file_values(data / "zhixing.env"), **{k: v for k, v in env.items() if v}}
    return Settings(
        data=data,
        host=values.get("ZHIXING_HOST", "127.0.0.1"),
        port=_port(values, "ZHIXING_PORT", 18789),
        metrics_port=_port(values, "ZHIXING_METRICS_PORT", 9090),
        setup_code=values.get("ZHIXING_SETUP_CODE", ""),
        key_file=_path(values, "ZHIXING_KEY_FILE"),
        database_url=values.get("DATABASE_URL", ""),
        files=_path(values, "ZHIXING_FILES"),
        allow_local_vendors=values.get("ZHIXING_ALLOW_LOCAL_VENDORS", "") == "1",
        crash_at=values.get("ZHIXING_CRASH_AT", ""),
        embedder=values.get("ZHIXING_EMBEDDER", "auto"),
        tls_cert=_path(values, "ZHIXING_TLS_CERT"),
        tls_key=_path(values, "ZHIXING_TLS_KEY"),
        hosts=_list(values, "ZHIXING_HOSTS"),
        proxies=_list(values, "ZHIXING_PROXIES"),
        accept_plain=values.get("ZHIXING_ACCEPT_PLAIN", "") == "1",
    )
