"""Clients that send or read so slowly that they only hold connections (R317)."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
from pathlib import Path
from typing import Any

import pytest
from aiohttp.streams import StreamReader

from tests.support.gateways.running import RunningGateway, request, running_gateway, until
from tests.support.upstreams.recording import Received, raw_upstream

PUBLIC: tuple[dict[str, Any], ...] = ({"path": "/", "auth": "public"},)
CHUNKED = (b"Transfer-Encoding", b"chunked")
SLOW = {"request_body_timeout_seconds": 0.3}


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(request(b"POST", "/", (b"Content-Length", b"10"), body=b"abc"), id="length"),
        pytest.param(request(b"POST", "/", (b"Content-Length", b"10")), id="nothing"),
        pytest.param(request(b"POST", "/", (b"Content-Length", b"1000000"), body=b"abc"), id="large"),
        pytest.param(request(b"POST", "/", CHUNKED, body=b"3\r\nabc\r\n"), id="chunked"),
        pytest.param(request(b"POST", "/", CHUNKED, body=b"3\r\nabc\r\n5;"), id="inside a line"),
        pytest.param(request(b"POST", "/", (b"Content-Length", b"3"), (b"Expect", b"100-continue")), id="expect"),
    ],
)
@pytest.mark.rule("R317")
async def test_content_that_stops_coming_is_408_and_aborts_the_upstream_request(data: bytes, tmp_path: Path) -> None:
    """The upstream never has a complete request; the connection is closed."""
    async with (
        raw_upstream() as upstream,
        running_gateway(upstream.url, tmp_path, routes=PUBLIC, server=SLOW) as gateway,
    ):
        client = await gateway.client()
        await client.send(data)
        response = await client.response()
        if response.status == 100:
            response = await client.response()
        assert (response.status, response.json["error"]) == (408, "request_timeout")
        assert response.one(b"connection") == b"close"
        assert await client.at_end()
        await until(lambda: upstream.open_connections == 0)
        log = await gateway.log()
    assert log[0]["reason"] == "body_timeout"
    assert not any(received.complete for received in upstream.requests)


@pytest.mark.rule("R317")
async def test_content_that_comes_slowly_but_steadily_is_served(tmp_path: Path) -> None:
    """The limit is on the time until the next piece, not on the whole."""
    async with (
        raw_upstream() as upstream,
        running_gateway(upstream.url, tmp_path, routes=PUBLIC, server=SLOW) as gateway,
    ):
        client = await gateway.client()
        await client.send(request(b"POST", "/", (b"Content-Length", b"8")))
        for number in range(8):
            await asyncio.sleep(0.1)
            await client.send(b"%d" % number)
        assert (await client.response()).status == 200
    assert upstream.requests[0].body == b"01234567"


@pytest.mark.rule("R317")
async def test_response_that_has_begun_is_cut_when_content_stops_coming(tmp_path: Path) -> None:
    """A second answer would be taken for a part of the first."""

    async def respond(received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nearly\r\n")
        await reader.read()

    async with (
        raw_upstream(respond, early=True) as upstream,
        running_gateway(upstream.url, tmp_path, routes=PUBLIC, server=SLOW) as gateway,
    ):
        client = await gateway.client()
        await client.send(request(b"POST", "/", CHUNKED, body=b"3\r\nabc\r\n"))
        response = await client.response()
        assert (response.status, response.complete) == (200, False)
        log = await gateway.log()
    assert (log[0]["reason"], log[0]["status"]) == ("body_timeout", 200)


async def test_zero_waits_for_content_as_long_as_it_takes(tmp_path: Path) -> None:
    server = {"request_body_timeout_seconds": 0}
    async with (
        raw_upstream() as upstream,
        running_gateway(upstream.url, tmp_path, routes=PUBLIC, server=server) as gateway,
    ):
        client = await gateway.client()
        await client.send(request(b"POST", "/", (b"Content-Length", b"6"), body=b"abc"))
        await asyncio.sleep(0.5)
        assert (await client.exchange(b"def")).status == 200


async def endless(received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await send_chunks(writer, b"10000")


async def endless_with_extensions(
    received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    """Answer in a way that aiohttp's parser reads in either lane."""
    await send_chunks(writer, b"10000;a=b")


async def send_chunks(writer: asyncio.StreamWriter, size_line: bytes) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    piece = size_line + b"\r\n" + b"x" * 65536 + b"\r\n"
    while True:
        writer.write(piece)
        await writer.drain()


def unread(gateway: RunningGateway, data: bytes) -> socket.socket:
    """Send a request and read nothing; the kernel holds little for this client."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.setblocking(True)
    client.connect(("127.0.0.1", gateway.app.port))
    client.sendall(data)
    client.setblocking(False)
    return client


@pytest.mark.parametrize("version", [b"HTTP/1.1", b"HTTP/1.0"])
@pytest.mark.rule("R317")
async def test_client_that_does_not_read_is_cut_off_and_frees_the_upstream(version: bytes, tmp_path: Path) -> None:
    """Its connections and the memory between them are given back."""
    server = {"response_write_timeout_seconds": 0.4}
    async with (
        raw_upstream(endless) as upstream,
        running_gateway(upstream.url, tmp_path, routes=PUBLIC, server=server) as gateway,
    ):
        with unread(gateway, request(b"GET", "/").replace(b"HTTP/1.1", version)):
            await until(lambda: bool(upstream.requests))
            await until(lambda: upstream.open_connections == 0)
            log = await gateway.log()
            await until(lambda: gateway.app.telemetry.connections == 0)
        assert gateway.app.upstreams["main"].origins[0].state().in_use == 0
    assert (log[0]["reason"], log[0]["outcome"], log[0]["status"]) == ("client_stalled", "client_gone", 200)


@pytest.mark.rule("R429")
async def test_what_a_client_did_not_read_is_not_kept_when_it_has_left(tmp_path: Path) -> None:
    """In the express lane an exception kept it until garbage was collected: 25 MB after fifty clients."""

    def kept() -> int:
        """Return how many bytes wait to be read; and leave garbage where it is."""
        found = [one for one in gc.get_objects() if isinstance(one, StreamReader)]
        return sum(getattr(reader, "_size", 0) for reader in found)

    async with (
        raw_upstream(endless_with_extensions) as upstream,
        running_gateway(upstream.url, tmp_path, routes=PUBLIC) as gateway,
    ):
        gc.collect()
        before = kept()
        gc.disable()
        try:
            with unread(gateway, request(b"GET", "/")):
                await until(lambda: kept() > before)
                await until(lambda: any(origin.state().in_use for origin in gateway.app.upstreams["main"].origins))
            await until(lambda: gateway.app.telemetry.connections == 0)
            await gateway.settled()
            assert kept() <= before
        finally:
            gc.enable()


@pytest.mark.rule("R317")
async def test_response_with_a_length_that_nobody_reads_is_cut_off(tmp_path: Path) -> None:
    """The plain kind of response, too."""

    async def respond(received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        body = b"x" * (16 * 1024 * 1024)
        return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body

    server = {"response_write_timeout_seconds": 0.4}
    async with (
        raw_upstream(respond) as upstream,
        running_gateway(upstream.url, tmp_path, routes=PUBLIC, server=server) as gateway,
    ):
        with unread(gateway, request(b"GET", "/")):
            log = await gateway.log()
            await until(lambda: gateway.app.telemetry.connections == 0)
    assert log[0]["reason"] == "client_stalled"


@pytest.mark.rule("R317")
async def test_client_that_reads_slowly_is_served(tmp_path: Path) -> None:
    """A kilobyte at a time, for longer than the limit."""
    server = {"response_write_timeout_seconds": 0.4}
    async with (
        raw_upstream(endless) as upstream,
        running_gateway(upstream.url, tmp_path, routes=PUBLIC, server=server) as gateway,
    ):
        with unread(gateway, request(b"GET", "/")) as client:
            await until(lambda: bool(upstream.requests))
            for _ in range(15):
                await asyncio.sleep(0.08)
                assert client.recv(2048)
            assert upstream.open_connections == 1


async def _pour(client: socket.socket, data: bytes) -> None:
    """Send data over and over, until the gateway ends the connection."""
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(30):
        with contextlib.suppress(ConnectionError):
            while True:
                await loop.sock_sendall(client, data)


@pytest.mark.rule("R317")
async def test_refusals_that_nobody_reads_do_not_pile_up(tmp_path: Path) -> None:
    """Pipelined requests whose answers are never taken are held back, then cut off."""
    server = {"response_write_timeout_seconds": 0.4}
    async with running_gateway("http://127.0.0.1:1", tmp_path, server=server) as gateway:
        with unread(gateway, b"") as client:
            await _pour(client, request(b"GET", "/") * 100)
            await until(lambda: gateway.app.telemetry.connections == 0)


@pytest.mark.rule("R282", "R317")
async def test_responses_that_nobody_reads_do_not_pile_up(tmp_path: Path) -> None:
    """Each response is smaller than what is held back at once; all together are not."""

    async def respond(received: Received, *_: object) -> bytes:
        return b"HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n" + b"x" * 60000

    server = {"response_write_timeout_seconds": 0.4}
    async with (
        raw_upstream(respond) as upstream,
        running_gateway(upstream.url, tmp_path, routes=PUBLIC, server=server) as gateway,
    ):
        with unread(gateway, b"") as client:
            await _pour(client, request(b"GET", "/") * 100)
            await until(lambda: gateway.app.telemetry.connections == 0)
    assert len(upstream.requests) < 300  # what the kernel's buffers hold, and no more
