"""Who acts, and what they may do. Rights come from the server's own records, never from a client."""

from __future__ import annotations

from dataclasses import dataclass, field

from storage.errors import Denied

TENANT = "main"

_MEMBER = {"chat.use", "memory.own", "account.own"}
_OPERATOR = _MEMBER | {
    "overview.view",
    "trace.view",
    "bot.view",
    "model.view",
    "schedule.view",
    "schedule.run",
    "task.manage",
    "health.view",
    "log.view",
    "delivery.resend",
    "message.send",
    "approval.decide",
    "skill.view",
    "knowledge.manage",
}
_AUDITOR = _MEMBER | {
    "overview.view",
    "trace.view",
    "bot.view",
    "model.view",
    "schedule.view",
    "audit.view",
    "security.view",
    "health.view",
    "log.view",
    "skill.view",
    "backup.view",
    "people.view",
}
_ADMIN = (
    _OPERATOR
    | _AUDITOR
    | {
        "bot.manage",
        "model.manage",
        "schedule.manage",
        "memory.manage",
        "skill.manage",
        "people.manage",
        "security.manage",
        "backup.manage",
        "server.manage",
        "setting.manage",
        "key.manage",
    }
)
_OWNER = _ADMIN | {"owner.manage"}

ROLES: dict[str, frozenset[str]] = {
    "owner": frozenset(_OWNER),
    "admin": frozenset(_ADMIN),
    "operator": frozenset(_OPERATOR),
    "auditor": frozenset(_AUDITOR),
    "member": frozenset(_MEMBER),
    "setup": frozenset({"setup.run"}),  # the one-time code: may create the first admin and nothing else
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Principal:
    """A person, API key or scheduled job for the length of one call.

    Attributes:
        id: stable id, e.g. `user:3`, `key:7`, `job:12`; written into the audit log.
        tenant: the only tenant whose rows this principal can see.
        session: id of the panel session, where there is one.
        lang: `zh_CN` or `en`.
    """

    id: str
    tenant: str
    name: str
    role: str
    rights: frozenset[str]
    session: str | None = None
    ip: str | None = None
    lang: str = "zh_CN"
    scopes: frozenset[str] = field(default_factory=frozenset)

    def may(self, right: str) -> bool:
        """True if the right is held."""
        return right in self.rights

    def require(self, right: str) -> None:
        """Raise `Denied` unless the right is held."""
        if right not in self.rights:
            raise Denied("right.missing", right=right)


def principal(
    *,
    id: str,
    name: str,
    role: str,
    tenant: str = TENANT,
    session: str | None = None,
    ip: str | None = None,
    lang: str = "zh_CN",
) -> Principal:
    """A principal with all rights of its role; an unknown role has none."""
    rights = ROLES.get(role, frozenset())
    return Principal(id=id, tenant=tenant, name=name, role=role, rights=rights, session=session, ip=ip, lang=lang)


SYSTEM = Principal(id="system", tenant=TENANT, name="system", role="owner", rights=ROLES["owner"])
