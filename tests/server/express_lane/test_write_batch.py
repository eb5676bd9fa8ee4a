"""Writes of one turn of the loop go out together, all of them, in their order."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.server.express_lane.write_batch import MAX_BYTES, MAX_WRITES, WriteBatch
from gateway.tasks import failures
from tests.support.gateways.running import request, running_gateway
from tests.support.upstreams.recording import raw_upstream


@contextlib.asynccontextmanager
async def connections(count: int) -> AsyncIterator[list[tuple[asyncio.Transport, socket.socket]]]:
    """Yield connections, each as a transport and its other end, which does not block."""
    loop = asyncio.get_running_loop()
    made: list[tuple[asyncio.Transport, socket.socket]] = []
    for _ in range(count):
        near, far = socket.socketpair()
        far.setblocking(False)
        transport, _ = await loop.create_connection(asyncio.Protocol, sock=near)
        made.append((transport, far))
    try:
        yield made
    finally:
        for transport, far in made:
            transport.abort()
            far.close()


def arrived(far: socket.socket) -> bytes:
    """Return what stands in a socket."""
    with contextlib.suppress(BlockingIOError):
        return far.recv(10 * MAX_BYTES)
    return b""


async def test_writes_go_out_in_the_next_turn_in_their_order() -> None:
    async with connections(2) as [(one, far), (other, other_far)]:
        batch = WriteBatch(asyncio.get_running_loop())
        batch.add(one, b"a")
        batch.add(other, b"x")
        batch.add(one, b"b")
        assert (arrived(far), arrived(other_far)) == (b"", b"")
        await asyncio.sleep(0)
        assert (arrived(far), arrived(other_far)) == (b"ab", b"x")
        batch.add(one, b"c")
        await asyncio.sleep(0)
        assert arrived(far) == b"c"


async def test_no_more_than_so_much_waits() -> None:
    async with connections(1) as [(one, far)]:
        batch = WriteBatch(asyncio.get_running_loop())
        for _ in range(MAX_WRITES - 1):
            batch.add(one, b"a")
        assert arrived(far) == b""
        batch.add(one, b"a")
        assert arrived(far) == b"a" * MAX_WRITES
        batch.add(one, b"a")
        batch.add(one, b"b" * (MAX_BYTES + 1))
        assert arrived(far) == b"a" + b"b" * (MAX_BYTES + 1)


async def test_connection_that_ended_keeps_no_other_from_its_bytes() -> None:
    async with connections(2) as [(one, _), (other, far)]:
        batch, before = WriteBatch(asyncio.get_running_loop()), failures["writes"]
        batch.add(one, b"a")
        batch.add(other, b"x")
        one.abort()
        await asyncio.sleep(0)
        assert arrived(far) == b"x"
        assert failures["writes"] == before


@pytest.mark.parametrize("data", [b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", b"GET /\r\n\r\n"])
async def test_answer_goes_out_before_its_connection_is_closed(data: bytes, tmp_path: Path) -> None:
    """Behind a request that is refused, and behind bytes that are none."""
    async with raw_upstream() as upstream, running_gateway(upstream.url, tmp_path) as gateway:
        client = await gateway.client()
        answer = await client.exchange(data)
        assert answer.status in (400, 401)
        assert answer.one(b"connection") == b"close"
        assert await client.reader.read() == b""


async def test_pipelined_requests_of_both_lanes_are_answered_in_their_order(tmp_path: Path) -> None:
    """What waits goes out before the connection is handed over, and before the other lane writes."""
    async with raw_upstream() as upstream, running_gateway(upstream.url, tmp_path) as gateway:
        client, good = await gateway.client(), gateway.token()
        chunked = request(b"POST", "/", (b"Transfer-Encoding", b"chunked"), token=good) + b"1\r\nx\r\n0\r\n\r\n"
        many = [request(b"GET", "/"), request(b"GET", "/", token=good), request(b"GET", "/a/../b"), chunked] * 5
        await client.send(b"".join(many))
        statuses = [(await client.response()).status for _ in many]
    assert statuses == [401, 200, 400, 200] * 5
