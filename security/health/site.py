"""What the tests of machine and network look at."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from security.health.echo import Echo
from security.probes.facts import Facts
from storage.errors import AppError
from storage.provision import FileState


@dataclass(frozen=True, kw_only=True, slots=True)
class Remote:
    """A service outside that something here needs. `used_by` names bots and models."""

    url: str
    used_by: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Ports:
    """The metrics port as the process has it. `refusal`: why it is not ours."""

    metrics: int
    listening: bool = False
    refusal: AppError | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Site:
    """Everything around the process.

    Attributes:
        facts: as the security checklist's.
        serving: True in the serving process, False in `doctor`.
        remotes: services that bots and models are set to.
        called: names of bots that a vendor has to reach.
        ports: the metrics port. reopen: tries it again.
        files: state of the files under `config/`.
    """

    facts: Facts
    echo: Echo
    serving: bool
    remotes: Callable[[], Awaitable[Sequence[Remote]]]
    called: Callable[[], Awaitable[Sequence[str]]]
    ports: Callable[[], Ports]
    reopen: Callable[[], Awaitable[None]]
    files: Callable[[], dict[str, FileState]]

    @property
    def public(self) -> str:
        """The name under which others reach us; empty if none is known."""
        names = (*self.facts.addresses.lists.hosts, *self.facts.settings.hosts)
        return names[0] if names else ""
