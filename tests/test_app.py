"""Start, drain and stop of a gateway (R370, R373)."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.support.gateways.running import request, running_gateway, until
from tests.support.upstreams.recording import Received, raw_upstream

PUBLIC: tuple[dict[str, Any], ...] = ({"path": "/", "auth": "public"},)
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@pytest.mark.rule("R370", "R373", "C86")
async def test_drain_closes_idle_connections_at_once_and_lets_requests_end(tmp_path: Path) -> None:
    """The running request ends well and its answer says that the connection closes."""
    release = asyncio.Event()

    async def respond(received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        await release.wait()
        return OK

    async with (
        raw_upstream(respond) as upstream,
        running_gateway(upstream.url, tmp_path, routes=PUBLIC) as gateway,
    ):
        idle, busy = await gateway.client(), await gateway.client()
        await busy.send(request(b"GET", "/"))
        await until(lambda: bool(upstream.requests))
        draining = asyncio.ensure_future(gateway.app.drain())
        assert await idle.at_end(within=1)
        ready = await gateway.admin("/readyz")
        assert (ready.status, ready.json["draining"]) == (503, True)
        assert (await gateway.admin("/healthz")).status == 200
        with pytest.raises(ConnectionError):
            await gateway.client()
        release.set()
        response = await busy.response()
        assert (response.body, response.one(b"connection")) == (b"ok", b"close")
        assert await busy.at_end()
        await asyncio.wait_for(draining, 2)


@pytest.mark.rule("R370")
async def test_upload_in_progress_is_finished_during_the_drain(tmp_path: Path) -> None:
    """Content that is still coming in is read to its end."""
    async with raw_upstream() as upstream, running_gateway(upstream.url, tmp_path, routes=PUBLIC) as gateway:
        client = await gateway.client()
        await client.send(request(b"POST", "/", (b"Content-Length", b"6"), body=b"abc"))
        await until(lambda: bool(upstream.requests))
        draining = asyncio.ensure_future(gateway.app.drain())
        await asyncio.sleep(0.05)
        response = await client.exchange(b"def")
        assert response.status == 200
        await asyncio.wait_for(draining, 2)
    assert upstream.requests[0].body == b"abcdef"


@pytest.mark.rule("R370")
async def test_head_that_is_coming_in_is_served_during_the_drain(tmp_path: Path) -> None:
    """A request whose first bytes have arrived is not lost."""
    async with raw_upstream() as upstream, running_gateway(upstream.url, tmp_path, routes=PUBLIC) as gateway:
        client = await gateway.client()
        whole = request(b"GET", "/")
        await client.send(whole[:10])
        await asyncio.sleep(0.05)
        draining = asyncio.ensure_future(gateway.app.drain())
        await asyncio.sleep(0.05)
        response = await client.exchange(whole[10:])
        assert (response.status, response.one(b"connection")) == (200, b"close")
        await asyncio.wait_for(draining, 2)


@pytest.mark.rule("R371")
async def test_endless_stream_is_cut_at_the_end_of_the_drain(tmp_path: Path) -> None:
    """Exit in time, and the client sees that the stream did not end."""

    async def respond(received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
        await reader.read()

    server = {"drain_seconds": 0.2}
    async with (
        raw_upstream(respond) as upstream,
        running_gateway(upstream.url, tmp_path, routes=PUBLIC, server=server) as gateway,
    ):
        client = await gateway.client()
        await client.send(request(b"GET", "/"))
        assert b"abc" in await client.reader.readuntil(b"abc\r\n")
        async with asyncio.timeout(2):
            await gateway.app.drain()
            await gateway.app.stop()
        assert b"0\r\n\r\n" not in await client.reader.read()
        await until(lambda: upstream.open_connections == 0)


async def test_start_that_fails_half_way_leaves_nothing_open(tmp_path: Path) -> None:
    """A port that is taken: the error comes through, refreshers and pools are closed (conftest looks for tasks)."""
    async with raw_upstream() as upstream:
        listen = f"127.0.0.1:{upstream.port}"
        with pytest.raises(OSError, match="in use"):
            async with running_gateway(upstream.url, tmp_path, server={"listen": listen}):
                pass
