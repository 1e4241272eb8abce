"""Named points at which a test kills the process (`ZHIXING_CRASH_AT=<point>[:n]`). They do nothing otherwise."""

from __future__ import annotations

import os
import signal

# In the order of a message's way. tests/crash runs every one of them.
POINTS = (
    "accept.before",  # verified, not yet written
    "accept.committed",  # written, not yet acknowledged
    "job.claimed",  # acknowledged and claimed, nothing done
    "model.streaming",  # in the middle of a model's answer
    "model.answered",  # answer complete, step not recorded
    "tool.before",  # tool call recorded as started, not run
    "tool.after",  # tool ran, result not recorded
    "reply.before",  # answer known, not committed
    "outbox.committed",  # answer committed, not sent
    "send.before",  # marked as sending, request not written
    "send.answered",  # vendor answered, receipt not recorded
    "delivered",  # receipt recorded
)

# Of what keeps the data: tests/crash/test_keeping.py.
KEEPING = (
    "backup.copied",  # the database's copy is made
    "backup.written",  # the archive stands, its row does not say so
    "backup.recorded",
    "restore.extracting",  # in the middle of a file
    "restore.verified",
    "restore.paused",
    "restore.marked",  # whole, nothing moved
    "restore.moving",  # some parts moved
    "migrate.copied",
    "migrate.run",
    "migrate.proved",
    "migrate.kept",  # the old database has its second name
    "migrate.replaced",
    "rotate.written",  # the next key stands beside the old one
    "rotate.sealed",  # everything is sealed with the next key
    "rotate.replaced",
)


class CrashPoints:
    """Counts visits of one named point and kills the process at the n-th."""

    def __init__(self, spec: str = "") -> None:
        point, _, count = spec.partition(":")
        self._point, self._left = point, int(count) if count.isdigit() else 1

    def reached(self, point: str) -> None:
        """Call at the point. Costs one comparison when not armed."""
        if point != self._point:
            return
        self._left -= 1
        if self._left <= 0:
            os.kill(os.getpid(), signal.SIGKILL)
