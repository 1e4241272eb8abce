"""Feishu's side as a process: the tests' fake, telling at once of each message that it was sent.

`python -m benchmarks.parts.vendor`; a connection to the second printed port gets one line a message:
the id of the message that it answers, and the time in seconds at which it was whole.
"""

from __future__ import annotations

import argparse
import asyncio

from tests.fakes.feishu_server import FeishuServer, Sent
from tests.fakes.quick_http import Request, Response, answer


class _Told(list[Sent]):
    """The fake's list of messages, which also tells."""

    def __init__(self) -> None:
        super().__init__()
        self.listeners: set[asyncio.StreamWriter] = set()

    def append(self, sent: Sent) -> None:
        super().append(sent)
        line = f"{sent.to} {sent.at:.6f}\n".encode()
        for writer in self.listeners:
            writer.write(line)


class _Failing(FeishuServer):
    """Answers every so-many-th message with 503 instead of taking it."""

    def __init__(self, every: int) -> None:
        super().__init__()
        self.every, self.posts = every, 0

    def _faulty(self, request: Request) -> Response:
        if self.every and request.method == "POST" and "/im/v1/messages" in request.path:
            self.posts += 1
            if self.posts % self.every == 0:
                return answer({"code": 1, "msg": "busy"}, 503)
        return super()._faulty(request)


async def serve(every: int) -> None:
    """Serve until ended."""
    server, told = _Failing(every), _Told()
    server.messages = told

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        told.listeners.add(writer)
        await reader.read()
        told.listeners.discard(writer)
        writer.close()

    await server.start()
    news = await asyncio.start_server(listen, "127.0.0.1", 0)
    print(f"listening on {server.base} news {news.sockets[0].getsockname()[1]}", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Feishu's side of a benchmark")
    parser.add_argument("--faults", type=float, default=0.0, help="percent of messages answered with 503")
    faults = parser.parse_args().faults
    asyncio.run(serve(round(100 / faults) if faults else 0))
