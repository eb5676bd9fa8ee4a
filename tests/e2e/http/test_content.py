"""Content in both directions: streaming, limits, and what happens when a side leaves (R280-R302)."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.support.clock import FakeClock
from tests.support.composed import Settings
from tests.support.gateways.discovering import A, B
from tests.support.gateways.running import RawClient, configuration, request, running_gateway, until
from tests.support.gateways.timed import timed_gateway
from tests.support.issuers.identity_provider import FakeIdp
from tests.support.socket_buffers import MIB, most_buffered
from tests.support.upstreams.recording import Received, raw_upstream, reset

pytestmark = pytest.mark.every_log

PUBLIC: tuple[dict[str, Any], ...] = ({"path": "/", "auth": "public"},)
CHUNKED = ((b"Transfer-Encoding", b"chunked"),)


@pytest.mark.rule("R280")
async def test_upload_streams_while_it_comes_in(tmp_path: Path) -> None:
    """The upstream has the first piece before the last one is sent."""
    got = asyncio.Event()

    async def respond(received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        assert await reader.readexactly(8) == b"3\r\nabc\r\n"
        got.set()
        assert await reader.readexactly(13) == b"3\r\ndef\r\n0\r\n\r\n"
        return b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

    async with (
        raw_upstream(respond, early=True) as upstream,
        running_gateway(upstream.url, tmp_path, routes=PUBLIC) as gateway,
    ):
        client = await gateway.client()
        await client.send(request(b"POST", "/", *CHUNKED, body=b"3\r\nabc\r\n"))
        async with asyncio.timeout(5):
            await got.wait()
        response = await client.exchange(b"3\r\ndef\r\n0\r\n\r\n")
    assert response.body == b"ok"


@pytest.mark.rule("R281")
async def test_events_reach_the_client_one_by_one(tmp_path: Path) -> None:
    """Head before the first event, each event when it is written; nothing is held back."""
    step = asyncio.Queue[bytes | None]()

    async def respond(received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        while (event := await step.get()) is not None:
            writer.write(b"%x\r\n%b\r\n" % (len(event), event))
        writer.write(b"0\r\n\r\n")
        await writer.drain()

    async with (
        raw_upstream(respond) as upstream,
        running_gateway(upstream.url, tmp_path, routes=PUBLIC) as gateway,
    ):
        client = await gateway.client()
        await client.send(request(b"GET", "/"))
        async with asyncio.timeout(5):
            head = await client.reader.readuntil(b"\r\n\r\n")
            assert b"text/event-stream" in head
            for number in range(3):
                event = b"data: %d\n\n" % number
                await step.put(event)
                assert await client.reader.readexactly(len(event) + 5) == b"9\r\n" + event + b"\r\n"
            await step.put(None)
            assert await client.reader.readexactly(5) == b"0\r\n\r\n"


@pytest.mark.parametrize("coded", [False, True])
@pytest.mark.rule("R301")
async def test_large_response_arrives_whole(coded: bool, tmp_path: Path) -> None:
    """8 MiB, by length and in odd chunks."""
    body = bytes(range(256)) * (8 * 1024 * 4)

    async def respond(received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        if not coded:
            return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        position, size = 0, 1
        while position < len(body):
            piece = body[position : position + size]
            writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
            await writer.drain()
            position, size = position + size, size * 3 % 100_003
        return b"0\r\n\r\n"

    async with (
        raw_upstream(respond) as upstream,
        running_gateway(upstream.url, tmp_path, routes=PUBLIC) as gateway,
    ):
        response = await (await gateway.client()).exchange(request(b"GET", "/"), within=20)
        log = await gateway.log()
    assert response.body == body
    assert log[0]["bytes_out"] == len(body)


@pytest.mark.rule("R282")
async def test_slow_reader_holds_the_upstream_back(tmp_path: Path) -> None:
    """An upstream that could send without end is stopped by a client that does not read."""
    written, enough = 0, most_buffered(2) + 8 * MIB

    async def respond(received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal written
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        piece = b"10000\r\n" + b"x" * 65536 + b"\r\n"
        while written < enough:
            writer.write(piece)
            await writer.drain()
            written += 65536

    async with (
        raw_upstream(respond) as upstream,
        running_gateway(upstream.url, tmp_path, routes=PUBLIC) as gateway,
    ):
        client = await gateway.client()
        await client.send(request(b"GET", "/"))
        last = -1
        while last != written or not written:
            last = written
            await asyncio.sleep(0.3)
        assert written < enough  # more than all the kernel's buffers hold was on offer
        client.writer.transport.abort()
        await until(lambda: upstream.open_connections == 0)


@pytest.mark.rule("R283")
async def test_declared_content_over_the_limit_is_refused_at_once(tmp_path: Path) -> None:
    """413, nothing upstream, connection closed."""
    server = {"max_body_bytes": 10}
    async with (
        raw_upstream() as upstream,
        running_gateway(upstream.url, tmp_path, routes=PUBLIC, server=server) as gateway,
    ):
        client = await gateway.client()
        response = await client.exchange(request(b"POST", "/", (b"Content-Length", b"11")))
        assert (response.status, response.json["error"]) == (413, "too_large")
        assert await client.at_end()
        fits = await gateway.exchange(request(b"POST", "/", (b"Content-Length", b"10"), body=b"0123456789"))
        assert fits.status == 200
    assert len(upstream.requests) == 1


@pytest.mark.parametrize(
    "pieces", [[b"b\r\n0123456789a\r\n0\r\n\r\n"], [b"6\r\nabcdef\r\n", b"6\r\nghijkl\r\n", b"0\r\n\r\n"]]
)
@pytest.mark.rule("R283")
async def test_actual_content_over_the_limit_aborts_the_upstream_request(pieces: list[bytes], tmp_path: Path) -> None:
    """Chunks pass the limit half way: 413, and the upstream never sees a complete request."""
    server = {"max_body_bytes": 10}
    async with (
        raw_upstream() as upstream,
        running_gateway(upstream.url, tmp_path, routes=PUBLIC, server=server) as gateway,
    ):
        client = await gateway.client()
        await client.send(request(b"POST", "/", *CHUNKED, body=pieces[0]))
        if len(pieces) > 1:
            await until(lambda: bool(upstream.requests))
        for piece in pieces[1:]:
            await client.send(piece)
        response = await client.response()
        assert response.status == 413
        await until(lambda: upstream.open_connections == 0)
    assert not any(received.complete for received in upstream.requests)


@pytest.mark.parametrize(
    "data",
    [
        request(b"POST", "/", (b"Content-Length", b"10"), body=b"abc"),
        request(b"POST", "/", *CHUNKED, body=b"3\r\nabc\r\n"),
    ],
)
@pytest.mark.rule("R211", "R284")
async def test_client_that_leaves_while_uploading_aborts_the_upstream_request(data: bytes, tmp_path: Path) -> None:
    """A truncated upload never looks complete."""
    async with raw_upstream() as upstream, running_gateway(upstream.url, tmp_path, routes=PUBLIC) as gateway:
        client = await gateway.client()
        await client.send(data)
        await until(lambda: bool(upstream.requests))
        client.writer.transport.abort()
        await until(lambda: upstream.open_connections == 0)
        log = await gateway.log()
    assert not upstream.requests[0].complete
    assert log[0]["outcome"] == "client_gone"


@pytest.mark.rule("R285")
async def test_client_that_leaves_while_it_waits_frees_the_upstream(tmp_path: Path) -> None:
    """Within a second, without a trace but its log line."""
    never = asyncio.Event()

    async def respond(received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        waiting = asyncio.ensure_future(never.wait())
        gone = asyncio.ensure_future(reader.read())
        await asyncio.wait({waiting, gone}, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()

    async with (
        raw_upstream(respond) as upstream,
        running_gateway(upstream.url, tmp_path, routes=PUBLIC) as gateway,
    ):
        client = await gateway.client()
        await client.send(request(b"GET", "/"))
        await until(lambda: bool(upstream.requests))
        await client.close()
        await until(lambda: upstream.open_connections == 0, within=1)
        log = await gateway.log()
        assert gateway.app.upstreams["main"].origins[0].state().in_use == 0
    assert (log[0]["outcome"], log[0]["status"]) == ("client_gone", 499)


BROKEN = [
    pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf", False, id="length"),
    pytest.param(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n", False, id="chunked"),
    pytest.param(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nha", False, id="inside-a-chunk"),
    pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf", True, id="length-reset"),
    pytest.param(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n", True, id="chunked-reset"),
    pytest.param(b"HTTP/1.1 200 OK\r\n\r\nhalf", True, id="until-close-reset"),
]


@pytest.mark.parametrize(("data", "by_reset"), BROKEN)
@pytest.mark.rule("R286", "R287")
async def test_response_that_breaks_off_never_looks_complete(data: bytes, by_reset: bool, tmp_path: Path) -> None:
    """The client's connection is cut before the end of the content."""

    async def respond(received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        await writer.drain()
        if by_reset:
            # Only once the gateway has read: a reset may overtake what is still in flight.
            await asyncio.sleep(0.05)
            reset(writer)

    async with (
        raw_upstream(respond) as upstream,
        running_gateway(upstream.url, tmp_path, routes=PUBLIC) as gateway,
    ):
        client = await gateway.client()
        await client.send(request(b"GET", "/"))
        async with asyncio.timeout(5):
            try:
                received = await client.reader.read(1 << 20)
                while piece := await client.reader.read(1 << 20):
                    received += piece
                ended_by_fault = False
            except ConnectionError:
                received, ended_by_fault = b"", True
        log = await gateway.log()
    assert ended_by_fault or not received.endswith(b"0\r\n\r\n")
    assert ended_by_fault or b"Content-Length: 100" in received or b"chunked" in received
    assert log[0]["outcome"] == "failed"


@pytest.mark.parametrize("together", [False, True])
@pytest.mark.rule("R286")
async def test_response_whose_chunks_make_no_sense_never_looks_complete(together: bool, tmp_path: Path) -> None:
    """502 while nothing was sent on yet, else a cut connection; never a client that waits indefinitely."""

    async def respond(received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n")
        if not together:
            await writer.drain()
            await asyncio.sleep(0.05)
        writer.write(b"zz\r\n")
        await writer.drain()
        await reader.read()

    async with (
        raw_upstream(respond) as upstream,
        running_gateway(upstream.url, tmp_path, routes=PUBLIC) as gateway,
    ):
        response = await gateway.get("/")
        log = await gateway.log()
    assert response.status == 502 if together else not response.complete
    assert log[0]["reason"] == "upstream_protocol"


@pytest.mark.rule("R287", "R328")
async def test_content_that_ends_with_the_connection_is_sent_in_chunks(tmp_path: Path) -> None:
    """HTTP/1.1 clients get chunks, HTTP/1.0 clients the end of the connection."""

    async def respond(received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.0 200 OK\r\nX-A: b\r\n\r\nwhole")
        await writer.drain()

    async with (
        raw_upstream(respond) as upstream,
        running_gateway(upstream.url, tmp_path, routes=PUBLIC) as gateway,
    ):
        modern = await gateway.get("/")
        old_client = await gateway.client()
        await old_client.send(b"GET / HTTP/1.0\r\nHost: h\r\n\r\n")
        old = await old_client.response()
        assert await old_client.at_end()
    assert (modern.body, modern.one(b"transfer-encoding")) == (b"whole", b"chunked")
    assert (old.body, old.one(b"transfer-encoding"), old.one(b"connection")) == (b"whole", None, b"close")


@pytest.mark.rule("R328")
async def test_chunked_response_to_an_old_client_is_sent_plain(tmp_path: Path) -> None:
    async def respond(*_: object) -> bytes:
        return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n3\r\ncde\r\n0\r\n\r\n"

    async with (
        raw_upstream(respond) as upstream,
        running_gateway(upstream.url, tmp_path, routes=PUBLIC) as gateway,
    ):
        client = await gateway.client()
        response = await client.exchange(b"GET / HTTP/1.0\r\nHost: h\r\nConnection: keep-alive\r\n\r\n")
    assert response.body == b"abcde"
    assert response.one(b"transfer-encoding") is None


BODYLESS = [
    pytest.param(b"HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n", 200, b"99", id="head"),
    pytest.param(b"HEAD", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", 200, None, id="head-chunked"),
    pytest.param(b"GET", b"HTTP/1.1 204 No Content\r\n\r\n", 204, None, id="204"),
    pytest.param(b"GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 99\r\nETag: x\r\n\r\n", 304, b"99", id="304"),
]


@pytest.mark.parametrize(("method", "data", "status", "length"), BODYLESS)
@pytest.mark.rule("R288", "R289")
async def test_response_without_content_keeps_both_connections_in_step(
    method: bytes, data: bytes, status: int, length: bytes | None, tmp_path: Path
) -> None:
    async def respond(received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        return data if len(upstream.requests) == 1 else b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nnext"

    async with (
        raw_upstream(respond) as upstream,
        running_gateway(upstream.url, tmp_path, routes=PUBLIC) as gateway,
    ):
        client = await gateway.client()
        first = await client.exchange(request(method, "/"), head_only=True)
        second = await client.exchange(request(b"GET", "/"))
    assert (first.status, first.one(b"content-length")) == (status, length)
    assert first.all(b"transfer-encoding") == []
    assert second.body == b"next"
    assert upstream.connections == 1


@pytest.mark.rule("R289")
async def test_204_with_content_does_not_poison_the_connection(tmp_path: Path) -> None:
    """What follows the head belongs to no response; the connection is not used again."""

    async def respond(received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        if len(upstream.requests) == 1:
            poison = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison"
            return b"HTTP/1.1 204 No Content\r\nContent-Length: 44\r\n\r\n" + poison
        return b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nnext"

    async with (
        raw_upstream(respond) as upstream,
        running_gateway(upstream.url, tmp_path, routes=PUBLIC) as gateway,
    ):
        first = await gateway.get("/")
        second = await gateway.get("/")
    assert (first.status, first.all(b"content-length")) == (204, [])
    assert second.body == b"next"
    assert upstream.connections == 2


async def test_unasked_response_on_an_idle_connection_is_never_delivered(tmp_path: Path) -> None:
    """Response smuggling: bytes that come while no request runs end the connection (RFC 9112 section 9.2)."""

    async def respond(received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        if len(upstream.requests) == 1:
            ok = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
            writer.write(ok)
            await writer.drain()
            await asyncio.sleep(0.05)
            return b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison"
        return b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nnext"

    async with (
        raw_upstream(respond) as upstream,
        running_gateway(upstream.url, tmp_path, routes=PUBLIC) as gateway,
    ):
        assert (await gateway.get("/")).body == b"ok"
        await asyncio.sleep(0.15)
        assert (await gateway.get("/")).body == b"next"


@pytest.mark.rule("R290")
async def test_interim_responses_are_not_taken_for_the_answer(tmp_path: Path) -> None:
    """100 and 103 are dropped, the final response passes."""

    async def respond(*_: object) -> bytes:
        return (
            b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n"
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
        )

    async with (
        raw_upstream(respond) as upstream,
        running_gateway(upstream.url, tmp_path, routes=PUBLIC) as gateway,
    ):
        response = await gateway.get("/")
    assert (response.status, response.body) == (200, b"ok")


NONSENSE = [
    pytest.param(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", id="unasked-101"),
    pytest.param(b"HTTP/1.1 999 Odd\r\nContent-Length: 0\r\n\r\n", id="999"),
    pytest.param(b"HTTP/1.1 099 Odd\r\nContent-Length: 0\r\n\r\n", id="099"),
    pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", id="cl-te"),
    pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nabc", id="two-lengths"),
    pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nab", id="same-length-twice"),
    pytest.param(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", id="coded"),
    pytest.param(b"HTTP/1.1 200 OK\r\nX: a\x00b\r\nContent-Length: 0\r\n\r\n", id="nul"),
    pytest.param(b"HTTP/1.1 200 OK\r\nX: a\x01b\r\nContent-Length: 0\r\n\r\n", id="control"),
    pytest.param(b"HTTP/1.1 200 OK\r\nX : a\r\nContent-Length: 0\r\n\r\n", id="space-before-colon"),
    pytest.param(b"HTTP/1.1 200 OK\r\nX Y: a\r\nContent-Length: 0\r\n\r\n", id="space-in-name"),
    pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\n", id="negative-length"),
    pytest.param(b"garbage\r\n\r\n", id="garbage"),
    pytest.param(b"SSH-2.0-OpenSSH_9.2\r\n", id="ssh"),
    pytest.param(b"HTTP/1.1 200 OK\r\nX: " + b"a" * 70_000 + b"\r\n\r\n", id="huge-field"),
    pytest.param(b"HTTP/1.1 200 OK\r\n" + b"X: a\r\n" * 2000 + b"\r\n", id="too-many-fields"),
]


@pytest.mark.parametrize("data", NONSENSE)
@pytest.mark.rule("R271", "R275", "R276", "R291", "R292")
async def test_response_that_makes_no_sense_is_a_bad_gateway(data: bytes, tmp_path: Path) -> None:
    """502, the connection is closed, nothing of it reaches the client."""

    async def respond(received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        await writer.drain()
        await reader.read()

    async with (
        raw_upstream(respond) as upstream,
        running_gateway(upstream.url, tmp_path, routes=PUBLIC) as gateway,
    ):
        response = await gateway.get("/")
        assert (response.status, response.json["error"]) == (502, "bad_gateway")
        await until(lambda: upstream.open_connections == 0)
    assert len(upstream.requests) == 1


@pytest.mark.parametrize(
    ("phrase", "expected"), [(b"All Fine", b"All Fine"), (b"", b""), (b"caf\xc3\xa9", b""), (b"a\tb", b"")]
)
@pytest.mark.rule("R272")
async def test_reason_phrase_passes_only_as_plain_text(phrase: bytes, expected: bytes, tmp_path: Path) -> None:
    async def respond(*_: object) -> bytes:
        return b"HTTP/1.1 200 " + phrase + b"\r\nContent-Length: 0\r\n\r\n"

    async with (
        raw_upstream(respond) as upstream,
        running_gateway(upstream.url, tmp_path, routes=PUBLIC) as gateway,
    ):
        response = await gateway.get("/")
    assert response.head.split(b"\r\n")[0] == b"HTTP/1.1 200 " + expected


@pytest.mark.rule("R296", "R297")
async def test_range_and_conditional_requests_pass(tmp_path: Path) -> None:
    async def respond(*_: object) -> bytes:
        return b"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-1/9\r\nContent-Length: 2\r\n\r\nab"

    given = ((b"Range", b"bytes=0-1,3-4"), (b"If-Range", b'"e"'), (b"If-None-Match", b'W/"x", "y"'))
    async with (
        raw_upstream(respond) as upstream,
        running_gateway(upstream.url, tmp_path, routes=PUBLIC) as gateway,
    ):
        response = await gateway.get("/", *given)
    assert (response.status, response.one(b"content-range")) == (206, b"bytes 0-1/9")
    assert [upstream.requests[0].one(name.lower()) for name, _ in given] == [value for _, value in given]


@pytest.mark.rule("R315")
async def test_upstream_that_does_not_answer_in_time_is_a_gateway_timeout(tmp_path: Path) -> None:
    """504, also when the head trickles in."""

    async def respond(received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n")
        for _ in range(100):
            writer.write(b"X: y\r\n")
            await writer.drain()
            await asyncio.sleep(0.05)

    upstream_options = {"response_timeout_seconds": 0.3}
    async with (
        raw_upstream(respond) as upstream,
        running_gateway(upstream.url, tmp_path, routes=PUBLIC, upstream=upstream_options) as gateway,
    ):
        response = await gateway.get("/")
        log = await gateway.log()
        await until(lambda: upstream.open_connections == 0)
    assert (response.status, response.json["error"]) == (504, "gateway_timeout")
    assert log[0]["reason"] == "upstream_timeout"


@pytest.mark.rule("R315", "R317")
async def test_stalled_response_content_is_cut_off(tmp_path: Path) -> None:
    """idle_timeout_seconds between two reads; the client sees a broken response."""

    async def respond(received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
        await writer.drain()
        await reader.read()

    async with (
        raw_upstream(respond) as upstream,
        running_gateway(upstream.url, tmp_path, routes=PUBLIC, upstream={"idle_timeout_seconds": 0.2}) as gateway,
    ):
        response = await gateway.get("/")
        log = await gateway.log()
    assert not response.complete
    assert log[0]["reason"] == "upstream_timeout"


@pytest.mark.rule("R294", "R427")
async def test_early_answer_to_an_upload_reaches_the_client(tmp_path: Path) -> None:
    """The upstream refuses before it has read the content; its answer passes, the connection ends."""

    async def respond(received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        return b"HTTP/1.1 413 Too Big\r\nContent-Length: 3\r\n\r\nbig"

    async with (
        raw_upstream(respond, early=True) as upstream,
        running_gateway(upstream.url, tmp_path, routes=PUBLIC, upstream={"idle_timeout_seconds": 0.2}) as gateway,
    ):
        client = await gateway.client()
        await client.send(request(b"POST", "/", (b"Content-Length", b"1000000"), body=b"x" * 1000))
        response = await client.response()
        assert (response.status, response.body) == (413, b"big")
        assert response.one(b"connection") == b"close"
        await client.send(b"y" * 1000)
        assert await client.at_end()


@pytest.mark.rule("R286", "R426")
async def test_early_answer_that_breaks_off_is_not_lost_to_a_reset(tmp_path: Path) -> None:
    """A client that still sends sees that the answer is not whole, or gets 502; the log says the same."""

    async def respond(received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 10\r\n\r\nearly")

    async with (
        raw_upstream(respond, early=True) as upstream,
        running_gateway(upstream.url, tmp_path, routes=PUBLIC) as gateway,
    ):
        client = await gateway.client()
        await client.send(request(b"PUT", "/", (b"Content-Length", b"1000000")) + b"x" * 1000)
        log = await gateway.log()
        for _ in range(5):
            await client.send(b"x" * 1000)
            await asyncio.sleep(0.01)
        response = await client.response()
        assert (response.status, response.complete) in ((413, False), (502, True))
        assert response.complete or b"early".startswith(response.body)
        assert (log[0]["status"], log[0]["bytes_out"]) == (response.status, len(response.body))
        assert log[0]["outcome"] == "failed"
        assert await client.reader.read() == b""


@pytest.mark.rule("R213")
async def test_refused_upload_is_not_read_without_end(tmp_path: Path) -> None:
    """401 at once; what follows is read for a moment, then the connection is closed."""
    async with raw_upstream() as upstream, running_gateway(upstream.url, tmp_path) as gateway:
        client = await gateway.client()
        await client.send(request(b"POST", "/", (b"Content-Length", b"1000000000"), body=b"x" * 1000))
        response = await client.response()
        assert (response.status, response.one(b"connection")) == (401, b"close")
        assert await client.at_end(within=5)
    assert upstream.connections == 0


@pytest.mark.rule("R213")
async def test_small_refused_upload_leaves_the_connection_usable(tmp_path: Path) -> None:
    """Content that has arrived is drained, and the next request is parsed as its own."""
    async with raw_upstream() as upstream, running_gateway(upstream.url, tmp_path) as gateway:
        client = await gateway.client()
        body = b"GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n"
        refused = await client.exchange(request(b"POST", "/", (b"Content-Length", b"%d" % len(body)), body=body))
        served = await client.exchange(request(b"GET", "/own", token=gateway.token()))
    assert (refused.status, served.status) == (401, 200)
    assert [received.target for received in upstream.requests] == [b"/own"]


@pytest.mark.rule("R314")
async def test_full_pool_answers_503_after_the_wait(tmp_path: Path) -> None:
    """Bounded wait, Retry-After, and the pool recovers."""
    release = asyncio.Event()

    async def respond(received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        if received.target == b"/slow":
            await release.wait()
        return b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

    options = {"pool_size": 2, "pool_wait_seconds": 0.1}
    async with (
        raw_upstream(respond) as upstream,
        running_gateway(upstream.url, tmp_path, routes=PUBLIC, upstream=options) as gateway,
    ):
        slow = [await gateway.client() for _ in range(2)]
        for client in slow:
            await client.send(request(b"GET", "/slow"))
        await until(lambda: len(upstream.requests) == 2)
        refused = await gateway.get("/")
        assert (refused.status, refused.one(b"retry-after")) == (503, b"1")
        waiting = await gateway.client()
        await waiting.send(request(b"GET", "/waits"))
        release.set()
        answered = await waiting.response()
        assert answered.status == 200
        assert [(await client.response()).status for client in slow] == [200, 200]
        await until(lambda: gateway.app.upstreams["main"].origins[0].state().in_use == 0)
    assert upstream.connections == 2


async def test_requests_take_the_urls_of_an_upstream_in_turn(tmp_path: Path) -> None:
    """Contract: several urls, round robin; a base path is put before the request's."""
    async with raw_upstream() as one, raw_upstream() as two:
        urls = [one.url, two.url + "/base/"]
        async with running_gateway(urls, tmp_path, routes=PUBLIC) as gateway:
            for number in range(4):
                assert (await gateway.get(f"/{number}?q")).status == 200
    assert len(one.requests) == len(two.requests) == 2
    assert {received.target for received in two.requests} <= {b"/base/0?q", b"/base/1?q", b"/base/2?q", b"/base/3?q"}
    assert all(received.one(b"host") == f"127.0.0.1:{two.port}".encode() for received in two.requests)


@pytest.mark.rule("R261")
async def test_host_is_the_upstreams_or_the_clients_as_configured(tmp_path: Path) -> None:
    """preserve_host."""
    async with (
        raw_upstream() as upstream,
        running_gateway(upstream.url, tmp_path, routes=PUBLIC, upstream={"preserve_host": True}) as gateway,
    ):
        await gateway.get("/", (b"Host", b"Shop.Example:8443"))
    assert upstream.requests[0].one(b"host") == b"Shop.Example:8443"
    assert upstream.requests[0].one(b"x-forwarded-host") == b"Shop.Example:8443"


@pytest.mark.rule("R329")
async def test_connection_close_and_keep_alive_are_honoured(tmp_path: Path) -> None:
    async with raw_upstream() as upstream, running_gateway(upstream.url, tmp_path, routes=PUBLIC) as gateway:
        closing = await gateway.client()
        response = await closing.exchange(request(b"GET", "/", (b"Connection", b"close")))
        assert response.one(b"connection") == b"close"
        assert await closing.at_end()
        kept: RawClient = await gateway.client()
        for _ in range(3):
            assert (await kept.exchange(request(b"GET", "/"))).one(b"connection") is None
        old = await gateway.client()
        answer = await old.exchange(b"GET / HTTP/1.0\r\nHost: h\r\nConnection: keep-alive\r\n\r\n")
        assert answer.one(b"connection") == b"keep-alive"
    assert upstream.connections == 1


@pytest.mark.parametrize("limits", [[], [{"requests": 1000}]], ids=["free", "limited"])
@pytest.mark.parametrize("connection", [b"close", b"keep-alive"])
async def test_each_request_is_framed_by_its_own_length_whatever_its_connection_remembers(
    connection: bytes, limits: list[dict[str, int]], tmp_path: Path
) -> None:
    """CWE-444: another length and another caller, also when no connection to the upstream is free.

    Bytes beyond a length that is an earlier request's would be the beginning of
    another client's next one.
    """
    routes = [{"path": "/", "rate_limit": limits}]

    async def respond(received: Received, *_: object) -> bytes:
        return b"HTTP/1.1 200 OK\r\nConnection: %b\r\nContent-Length: 2\r\n\r\nok" % connection

    bodies = [b"abc", b"abc", b"GET /smuggled HTTP/1.1\r\n\r\n", b"a", b"abcdefgh"]
    async with raw_upstream(respond) as upstream, running_gateway(upstream.url, tmp_path, routes=routes) as gateway:
        client = await gateway.client()
        for number, body in enumerate(bodies):
            token = gateway.token(sub=f"caller-{number // 2}")
            length = (b"Content-Length", b"%d" % len(body))
            sent = request(b"POST", "/", length, token=token, body=body)
            assert (await client.exchange(sent)).status == 200
        log = await gateway.log(len(bodies))
    assert [received.body for received in upstream.requests] == bodies
    assert [received.one(b"x-user-id") for received in upstream.requests] == [
        b"caller-%d" % (number // 2) for number in range(len(bodies))
    ]
    assert [received.all(b"content-length") for received in upstream.requests] == [[b"%d" % len(one)] for one in bodies]
    assert [line["bytes_in"] for line in log] == [len(body) for body in bodies]


async def test_a_caller_whose_key_has_to_be_fetched_is_framed_by_his_own_length(tmp_path: Path) -> None:
    """The same where the request has to wait for its issuer's keys."""
    async with FakeIdp("/") as provider, raw_upstream() as upstream:
        provider.publish(A)
        issuer = {"issuer": provider.issuer, "jwks_file": "", "jwks_url": provider.jwks_url}
        made = configuration(upstream.url, tmp_path / "unused", issuer=issuer)
        async with timed_gateway(Settings.model_validate(made), A, FakeClock()) as gateway:
            client = await gateway.client()
            for key, body in ((A, b"abc"), (A, b"abc"), (B, b"abcdefgh")):
                gateway.clock.jump(30)
                provider.publish(A, B)
                token = gateway.token_of(key, iss=provider.issuer)
                length = (b"Content-Length", b"%d" % len(body))
                assert (await client.exchange(request(b"POST", "/", length, token=token, body=body))).status == 200
    assert [received.body for received in upstream.requests] == [b"abc", b"abc", b"abcdefgh"]
