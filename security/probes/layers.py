"""All controls of the checklist, in the order of the five layers."""

from __future__ import annotations

from security.checklist import Check
from security.probes import application, data, network, operations, transport
from security.probes.facts import Facts

CHECKS: tuple[Check[Facts], ...] = (
    *network.CHECKS,
    *transport.CHECKS,
    *application.CHECKS,
    *data.CHECKS,
    *operations.CHECKS,
)
