"""A recording upstream on a port of its own that a test switches on and off.

While it is off, its port refuses connections and belongs to no other process.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator

from tests.support.upstreams.recording import RawUpstream, Responder


class Service:
    """A service that comes and goes; ``upstream`` records what it gets."""

    def __init__(self, respond: Responder | None = None) -> None:
        self.upstream = RawUpstream(respond)
        self._server: asyncio.Server | None = None
        self._socket = _bound(0)
        self.upstream.port = self._socket.getsockname()[1]

    @property
    def url(self) -> str:
        return self.upstream.url

    async def on(self) -> None:
        """Accept connections."""
        self._server = await asyncio.start_server(self.upstream.serve, sock=self._socket, limit=1 << 20)

    def off(self) -> None:
        """Refuse connections; those that are open stay."""
        if self._server is not None:
            self._server.close()
            self._server = None
            self._socket.close()
            self._socket = _bound(self.upstream.port)

    def close(self) -> None:
        if self._server is not None:
            self._server.close()
        self._socket.close()


@contextlib.asynccontextmanager
async def services(count: int, *, on: bool = True, respond: Responder | None = None) -> AsyncIterator[list[Service]]:
    """Run some services, all on or all off at first."""
    made = [Service(respond) for _ in range(count)]
    try:
        for service in made:
            if on:
                await service.on()
        yield made
    finally:
        for service in made:
            service.close()


def _bound(port: int) -> socket.socket:
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.bind(("127.0.0.1", port))
    return made
