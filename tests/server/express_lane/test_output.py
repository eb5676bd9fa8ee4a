"""The way out to the client: waiting while it takes nothing, and the end of the connection."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import cast

import pytest

from gateway.server.aiohttp_lane.listener import Listener
from gateway.server.express_lane.output import ClientOutput
from gateway.server.express_lane.write_batch import WriteBatch
from gateway.server.pipeline.runner import Serving
from gateway.server.sockets.stalled_client import CHECKS_PER_TIMEOUT
from tests.support.clock import settle
from tests.support.gateways.running import running_gateway, until
from tests.support.loop_side import Timers

MUCH = b"x" * 400_000


class Wired(ClientOutput):
    """The sending half with just as much of a receiving half as a transport needs."""

    lost = paused = False

    def __init__(self, serving: Serving, listener: Listener, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(serving, listener, loop, WriteBatch(loop))
        self.listener = listener

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def pause_writing(self) -> None:
        self.paused = True
        self._output_paused()

    def resume_writing(self) -> None:
        self.paused = False
        self._output_resumed()

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        self._stop_watch()
        self._output_lost()

    def close(self) -> None:
        self._close()


@contextlib.asynccontextmanager
async def wired(directory: Path, seconds: float = 30) -> AsyncIterator[tuple[Wired, socket.socket]]:
    """Yield the sending half and the client's socket; both ends hold little."""
    server = {"response_write_timeout_seconds": seconds}
    async with running_gateway("http://127.0.0.1:9", directory, server=server) as gateway:
        near, far = socket.socketpair()
        near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        far.setblocking(False)
        app, loop = gateway.app, asyncio.get_running_loop()
        transport, output = await loop.create_connection(
            lambda: Wired(app.express.serving, app.listener, loop), sock=near
        )
        try:
            yield output, far
        finally:
            transport.abort()
            far.close()
            await until(lambda: output.lost)


async def read(far: socket.socket, size: int) -> bytes:
    loop, data = asyncio.get_running_loop(), b""
    while len(data) < size and (piece := await loop.sock_recv(far, 65536)):
        data += piece
    return data


async def test_write_waits_until_the_client_has_taken_enough(tmp_path: Path) -> None:
    async with wired(tmp_path) as (output, far):
        writing = asyncio.ensure_future(output.write(MUCH))
        await until(lambda: output.paused)
        await settle()
        assert not writing.done()
        assert await read(far, len(MUCH)) == MUCH
        await writing
        await output.write(b"more")
        assert await read(far, 4) == b"more"


async def test_send_does_not_wait(tmp_path: Path) -> None:
    async with wired(tmp_path) as (output, far):
        output.send(MUCH)
        output.send(b"!")
        assert (await read(far, len(MUCH) + 1)).endswith(b"x!")


async def test_waiting_writer_is_told_that_the_client_left(tmp_path: Path) -> None:
    async with wired(tmp_path) as (output, far):
        writing = asyncio.ensure_future(output.write(MUCH))
        await until(lambda: output.paused)
        await settle()
        far.close()
        with pytest.raises(ConnectionResetError):
            await asyncio.wait_for(writing, 5)


async def test_nothing_is_written_once_the_connection_is_gone(tmp_path: Path) -> None:
    async with wired(tmp_path) as (output, _):
        assert not output.gone
        output.abort()
        assert output.gone
        with pytest.raises(ConnectionResetError):
            await output.write(b"x")
        await until(lambda: output.lost)
        with pytest.raises(ConnectionResetError):
            await output.write(b"x")
        output.send(b"x")
        output.abort()
        output.close()
        assert output.gone


async def test_close_lets_the_client_have_what_was_sent(tmp_path: Path) -> None:
    async with wired(tmp_path) as (output, far):
        output.send(MUCH)
        output.close()
        assert output.gone
        assert await read(far, len(MUCH) + 1) == MUCH
        assert not output.stalled


@pytest.mark.parametrize("closing", [True, False])
@pytest.mark.rule("R317")
async def test_client_that_takes_nothing_is_cut_off(closing: bool, tmp_path: Path) -> None:
    """Also when the connection is closed already but for what is still to be sent."""
    async with wired(tmp_path, seconds=0.2) as (output, _):
        output.send(MUCH)
        if closing:
            output.close()
        await until(lambda: output.lost)
        assert output.stalled


async def test_watch_ends_when_the_client_reads_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with wired(tmp_path, seconds=31.5) as (output, far):
        timers, between = Timers(monkeypatch), 31.5 / CHECKS_PER_TIMEOUT
        output.send(MUCH)
        assert output.paused
        assert timers.stopped(between) == [False]
        await read(far, len(MUCH))
        await until(lambda: not output.paused)
        assert timers.stopped(between) == [True]


async def test_connection_is_kept_unless_the_gateway_is_on_its_way_out(tmp_path: Path) -> None:
    async with wired(tmp_path) as (output, _):
        assert (output.keep_alive, output.draining) == (True, False)
        output.listener.draining = True
        assert (output.keep_alive, output.draining) == (False, True)


@pytest.mark.rule("R286", "R426")
async def test_broken_response_ends_behind_what_was_sent(tmp_path: Path) -> None:
    """What the log counts reaches the client."""
    async with wired(tmp_path) as (output, far):
        output.send(MUCH)
        output.without_end(True)
        output.break_off(unread=False)
        assert output.gone
        assert await read(far, len(MUCH) + 1) == MUCH
        output.break_off(unread=False)
