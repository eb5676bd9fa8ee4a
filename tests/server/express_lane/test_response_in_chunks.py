"""Responses in chunks in the express lane: passed on as they come, and left to the parser where they are odd."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from gateway.server.express_lane.connection import ExpressConnection
from gateway.tasks import running
from gateway.upstream.pool.connection import UpstreamConnection
from tests.support.gateways.running import request, running_gateway, until
from tests.support.loop_side import Arrivals
from tests.support.upstreams.recording import OK, Received, raw_upstream

pytestmark = pytest.mark.rule("R281", "R301")

OPTIONS: dict[str, Any] = {"routes": ({"path": "/", "auth": "public"},), "server": {"express": True}}
HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
MANY = b"1\r\na\r\n" * 500


class Steps:
    """An upstream that answers ``/`` at once; else it sends the next piece when a test says so."""

    def __init__(self) -> None:
        self.pieces = asyncio.Queue[bytes | None]()

    async def respond(
        self, received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bytes | None:
        if received.target == b"/":
            return OK
        while piece := await self.pieces.get():
            writer.write(piece)
            await writer.drain()
        return piece


def has_task() -> bool:
    """Whether a task serves a request of this lane."""
    return any(task.get_name() == "express request" for task in running())


@pytest.mark.parametrize(
    ("pieces", "shown", "task"),
    [
        pytest.param([HEAD + b"3\r\nabc\r\n0\r\n\r\n"], [b"3\r\nabc\r\n0\r\n\r\n"], False, id="at once"),
        pytest.param([HEAD, b"3\r\nabc\r\n", b"0\r\n\r\n"], [b"", b"3\r\nabc\r\n", b"0\r\n\r\n"], False, id="apart"),
        pytest.param(
            [HEAD + b"5\r\nab", b"cde\r\n3\r\n", b"fgh"],
            [b"2\r\nab\r\n", b"3\r\ncde\r\n", b"3\r\nfgh\r\n"],
            False,
            id="a chunk in pieces",
        ),
        pytest.param([HEAD + b"1\r\na\r\n2\r\nbc\r\n"], [b"3\r\nabc\r\n"], False, id="two in a piece are one"),
        pytest.param([HEAD, b"1", b"\r\nx", b"\r\n", b"0\r\n"], [b"", b"", b"1\r\nx\r\n", b"", b""], False, id="bytes"),
        pytest.param([HEAD, b"1\r\nx\r\n", b"1;a\r\ny\r\n"], [b"", b"1\r\nx\r\n", b"1\r\ny\r\n"], True, id="odd"),
        pytest.param([HEAD + b"1;a\r\nx\r\n"], [b"1\r\nx\r\n"], True, id="odd at once"),
    ],
)
@pytest.mark.rule("R302")
async def test_each_piece_is_passed_on_when_it_comes(
    pieces: list[bytes], shown: list[bytes], task: bool, tmp_path: Path
) -> None:
    """In the callback that brings it, unless the chunks are odd; the end ends it, and the connection serves on."""
    steps = Steps()
    async with raw_upstream(steps.respond) as upstream, running_gateway(upstream.url, tmp_path, **OPTIONS) as gateway:
        client = await gateway.client()
        assert (await client.exchange(request(b"GET", "/"))).status == 200
        await client.send(request(b"GET", "/a"))
        async with asyncio.timeout(5):
            for number, (piece, expected) in enumerate(zip(pieces, shown, strict=True)):
                await until(steps.pieces.empty)
                steps.pieces.put_nowait(piece)
                if not number:
                    head = await client.reader.readuntil(b"\r\n\r\n")
                    assert head.endswith(b" GMT\r\n\r\n")
                    assert b"\r\nTransfer-Encoding: chunked\r\n" in head
                if expected:
                    assert await client.reader.readexactly(len(expected)) == expected
            if not shown[-1].endswith(b"0\r\n\r\n"):
                assert has_task() is task
                end = {b"fgh": b"\r\n0\r\n\r\n", b"0\r\n": b"\r\n"}.get(pieces[-1], b"0\r\n\r\n")
                steps.pieces.put_nowait(end)
                assert await client.reader.readexactly(5) == b"0\r\n\r\n"
        steps.pieces.put_nowait(b"")
        assert (await client.exchange(request(b"GET", "/"))).body == b"ok"
        line = (await gateway.log(3))[1]
        content = b"".join(shown).replace(b"\r\n", b"")
        assert line["bytes_out"] == sum(letter >= ord("a") for letter in content)
        assert (line["outcome"], line["status"]) == ("forwarded", 200)
        assert line["upstream_ms"] >= 0
        assert not gateway.app.listener.connections
    assert upstream.connections == 1


@pytest.mark.parametrize(
    ("pieces", "connections"),
    [
        pytest.param([HEAD, b"3\r\nabc\r\n0\r\n\r\nPOISON"], 2, id="behind the end"),
        pytest.param(
            [HEAD + b"3\r\nabc\r\n", b"0\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nPOISON"], 2, id="response"
        ),
        pytest.param([HEAD + b"3;a\r\nabc\r\n", b"0\r\n\r\nPOISON"], 2, id="odd at once"),
        pytest.param([HEAD + b"3\r\nabc\r\n", b"0;a\r\n\r\nPOISON"], 2, id="odd later"),
        pytest.param([HEAD + b"3\r\nabc\r\n", b"0;a\r\n\r\n"], 1, id="odd and clean"),
        pytest.param([HEAD + b"3\r\nabc\r\n", b"0\r\nX-A: b\r\n\r\n"], 1, id="trailer"),
        pytest.param([HEAD + b"3\r\nabc\r\n", b"0\r\n\r\n"], 1, id="clean"),
    ],
)
@pytest.mark.rule("R302")
async def test_what_is_behind_the_end_goes_to_no_client(pieces: list[bytes], connections: int, tmp_path: Path) -> None:
    """And its connection serves no further request; after a clean end it does."""
    steps = Steps()
    async with raw_upstream(steps.respond) as upstream, running_gateway(upstream.url, tmp_path, **OPTIONS) as gateway:
        client = await gateway.client()
        assert (await client.exchange(request(b"GET", "/"))).status == 200
        await client.send(request(b"GET", "/a"))
        steps.pieces.put_nowait(pieces[0])
        await client.reader.readuntil(b"\r\n\r\n")
        await until(steps.pieces.empty)
        steps.pieces.put_nowait(pieces[1])
        steps.pieces.put_nowait(b"")
        async with asyncio.timeout(5):
            assert await client.reader.readexactly(13) == b"3\r\nabc\r\n0\r\n\r\n"
        second = await client.exchange(request(b"GET", "/"))
        assert second.body == b"ok"
    assert upstream.connections == connections


@pytest.mark.parametrize("behind", [b"", MANY, b"1;odd\r\nx\r\n"], ids=["plain", "many", "odd"])
@pytest.mark.rule("R285")
async def test_client_that_leaves_ends_the_response(behind: bytes, tmp_path: Path) -> None:
    """Whichever parser reads the chunks: the upstream's connection is closed, and one line says so."""
    steps = Steps()
    async with raw_upstream(steps.respond) as upstream, running_gateway(upstream.url, tmp_path, **OPTIONS) as gateway:
        await gateway.get()
        client = await gateway.client()
        await client.send(request(b"GET", "/a"))
        steps.pieces.put_nowait(HEAD + b"3\r\nabc\r\n")
        await client.reader.readuntil(b"abc\r\n")
        if behind:
            steps.pieces.put_nowait(behind)
            await client.reader.readuntil(b"\r\n")
        client.writer.transport.abort()
        line = (await gateway.log(2))[1]
        steps.pieces.put_nowait(None)
        await until(lambda: not upstream.open_connections)
        assert (line["outcome"], line["reason"], line["status"]) == ("client_gone", "client_gone", 200)
        assert line["bytes_out"] >= 3
        assert gateway.app.telemetry.running == 0


@pytest.mark.parametrize("odd", [False, True], ids=["plain", "odd"])
@pytest.mark.rule("R282")
async def test_client_that_does_not_read_holds_its_upstream_back(
    odd: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What waits for it in memory is a read more than may wait; once it reads, it gets everything."""
    clients, upstreams = Arrivals(monkeypatch, ExpressConnection), Arrivals(monkeypatch, UpstreamConnection)
    count, size = 400, 65536

    async def respond(received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        if received.target == b"/":
            return OK
        writer.write(HEAD)
        for number in range(count):
            writer.write(b"10000%b\r\n" % (b";a" if odd and number == 2 else b"") + b"x" * size + b"\r\n")
            await writer.drain()
        return b"0\r\n\r\n"

    async with raw_upstream(respond) as upstream, running_gateway(upstream.url, tmp_path, **OPTIONS) as gateway:
        await gateway.get()
        client = await gateway.client()
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await client.send(request(b"GET", "/large"))
        await until(lambda: not upstreams.transports[-1].is_reading())
        await asyncio.sleep(0.1)  # for what it should not do
        assert has_task() is odd
        assert not upstreams.transports[-1].is_reading()
        assert 0 < clients.transports[-1].get_write_buffer_size() < 600_000
        client.writer.transport.resume_reading()  # type: ignore[attr-defined]
        response = await client.response(within=20)
        assert (len(response.body), response.complete) == (count * size, True)
        assert (await client.exchange(request(b"GET", "/"))).status == 200
    assert upstream.connections == 1


async def test_last_response_to_a_client_says_so(tmp_path: Path) -> None:
    def respond(*_: object) -> Any:
        return asyncio.sleep(0, HEAD + b"3\r\nabc\r\n0\r\n\r\n")

    async with raw_upstream(respond) as upstream, running_gateway(upstream.url, tmp_path, **OPTIONS) as gateway:
        client = await gateway.client()
        response = await client.exchange(request(b"GET", "/", (b"Connection", b"close")))
        assert (response.body, response.one(b"connection")) == (b"abc", b"close")
        assert await client.at_end()
        await gateway.get()
    assert upstream.connections == 1


@pytest.mark.parametrize(("size", "connections"), [(1000, 1), (40_000, 2)])
@pytest.mark.parametrize("last", [b"0\r\n\r\n", b"0;odd\r\n\r\n"], ids=["plain", "odd"])
@pytest.mark.rule("R425")
async def test_connection_of_an_upload_refused_in_chunks_serves_no_other_request(
    last: bytes, size: int, connections: int, tmp_path: Path
) -> None:
    async def respond(received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        writer.write(HEAD.replace(b"200 OK", b"413 Too Large") + b"3\r\nbig\r\n")
        await writer.drain()
        await asyncio.sleep(0.01)
        return last

    async with raw_upstream(respond) as upstream, running_gateway(upstream.url, tmp_path, **OPTIONS) as gateway:
        client = await gateway.client()
        for _ in range(2):
            post = request(b"POST", "/", (b"Content-Length", b"%d" % size), body=b"x" * size)
            assert (await client.exchange(post)).body == b"big"
        await until(lambda: gateway.app.telemetry.requests == {("/", "write", 413, "forwarded"): 2})
    assert upstream.connections == connections
