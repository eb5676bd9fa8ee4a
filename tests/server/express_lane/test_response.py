"""The response of a request of the express lane: whole, in pieces, too much, too late, or not at all."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.support.gateways.running import request, running_gateway, until
from tests.support.upstreams.recording import OK, Received, Responder, raw_upstream

PUBLIC: tuple[dict[str, Any], ...] = ({"path": "/", "auth": "public"},)
OPTIONS: dict[str, Any] = {"routes": PUBLIC, "server": {"express": True}}
HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n"


def in_pieces(*pieces: bytes, end: bytes | None = b"") -> Responder:
    """Answer ``/`` at once; else send the pieces a moment apart; then ``end``, nothing more if empty, or close."""

    async def respond(received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes | None:
        if received.target == b"/":
            return OK
        for number, piece in enumerate(pieces):
            writer.write(piece)
            await writer.drain()
            if number + 1 < len(pieces):
                await asyncio.sleep(0.02)
        if end is None:
            return None
        if not end:
            await reader.read()
        return end

    return respond


async def test_response_in_one_piece_needs_no_record_when_nobody_logs(tmp_path: Path) -> None:
    """It is counted all the same."""
    options: dict[str, Any] = {"routes": PUBLIC, "server": {"express": True, "access_log": "off"}}
    async with raw_upstream() as upstream, running_gateway(upstream.url, tmp_path, **options) as gateway:
        client = await gateway.client()
        for _ in range(5):
            assert (await client.exchange(request(b"GET", "/"))).body == b"ok"
        telemetry = gateway.app.telemetry
        await until(lambda: sum(telemetry.requests.values()) == 5)
        assert set(telemetry.requests) == {("/", "read", 200, "forwarded")}
        assert telemetry.running == 0
    assert upstream.connections == 1


@pytest.mark.parametrize("log", ["json", "off"])
async def test_content_in_pieces_comes_whole_and_is_counted_once(log: str, tmp_path: Path) -> None:
    respond = in_pieces(HEAD, b"ab", b"cd", b"ef", end=b"")
    options: dict[str, Any] = {"routes": PUBLIC, "server": {"express": True, "access_log": log}}
    async with raw_upstream(respond) as upstream, running_gateway(upstream.url, tmp_path, **options) as gateway:
        client = await gateway.client()
        assert (await client.exchange(request(b"GET", "/"))).status == 200
        response = await client.exchange(request(b"GET", "/pieces"))
        assert (response.body, response.complete) == (b"abcdef", True)
        await until(lambda: sum(gateway.app.telemetry.requests.values()) == 2)
        assert gateway.app.telemetry.running == 0
        if log == "json":
            assert (await gateway.log(2))[1]["bytes_out"] == 6


@pytest.mark.parametrize(
    ("pieces", "status"),
    [
        pytest.param((HEAD, b"abcdefPOISON"), 200, id="in a piece of its own"),
        pytest.param((HEAD + b"abc", b"defPOISON"), 200, id="in the last piece"),
        pytest.param((HEAD + b"abcdefPOISON",), 502, id="in the only piece"),
    ],
)
async def test_what_is_too_much_goes_to_nobody(pieces: tuple[bytes, ...], status: int, tmp_path: Path) -> None:
    """And its connection serves no further request (response smuggling); known in time, it is no response at all."""
    async with (
        raw_upstream(in_pieces(*pieces)) as upstream,
        running_gateway(upstream.url, tmp_path, **OPTIONS) as gateway,
    ):
        client = await gateway.client()
        assert (await client.exchange(request(b"GET", "/"))).status == 200
        first = await client.exchange(request(b"GET", "/much"))
        second = await client.exchange(request(b"GET", "/"))
        assert (first.status, second.body) == (status, b"ok")
        assert b"POISON" not in first.body
        assert status != 200 or first.body == b"abcdef"
    assert upstream.connections == 2


async def test_upstream_that_does_not_answer_is_504_and_its_connection_closed(tmp_path: Path) -> None:
    async with (
        raw_upstream(in_pieces()) as upstream,
        running_gateway(upstream.url, tmp_path, **OPTIONS, upstream={"response_timeout_seconds": 0.3}) as gateway,
    ):
        client = await gateway.client()
        assert (await client.exchange(request(b"GET", "/"))).status == 200
        response = await client.exchange(request(b"GET", "/silent"))
        assert response.status == 504
        await until(lambda: not upstream.open_connections)
        assert (await client.exchange(request(b"GET", "/"))).status == 200
        assert (await gateway.log(3))[1]["reason"] == "upstream_timeout"


@pytest.mark.parametrize(
    ("pieces", "end", "reason"),
    [
        pytest.param((HEAD + b"abc",), b"", "upstream_timeout", id="stops"),
        pytest.param((HEAD,), b"", "upstream_timeout", id="stops after the head"),
        pytest.param((HEAD + b"abc",), None, "upstream_disconnected", id="closes"),
    ],
)
@pytest.mark.rule("R286")
async def test_response_that_breaks_off_is_cut_for_the_client_too(
    pieces: tuple[bytes, ...], end: bytes | None, reason: str, tmp_path: Path
) -> None:
    """It must not be taken for complete, and the log tells how it was begun."""
    async with (
        raw_upstream(in_pieces(*pieces, end=end)) as upstream,
        running_gateway(upstream.url, tmp_path, **OPTIONS, upstream={"idle_timeout_seconds": 0.3}) as gateway,
    ):
        client = await gateway.client()
        assert (await client.exchange(request(b"GET", "/"))).status == 200
        response = await client.exchange(request(b"GET", "/half"))
        assert not response.complete
        line = (await gateway.log(2))[1]
        assert (line["outcome"], line["reason"], line["status"]) == ("failed", reason, 200)
        assert gateway.app.upstreams["main"].failures != {}
        assert gateway.app.telemetry.running == 0


@pytest.mark.rule("R282")
async def test_a_client_that_reads_late_is_not_the_upstream_being_late(tmp_path: Path) -> None:
    """What the client does not take is not read; the upstream's time limit does not run meanwhile."""
    size = 24 << 20  # more than all that holds it on the way

    async def respond(received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        return (
            b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + bytes(size) if b"big" in received.target else OK
        )

    async with (
        raw_upstream(respond) as upstream,
        running_gateway(upstream.url, tmp_path, **OPTIONS, upstream={"idle_timeout_seconds": 0.3}) as gateway,
    ):
        client = await gateway.client()
        assert (await client.exchange(request(b"GET", "/"))).status == 200
        await client.send(request(b"GET", "/big"))
        await asyncio.sleep(1)
        response = await client.response(within=20)
        assert (response.complete, len(response.body)) == (True, size)
        assert gateway.app.upstreams["main"].failures == {}


@pytest.mark.parametrize(("method", "tries"), [(b"GET", 2), (b"DELETE", 2), (b"POST", 1)])
@pytest.mark.rule("R310")
async def test_request_on_a_closed_connection_is_sent_again_if_it_may_be(
    method: bytes, tries: int, tmp_path: Path
) -> None:
    """Over a new connection, once."""
    seen: list[int] = []

    async def respond(received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes | None:
        if received.target == b"/":
            return OK
        seen.append(received.connection)
        return OK if len(seen) > 1 else None

    async with raw_upstream(respond) as upstream, running_gateway(upstream.url, tmp_path, **OPTIONS) as gateway:
        client = await gateway.client()
        assert (await client.exchange(request(b"GET", "/"))).status == 200
        response = await client.exchange(request(method, "/again"))
        assert response.status == (200 if tries == 2 else 502)
        assert len(await gateway.log(2)) == 2
    assert seen == [1, 2][:tries]


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;a=b\r\nab\r\n0\r\n\r\n", id="chunk extension"
        ),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\nA: b\r\n\r\n", id="trailer"
        ),
        pytest.param(b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab", id="interim"),
        pytest.param(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nab", id="closing"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Le", id="part of a head"),
    ],
)
async def test_response_that_is_not_plain_is_read_by_the_parser_from_its_first_byte(
    answer: bytes, tmp_path: Path
) -> None:
    rest = b"ngth: 2\r\n\r\nab" if answer.endswith(b"Content-Le") else b""

    async with (
        raw_upstream(in_pieces(answer, *([rest] if rest else []))) as upstream,
        running_gateway(upstream.url, tmp_path, **OPTIONS) as gateway,
    ):
        client = await gateway.client()
        assert (await client.exchange(request(b"GET", "/"))).status == 200
        response = await client.exchange(request(b"GET", "/odd"))
        assert (response.status, response.body, response.complete) == (200, b"ab", True)
        line = (await gateway.log(2))[1]
        assert (line["outcome"], line["bytes_out"]) == ("forwarded", 2)
        assert line["upstream_ms"] >= 0


@pytest.mark.parametrize("log", ["json", "off"])
@pytest.mark.rule("R426")
async def test_head_and_content_of_a_broken_response_reach_the_client_before_the_cut(log: str, tmp_path: Path) -> None:
    """What the log counts as sent was."""
    respond = in_pieces(HEAD, b"abc", end=None)
    options: dict[str, Any] = {"routes": PUBLIC, "server": {"express": True, "access_log": log}}
    async with raw_upstream(respond) as upstream, running_gateway(upstream.url, tmp_path, **options) as gateway:
        client = await gateway.client()
        assert (await client.exchange(request(b"GET", "/"))).status == 200
        response = await client.exchange(request(b"GET", "/pieces"))
        assert (response.status, response.body, response.complete) == (200, b"abc", False)
        await until(lambda: ("/", "read", 200, "failed") in gateway.app.telemetry.requests)
        if log == "json":
            line = (await gateway.log(2))[1]
            assert (line["status"], line["bytes_out"], line["outcome"]) == (200, 3, "failed")


@pytest.mark.parametrize("log", ["json", "off"])
@pytest.mark.parametrize(("size", "connections"), [(1000, 1), (40_000, 2)])
@pytest.mark.rule("R425")
async def test_connection_of_a_refused_upload_serves_no_other_request(
    size: int, connections: int, log: str, tmp_path: Path
) -> None:
    """A service that did not read it closes in a moment, and the next request would be lost."""

    async def respond(*_: object) -> bytes:
        return b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nbig"

    options: dict[str, Any] = {"routes": PUBLIC, "server": {"express": True, "access_log": log}}
    async with raw_upstream(respond) as upstream, running_gateway(upstream.url, tmp_path, **options) as gateway:
        client = await gateway.client()
        for _ in range(2):
            post = request(b"POST", "/", (b"Content-Length", b"%d" % size), body=b"x" * size)
            assert (await client.exchange(post)).body == b"big"
        await until(lambda: gateway.app.telemetry.requests == {("/", "write", 413, "forwarded"): 2})
    assert upstream.connections == connections
