"""Feishu's side as a process: the tests' fake, telling at once of each message that it was sent.

`python -m benchmarks.parts.vendor`; a connection to the second printed port gets one line a message:
the id of the message that it answers, and the time in seconds at which it was whole.
"""

from __future__ import annotations

import asyncio

from tests.fakes.feishu_server import FeishuServer, Sent


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


async def serve() -> None:
    """Serve until ended."""
    server, told = FeishuServer(), _Told()
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
    asyncio.run(serve())
