"""The chapter on servers, made for one domain and system: firewall, security group, certificate, nginx, service.

Every file starts from the one in `deploy/`, which works as it stands for example.com; only names are put in.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from ipaddress import ip_network
from pathlib import Path

from security.addresses import Addresses, Lists
from storage.errors import Invalid
from storage.principal import Principal
from storage.settings import ROOT

SYSTEMS = ("debian", "rhel")
WAYS = ("systemd", "compose", "kubernetes")
DOMAIN = re.compile(r"(?!-)[a-z0-9-]{1,63}(?<!-)(\.(?!-)[a-z0-9-]{1,63}(?<!-))+")
LOCAL = ("127.0.0.1", "::1")


@dataclass(frozen=True, kw_only=True, slots=True)
class Wishes:
    """What an admin tells.

    Attributes:
        domain: name under which people and vendors reach the panel.
        way: `systemd`, `compose` or `kubernetes`. system: `debian` (also Ubuntu) or `rhel` (also its relatives).
        admin_from: address range that may use SSH; empty: every address, with keys only.
        port: of the program, behind nginx.
    """

    domain: str
    way: str = "systemd"
    system: str = "debian"
    admin_from: str = ""
    port: int = 18789


@dataclass(frozen=True, kw_only=True, slots=True)
class Made:
    """A text to be copied. `place`: the file it goes into; empty for commands."""

    name: str
    text: str
    place: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Rule:
    """One line of a cloud's security group. `source` empty: everybody."""

    port: str
    source: str
    why: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """One step, with what proves it: ids of checks of the security checklist."""

    name: str
    made: Sequence[Made]
    checks: Sequence[str]
    rules: Sequence[Rule] = ()


def read_wishes(domain: str, way: str, system: str, admin_from: str, port: int) -> Wishes:
    """What was typed, made clean.

    Raises:
        Invalid: `server.domain`, `server.way`, `server.system`, `server.admin_from`.
    """
    name = domain.strip().lower().removeprefix("https://").removeprefix("http://").rstrip("/.")
    try:
        name = name.encode("idna").decode() if not name.isascii() else name
    except UnicodeError as error:
        raise Invalid("server.domain", "domain") from error
    if not DOMAIN.fullmatch(name) or len(name) > 253 or name.replace(".", "").isdigit():
        raise Invalid("server.domain", "domain")
    if way not in WAYS:
        raise Invalid("server.way", "way")
    if system not in SYSTEMS:
        raise Invalid("server.system", "system")
    source = admin_from.strip()
    if source:
        try:
            source = str(ip_network(source, strict=False))
        except ValueError as error:
            raise Invalid("server.admin_from", "admin_from") from error
    return Wishes(domain=name, way=way, system=system, admin_from=source, port=port)


def steps(wishes: Wishes, deploy: Path = ROOT / "deploy") -> list[Step]:
    """All steps in their order."""
    made = [
        Step(
            name="firewall", made=[_firewall(wishes)], rules=_rules(wishes), checks=("network.bind", "network.sockets")
        ),
    ]
    if wishes.way == "kubernetes":
        made.append(
            Step(name="service", made=[_kubernetes(wishes, deploy)], checks=("operations.rights", "data.key_file"))
        )
        made.append(Step(name="believe", made=(), checks=("network.proxies", "transport.cookies")))
    else:
        made += [
            Step(
                name="service",
                made=_service(wishes, deploy),
                checks=("operations.rights", "data.key_file", "data.modes"),
            ),
            Step(name="certificate", made=[_certificate(wishes)], checks=("transport.certificate",)),
            Step(
                name="nginx",
                made=[_nginx(wishes, deploy)],
                checks=("transport.https", "transport.versions", "transport.remembered"),
            ),
            Step(name="believe", made=(), checks=("network.proxies", "transport.headers", "transport.cookies")),
        ]
    host = ("data.disk", "operations.clock", "operations.patches", "network.floods")
    made.append(Step(name="host", made=[_host(wishes)], checks=host))
    made.append(Step(name="rest", made=(), checks=("application.totp", "data.backup", "operations.audit")))
    return made


def _firewall(w: Wishes) -> Made:
    if w.system == "debian":
        ssh = (
            f"sudo ufw allow from {w.admin_from} to any port 22 proto tcp" if w.admin_from else "sudo ufw limit 22/tcp"
        )
        lines = [
            "sudo apt-get install -y ufw",
            "sudo ufw default deny incoming",
            ssh,
            "sudo ufw allow 80/tcp",
            "sudo ufw allow 443/tcp",
            "sudo ufw --force enable",
            "sudo ufw status verbose",
        ]
    else:
        rich = (
            f'--add-rich-rule=\'rule family="{_family(w)}" source address="{w.admin_from}" service name="ssh" accept\''
        )
        lines = [
            "sudo dnf install -y firewalld && sudo systemctl enable --now firewalld",
            f"sudo firewall-cmd --permanent {rich}"
            if w.admin_from
            else "sudo firewall-cmd --permanent --add-service=ssh",
            *(["sudo firewall-cmd --permanent --remove-service=ssh"] if w.admin_from else []),
            "sudo firewall-cmd --permanent --add-service=http --add-service=https",
            "sudo firewall-cmd --reload",
            "sudo firewall-cmd --list-all",
        ]
    return Made(name="commands", text="\n".join(lines))


def _family(w: Wishes) -> str:
    return "ipv6" if ":" in w.admin_from else "ipv4"


def _rules(w: Wishes) -> list[Rule]:
    """The same for the cloud's own firewall. The program's and the metrics' ports stay closed: nginx is in front."""
    return [
        Rule(port="22", source=w.admin_from, why="ssh"),
        Rule(port="80", source="", why="redirect"),
        Rule(port="443", source="", why="panel"),
    ]


def _certificate(w: Wishes) -> Made:
    tool = "apt-get" if w.system == "debian" else "dnf"
    root = "/var/www/html" if w.system == "debian" else "/usr/share/nginx/html"
    lines = [
        f"sudo {tool} install -y nginx certbot",
        "sudo systemctl enable --now nginx",
        f"sudo certbot certonly --webroot -w {root} -d {w.domain} --deploy-hook 'systemctl reload nginx'",
        "sudo certbot renew --dry-run",
    ]
    return Made(name="commands", text="\n".join(lines))


def _nginx(w: Wishes, deploy: Path) -> Made:
    text = (deploy / "nginx.conf").read_text("utf-8").replace("example.com", w.domain)
    text = text.replace("/etc/ssl/zhixing/fullchain.pem", f"/etc/letsencrypt/live/{w.domain}/fullchain.pem")
    text = text.replace("/etc/ssl/zhixing/privkey.pem", f"/etc/letsencrypt/live/{w.domain}/privkey.pem")
    if w.system == "rhel":
        text = text.replace("/var/www/html", "/usr/share/nginx/html")
    text = text.replace("127.0.0.1:18789", f"127.0.0.1:{w.port}")
    return Made(name="nginx", text=text, place="/etc/nginx/conf.d/zhixing.conf")


def _service(w: Wishes, deploy: Path) -> list[Made]:
    if w.way == "compose":
        text = (deploy / "compose.yaml").read_text("utf-8")
        text = text.replace("127.0.0.1:18789:18789", f"127.0.0.1:{w.port}:18789")
        text = text.replace("${ZHIXING_HOSTS:-}", f"${{ZHIXING_HOSTS:-{w.domain}}}")
        return [Made(name="compose", text=text, place="deploy/compose.yaml")]
    text = (deploy / "systemd" / "zhixing.service").read_text("utf-8")
    if w.port != 18789:
        text = text.replace("StateDirectory=zhixing\n", f"Environment=ZHIXING_PORT={w.port}\nStateDirectory=zhixing\n")
    commands = [
        line.lstrip("# ").partition("     #")[0].rstrip() for line in text.splitlines() if line.startswith("#   ")
    ]
    return [
        Made(name="service", text=text, place="/etc/systemd/system/zhixing.service"),
        Made(name="commands", text="\n".join(commands)),
    ]


def _kubernetes(w: Wishes, deploy: Path) -> Made:
    text = (deploy / "kubernetes" / "zhixing.yaml").read_text("utf-8").replace("example.com", w.domain)
    return Made(name="kubernetes", text=text, place="zhixing.yaml")


def _host(w: Wishes) -> Made:
    if w.system == "debian":
        lines = [
            "sudo apt-get install -y unattended-upgrades",
            "sudo dpkg-reconfigure -f noninteractive unattended-upgrades",
        ]
    else:
        lines = ["sudo dnf install -y dnf-automatic", "sudo systemctl enable --now dnf-automatic-install.timer"]
    lines += ["sudo timedatectl set-ntp true", "timedatectl show -p NTPSynchronized", "lsblk -o NAME,TYPE,MOUNTPOINT"]
    return Made(name="commands", text="\n".join(lines))


async def believe(addresses: Addresses, who: Principal, wishes: Wishes) -> None:
    """Let the program answer to the domain and believe the nginx on this machine. Right: server.manage. Repeatable.

    Raises:
        As `Addresses.save`.
    """
    who.require("server.manage")
    old: Lists = addresses.lists
    hosts = tuple(dict.fromkeys((wishes.domain, *old.hosts)))
    proxies = tuple(dict.fromkeys((*old.proxies, *(LOCAL if wishes.way != "kubernetes" else ()))))
    if (hosts, proxies) != (old.hosts, old.proxies):
        await addresses.save(who, replace(old, hosts=hosts, proxies=proxies), from_ip=who.ip or "")
