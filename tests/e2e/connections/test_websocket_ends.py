"""How WebSockets end: limits, slow readers, drains, vanished sides."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from tests.support.clients.websockets import (
    HANDSHAKE,
    PUBLIC,
    SWITCHING,
    SocketUpstream,
    close_of,
    dial,
    open_and_wait,
    shake,
    socket_upstream,
)
from tests.support.gateways.running import request, running_gateway, until
from tests.support.socket_buffers import MIB, most_buffered
from tests.support.upstreams.recording import Received, raw_upstream


@pytest.mark.rule("R326", "C64")
async def test_message_over_the_limit_ends_both_sides_and_one_at_the_limit_does_not(tmp_path: Path) -> None:
    """1009; whichever side sends it, in one frame or in many."""
    routes = ({"path": "/", "auth": "public", "websocket_max_message_bytes": 100_000},)

    async def oblige(connection: ServerConnection) -> None:
        async for message in connection:
            await connection.send(bytes(int(message)) if isinstance(message, str) else f"{len(message)}")

    async with (
        socket_upstream(oblige, compression=None, max_size=None) as upstream,
        running_gateway(upstream.url, tmp_path, routes=routes) as gateway,
    ):
        options: dict[str, Any] = {"compression": None, "max_size": None}
        async with dial(gateway, **options) as client:
            await client.send(bytes(100_000))
            assert await client.recv() == "100000"
            await client.send("100000")
            assert len(await client.recv()) == 100_000
            await client.send(bytes(100_001))
            assert await close_of(client) == (1009, "message too large")
        async with dial(gateway, **options) as client:
            await client.send("100001")
            assert await close_of(client) == (1009, "message too large")
        async with dial(gateway, **options) as client:
            with contextlib.suppress(ConnectionClosed):
                await client.send(bytes(1000) for _ in range(101))
            assert await close_of(client) == (1009, "message too large")
        await until(lambda: len(upstream.ends) == 3)
        log = await gateway.log(3)
    assert upstream.ends == [(1009, "message too large")] * 3
    assert [(line["reason"], line["outcome"]) for line in log] == [("too_large", "refused")] * 3


@pytest.mark.rule("R326")
async def test_limit_of_zero_is_none(tmp_path: Path) -> None:
    routes = ({"path": "/", "auth": "public", "websocket_max_message_bytes": 0},)
    options: dict[str, Any] = {"compression": None, "max_size": None}
    async with (
        socket_upstream(**options) as upstream,
        running_gateway(upstream.url, tmp_path, routes=routes) as gateway,
        dial(gateway, **options) as client,
    ):
        await client.send(bytes(70 * MIB))
        assert len(await client.recv()) == 70 * MIB


@pytest.mark.parametrize("slow", ["client", "upstream"])
@pytest.mark.rule("R326", "C64")
async def test_slow_reader_holds_the_other_side_back(slow: str, tmp_path: Path) -> None:
    """What is not read stays with its sender; then everything arrives."""
    total, frame = most_buffered(2) + 8 * MIB, b"\x82\x7e\xff\xf4" + bytes(0xFFF4)
    go = asyncio.Event()
    sent = 0

    async def pour(writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        while sent < total:
            writer.write(frame)
            await writer.drain()
            sent += len(frame)

    async def drink(reader: asyncio.StreamReader) -> int:
        taken = 0
        while taken < sent or sent < total:
            taken += len(await asyncio.wait_for(reader.read(1 << 18), 10))
        return taken

    async def respond(received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(SWITCHING)
        if slow == "client":
            await pour(writer)
        else:
            await go.wait()
            taken.append(await drink(reader))
        await reader.read()

    taken: list[int] = []
    async with raw_upstream(respond) as upstream, running_gateway(upstream.url, tmp_path, routes=PUBLIC) as gateway:
        client, _ = await shake(gateway)
        pouring = asyncio.ensure_future(pour(client.writer)) if slow == "upstream" else None
        before = -1
        while sent != before:  # until it does not move any more
            before = sent
            await asyncio.sleep(0.3)
        assert 0 < sent < total  # what the kernel's buffers hold, and little in the gateway
        (open_tunnel,) = gateway.app.websockets.tunnels
        for side in (open_tunnel.client, open_tunnel.upstream):
            assert side.transport.get_write_buffer_size() < MIB
        go.set()
        if pouring is None:
            taken.append(await drink(client.reader))
        else:
            await pouring
            await until(lambda: bool(taken), within=10)
    assert taken[0] == sent >= total


@pytest.mark.rule("R326")
async def test_client_that_takes_nothing_is_given_up_as_for_a_response(tmp_path: Path) -> None:
    """`response_write_timeout_seconds`; a tunnel that is only silent is not touched."""

    async def respond(received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(SWITCHING)
        if received.target == b"/pour":
            with contextlib.suppress(ConnectionError):
                while True:
                    writer.write(b"\x82\x7e\x10\x00" + bytes(4096))
                    await writer.drain()
        await reader.read()

    server = {"response_write_timeout_seconds": 0.4}
    async with (
        raw_upstream(respond) as upstream,
        running_gateway(upstream.url, tmp_path, routes=PUBLIC, server=server) as gateway,
    ):
        await shake(gateway, "/silent")
        client, _ = await shake(gateway, "/pour")
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await until(lambda: upstream.open_connections == 1)
        log = await gateway.log()
        assert (log[0]["path"], log[0]["reason"]) == ("/pour", "client_stalled")
        assert gateway.app.telemetry.tunnels == 1


@pytest.mark.parametrize("how", ["reset", "close"])
@pytest.mark.parametrize("side", ["client", "upstream"])
@pytest.mark.rule("R326")
async def test_side_that_vanishes_frees_the_other_within_a_second(side: str, how: str, tmp_path: Path) -> None:
    """No close frame, no goodbye."""
    gone = asyncio.Event()

    async def respond(received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(SWITCHING)
        if side == "upstream":
            await gone.wait()
            if how == "reset":
                writer.transport.abort()
        else:
            await reader.read()

    async with raw_upstream(respond) as upstream, running_gateway(upstream.url, tmp_path, routes=PUBLIC) as gateway:
        client, _ = await shake(gateway)
        gone.set()
        if side == "client" and how == "reset":
            client.writer.transport.abort()
        elif side == "client":
            client.writer.close()
        else:
            assert await client.at_end(within=1)
        await until(lambda: upstream.open_connections == 0 and gateway.app.telemetry.tunnels == 0, within=1)
        await until(lambda: gateway.app.telemetry.connections == 0, within=1)
        assert (await gateway.log())[0]["reason"] == f"{side}_closed"
        in_use = (await gateway.admin("/status")).json["upstreams"]["main"]["urls"][0]["in_use"]
    assert in_use == 0


@pytest.mark.rule("R326")
async def test_side_that_has_said_goodbye_can_still_read_the_other_ones(tmp_path: Path) -> None:
    """A half-closed connection passes as it is."""

    async def respond(received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(SWITCHING)
        assert await reader.read() == b"\x88\x82\0\0\0\0\x03\xe8"
        writer.write(b"\x81\x04last\x88\x02\x03\xe8")

    async with raw_upstream(respond) as upstream, running_gateway(upstream.url, tmp_path, routes=PUBLIC) as gateway:
        client, _ = await shake(gateway)
        await client.send(b"\x88\x82\0\0\0\0\x03\xe8")
        client.half_close()
        assert await asyncio.wait_for(client.reader.read(), 2) == b"\x81\x04last\x88\x02\x03\xe8"
        await until(lambda: upstream.open_connections == 0, within=1)
        assert (await gateway.log())[0]["reason"] == "client_closed"


@pytest.mark.rule("R324", "R326")
async def test_client_that_leaves_before_the_upstream_answers_frees_it(tmp_path: Path) -> None:
    async def respond(received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with raw_upstream(respond) as upstream, running_gateway(upstream.url, tmp_path, routes=PUBLIC) as gateway:
        client = await gateway.client()
        await client.send(request(b"GET", "/", *HANDSHAKE))
        await asyncio.wait_for(upstream.got_request.wait(), 5)
        await client.close()
        await until(lambda: upstream.open_connections == 0, within=1)
        assert (await gateway.log())[0]["outcome"] == "client_gone"


async def drained(gateway: Any, client: ClientConnection, upstream: SocketUpstream) -> None:
    """Drain, and see the tunnel closed for that."""
    await gateway.app.drain()
    assert await close_of(client, within=1) == (1001, "the gateway is stopping")
    await until(lambda: upstream.ends == [(1001, "the gateway is stopping")], within=1)


@pytest.mark.rule("R370")
async def test_drain_leaves_tunnels_their_time_and_then_says_goodbye(tmp_path: Path) -> None:
    """1001 at the end of `drain_seconds`; no new ones meanwhile."""
    async with (
        socket_upstream() as upstream,
        running_gateway(upstream.url, tmp_path, server={"drain_seconds": 0.5}) as gateway,
    ):
        kept = await gateway.client()
        token = gateway.token()
        async with dial(gateway, token=token) as client:
            answer = asyncio.ensure_future(kept.exchange(request(b"GET", "/", *HANDSHAKE, token=token)[:-2]))
            await asyncio.sleep(0.05)
            draining = asyncio.ensure_future(drained(gateway, client, upstream))
            await asyncio.sleep(0.05)
            await kept.send(b"\r\n")
            refused = await answer
            await client.send("still here")
            assert await client.recv() == "still here"
            await draining
        log = await gateway.log(2)
    assert (refused.status, refused.json["error"]) == (503, "unavailable")
    assert [(line["reason"], line["status"], line["outcome"]) for line in log] == [
        ("drained", 503, "failed"),
        ("drained", 101, "failed"),
    ]


@pytest.mark.rule("R370", "R371")
async def test_tunnel_whose_ends_say_nothing_does_not_hold_up_the_stop(tmp_path: Path) -> None:
    """Cut off; the log says why."""
    async with raw_upstream(open_and_wait) as upstream:
        async with running_gateway(upstream.url, tmp_path, routes=PUBLIC) as gateway:
            client, _ = await shake(gateway)
            await gateway.app.stop()
            assert await client.at_end(within=1)
            log = await gateway.log()
        await until(lambda: upstream.open_connections == 0, within=1)
    assert (log[0]["reason"], log[0]["outcome"]) == ("drained", "failed")
