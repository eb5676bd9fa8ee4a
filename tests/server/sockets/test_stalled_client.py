"""A client that takes nothing is given up; one that takes little is not (R317)."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable

import pytest

from gateway.server.sockets.stalled_client import CHECKS_PER_TIMEOUT, UnsentWatch, outstanding
from tests.support.gateways.running import until

MUCH = b"x" * 400_000


class Sender(asyncio.Protocol):
    """Notes the end of its connection."""

    lost = False

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True


@contextlib.asynccontextmanager
async def connection() -> AsyncIterator[tuple[asyncio.WriteTransport, Sender, socket.socket]]:
    """Yield one end as the loop has it, and the other as a socket that is not read; both hold little."""
    near, far = socket.socketpair()
    near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    far.setblocking(False)
    transport, protocol = await asyncio.get_running_loop().create_connection(Sender, sock=near)
    try:
        yield transport, protocol, far
    finally:
        transport.abort()
        far.close()
        await asyncio.sleep(0)


async def test_nothing_is_watched_while_nothing_waits() -> None:
    """The usual case costs no timer."""
    async with connection() as (transport, _, _):
        watch = UnsentWatch(10)
        watch.start(transport)
        watch.start(None)
        assert not watch.watching


@pytest.mark.rule("R317")
async def test_a_client_that_takes_nothing_is_cut_off() -> None:
    async with connection() as (transport, sender, _):
        transport.write(MUCH)
        watch = UnsentWatch(0.2)
        watch.start(transport)
        began = asyncio.get_running_loop().time()
        await until(lambda: sender.lost)
        assert 0.15 < asyncio.get_running_loop().time() - began < 2
        assert watch.stalled


@pytest.mark.rule("R317")
async def test_a_connection_that_waits_to_be_closed_is_cut_off_too() -> None:
    """What the client does not take would keep a closed connection open indefinitely."""
    async with connection() as (transport, sender, _):
        transport.write(MUCH)
        watch = UnsentWatch(0.2)
        watch.start(transport)
        transport.close()
        await until(lambda: sender.lost)
        assert watch.stalled


@pytest.mark.rule("R317")
async def test_a_client_that_takes_little_is_served() -> None:
    """A byte now and then is a slow line, not an attack."""
    async with connection() as (transport, sender, far):
        transport.write(MUCH)
        watch = UnsentWatch(0.4)
        watch.start(transport)
        for _ in range(12):
            await asyncio.sleep(0.1)
            far.recv(4000)
        assert not sender.lost
        assert not watch.stalled
        watch.stop()


async def test_the_watch_ends_when_everything_is_taken() -> None:
    async with connection() as (transport, sender, far):
        transport.write(MUCH)
        watch = UnsentWatch(0.1)
        watch.start(transport)
        taken = 0
        while taken < len(MUCH):
            await asyncio.sleep(0)
            with contextlib.suppress(BlockingIOError):
                taken += len(far.recv(65536))
        await until(lambda: not watch.watching)
        assert not sender.lost


async def test_the_time_counts_from_the_last_byte_that_was_taken() -> None:
    async with connection() as (transport, sender, far):
        transport.write(MUCH)
        watch = UnsentWatch(0.4)
        watch.start(transport)
        await asyncio.sleep(0.3)
        far.recv(65536)
        await asyncio.sleep(0.25)
        assert not sender.lost
        await until(lambda: sender.lost)


async def test_zero_is_no_limit() -> None:
    async with connection() as (transport, _, _):
        transport.write(MUCH)
        watch = UnsentWatch(0)
        watch.start(transport)
        assert not watch.watching


async def test_a_watch_that_was_stopped_can_begin_anew() -> None:
    async with connection() as (transport, sender, _):
        transport.write(MUCH)
        watch = UnsentWatch(0.1)
        watch.start(transport)
        watch.stop()
        watch.stop()
        await asyncio.sleep(0.15 + 0.1 / CHECKS_PER_TIMEOUT)
        assert not sender.lost
        watch.start(transport)
        await until(lambda: sender.lost)


async def test_what_the_kernel_holds_is_counted() -> None:
    """Its buffers are large: a slow client empties them long before memory is touched."""
    async with connection() as (transport, _, far):
        transport.write(MUCH)
        await asyncio.sleep(0)
        before = outstanding(transport)
        assert before[0] > 0
        assert before[1] > 0
        far.recv(1)
        assert outstanding(transport)[0] <= before[0]


def closed(_: str) -> socket.socket:
    found = socket.socket()
    found.close()
    return found


@pytest.mark.parametrize("info", [lambda name: None, closed])
async def test_a_system_that_cannot_tell_counts_nothing(info: Callable[[str], object]) -> None:
    class Transport(asyncio.WriteTransport):
        def get_write_buffer_size(self) -> int:
            return 5

        def get_extra_info(self, name: str, default: object = None) -> object:
            return info(name)

    assert outstanding(Transport()) == (5, 0)
