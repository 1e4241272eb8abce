"""One exchange with a vendor that must not be repeated, its failures in the words of `Channel.send`."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import httpx

from security.egress import Egress, Policy
from storage.errors import Invalid, OutcomeUnknown, Rejected, TooLarge


async def send_once(
    egress: Egress,
    method: str,
    url: str,
    *,
    policy: Policy,
    headers: Mapping[str, str] | None = None,
    json: object = None,
    content: bytes | None = None,
    written: Callable[[], None] | None = None,
) -> httpx.Response:
    """Send one request and return its answer, whatever its status.

    Raises:
        Unavailable: nothing has left.
        OutcomeUnknown: the request left and no usable answer came.
        Rejected: an address that must not be reached; nothing has left.
    """
    try:
        return await egress.request(
            method, url, policy=policy, headers=headers, json=json, content=content, written=written
        )
    except TooLarge as error:
        raise OutcomeUnknown(error.code, **error.params) from error
    except Invalid as error:
        raise Rejected(error.code, str(error.params.get("host", ""))) from error
