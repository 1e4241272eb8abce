"""The least that a route can cost here: Starlette reads a body and answers. `python -m benchmarks.parts.bare`."""

from __future__ import annotations

import socket

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route


async def take(request: Request) -> Response:
    """Answer as the webhook does."""
    await request.body()
    return Response(b"{}", media_type="application/json")


def main() -> None:
    """Serve on a free port and print the address."""
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    sock.listen(1024)
    print(f"listening on http://127.0.0.1:{sock.getsockname()[1]}", flush=True)
    config = uvicorn.Config(Starlette(routes=[Route("/", take, methods=["POST"])]), log_level="warning")
    uvicorn.Server(config).run(sockets=[sock])


if __name__ == "__main__":
    main()
