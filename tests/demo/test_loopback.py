"""``gateway/demo/loopback.py``: what listens, and what is left when it cannot."""

from __future__ import annotations

import socket

import pytest
from aiohttp import ClientSession, web

from gateway.demo.loopback import LoopbackServer


class Hello(LoopbackServer):
    """Says hello."""

    url = ""

    async def start(self) -> None:
        self.url = await self._listen()

    def _make_runner(self) -> web.BaseRunner:
        async def hello(request: web.BaseRequest) -> web.Response:
            return web.Response(text="hello")

        return web.ServerRunner(web.Server(hello))


async def test_it_serves_on_loopback_until_it_is_left() -> None:
    async with Hello() as server, ClientSession() as client:
        assert server.url.startswith("http://127.0.0.1:")
        async with client.get(server.url) as answer:
            assert await answer.text() == "hello"
    port = int(server.url.rpartition(":")[2])
    with pytest.raises(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port), timeout=1):
        pass


async def test_a_taken_port_is_an_error_and_nothing_is_left_running() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        server = Hello(taken.getsockname()[1])
        with pytest.raises(OSError, match="in use"):
            await server.start()
        await server.stop()
        assert server.url == ""
