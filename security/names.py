"""Looks up names for the egress client: off the event loop, once for all who ask together, kept for seconds."""

from __future__ import annotations

import asyncio
import socket
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from storage.errors import Unavailable

Resolver = Callable[[str, int], Awaitable[Sequence[str]]]

NAME_SECONDS = 10.0


class Names:
    """A short-lived, bounded cache over a resolver (the platform's unless another is given)."""

    def __init__(self, resolver: Resolver | None = None) -> None:
        self._resolver = resolver or self._system
        self._known: OrderedDict[tuple[str, int], tuple[float, asyncio.Future[Sequence[str]]]] = OrderedDict()
        self._pool = ThreadPoolExecutor(4, thread_name_prefix="dns")

    def close(self) -> None:
        """End the threads; look-ups under way are not waited for."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def find(self, host: str, port: int) -> Sequence[str]:
        """The addresses of a name; those who ask together share one look-up.

        Raises:
            Unavailable: `egress.dns`.
        """
        loop = asyncio.get_running_loop()
        entry = self._known.get((host, port))
        if entry is None or entry[0] < loop.time() or (entry[1].done() and not _good(entry[1])):
            future: asyncio.Future[Sequence[str]] = loop.create_future()
            self._known[(host, port)] = (loop.time() + NAME_SECONDS, future)
            while len(self._known) > 1000:
                self._known.popitem(last=False)
            try:
                found = await self._resolver(host, port)
                future.set_result(tuple(found))
            except (OSError, UnicodeError) as error:
                future.set_exception(error)
                _ = future.exception()
            except BaseException:
                future.cancel()
                raise
        else:
            future = entry[1]
        try:
            addresses = await asyncio.shield(future)
        except (OSError, UnicodeError) as error:
            raise Unavailable("egress.dns", host=host) from error
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if future.cancelled() and (task is None or not task.cancelling()):
                raise Unavailable("egress.dns", host=host) from None  # who asked first was cancelled
            raise
        if not addresses:
            raise Unavailable("egress.dns", host=host)
        return addresses

    async def _system(self, host: str, port: int) -> Sequence[str]:
        def look() -> list[str]:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            return list(dict.fromkeys(str(item[4][0]) for item in found))

        return await asyncio.get_running_loop().run_in_executor(self._pool, look)


def _good(future: asyncio.Future[Sequence[str]]) -> bool:
    return not future.cancelled() and future.exception() is None
