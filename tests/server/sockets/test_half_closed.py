"""A client that has ended its sending is kept until it turns out to have left."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from typing import cast

import pytest

from gateway.http1.plain_response import CONTINUE
from gateway.server.sockets import half_closed
from gateway.server.sockets.half_closed import HalfClosed, was_reset
from tests.support.gateways.running import until


class Socket:
    """A socket that knows whether it was reset."""

    reset = 0

    def getsockopt(self, *_: int) -> int:
        return self.reset


class Transport:
    """A connection: whether it was cut, what was sent, and what waits in it."""

    def __init__(self) -> None:
        self.cut = False
        self.waiting = 0
        self.looks = 0
        self.sent = b""
        self.socket = Socket()

    def abort(self) -> None:
        self.cut = True

    def get_write_buffer_size(self) -> int:
        return self.waiting

    def get_extra_info(self, name: str) -> Socket:
        self.looks += 1
        return self.socket

    def write(self, data: bytes) -> None:
        self.sent += data


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(half_closed, "ASK_SECONDS", 0.02)
    monkeypatch.setattr(half_closed, "RESET_SECONDS", 0.01)


@pytest.mark.parametrize("kind", ["sent", "waits", "may be asked"])
@pytest.mark.rule("R285")
async def test_client_is_kept_while_nothing_says_that_it_has_left(kind: str) -> None:
    """Sent something, or asked once, it would have reset the connection."""
    transport, pieces = Transport(), 0
    watch = HalfClosed(cast(asyncio.Transport, transport), lambda: pieces, lambda: kind == "may be asked")
    pieces, transport.waiting = (kind == "sent"), 5 * (kind == "waits")
    await until(lambda: transport.looks == 1)
    transport.waiting = 0
    await until(lambda: transport.looks == 5)
    assert (transport.cut, transport.sent) == (False, CONTINUE if kind == "may be asked" else b"")
    transport.socket.reset = 32  # EPIPE
    await until(lambda: transport.cut)
    watch.stop()


@pytest.mark.rule("R285")
async def test_client_that_is_sent_nothing_and_cannot_be_asked_is_cut() -> None:
    """Whether it has left does not come out."""
    transport = Transport()
    HalfClosed(cast(asyncio.Transport, transport), lambda: 0, lambda: False)
    await until(lambda: transport.cut)
    assert (transport.looks, transport.sent) == (1, b"")


async def test_nothing_is_cut_once_it_is_stopped() -> None:
    transport = Transport()
    HalfClosed(cast(asyncio.Transport, transport), lambda: 0, lambda: False).stop()
    await asyncio.sleep(0.06)
    assert not transport.cut


@pytest.fixture
async def connection() -> AsyncIterator[tuple[asyncio.Transport, socket.socket]]:
    """A connection over TCP whose client has ended its sending: the server's end, and the client's."""
    made: asyncio.Queue[asyncio.Transport] = asyncio.Queue()

    class Server(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport = cast(asyncio.Transport, transport)

        def eof_received(self) -> bool:
            made.put_nowait(self.transport)
            return True

    server = await asyncio.get_running_loop().create_server(Server, "127.0.0.1", 0)
    client = socket.create_connection(server.sockets[0].getsockname())
    client.shutdown(socket.SHUT_WR)
    transport = await asyncio.wait_for(made.get(), 5)
    yield transport, client
    transport.abort()
    client.close()
    server.close()


@pytest.mark.rule("R285")
async def test_reset_is_seen_though_nothing_is_read(connection: tuple[asyncio.Transport, socket.socket]) -> None:
    """Neither event loop reports it by itself, once the client has ended its sending."""
    transport, client = connection
    transport.write(b"a")
    assert client.recv(1) == b"a"
    assert not was_reset(transport)
    client.close()
    transport.write(b"b")
    await until(lambda: was_reset(transport))


async def test_connection_that_is_closed_already_counts_as_reset(
    connection: tuple[asyncio.Transport, socket.socket],
) -> None:
    transport, _ = connection
    transport.abort()
    await until(lambda: was_reset(transport))
