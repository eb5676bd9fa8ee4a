"""What the gateway's upstream connections tell beyond aiohttp's: how they ended, and whether anything came."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import pytest
from aiohttp import ClientError
from aiohttp.http_exceptions import HttpProcessingError
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.http1.chunked_content import ChunkedContent
from gateway.upstream.exchange.exchange import exchange
from gateway.upstream.pool.connection import BUFFER, ContentStream, UpstreamConnection
from gateway.upstream.pool.upstream_url import Lease
from tests.support.clock import eventually
from tests.support.upstreams.early_closing import End, blunt_upstream
from tests.support.upstreams.recording import Received, breaking_off, raw_upstream
from tests.upstream.pools import GET, opened

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(("by_reset", "broken"), [(False, False), (True, True)])
@pytest.mark.rule("R287")
async def test_fault_is_told_from_an_orderly_end(by_reset: bool, broken: bool) -> None:
    """Content that ends with its connection is whole only after a FIN."""
    leave = asyncio.Event()
    respond = breaking_off(b"HTTP/1.1 200 OK\r\n\r\nhalf", leave, by_reset=by_reset)
    async with raw_upstream(respond) as upstream, opened(upstream.url) as origin:
        reply = await exchange(await origin.lease(), GET, None, head_only=False, response_timeout=5, idle_timeout=5)
        assert await reply.content.readany() == b"half"
        leave.set()
        await eventually(reply.content.is_eof)
        assert reply.lease.protocol.broken is broken
        assert reply.truncated() is broken
        reply.abort()


@pytest.mark.rule("R310")
async def test_nothing_was_heard_until_a_byte_comes_and_again_for_each_exchange() -> None:
    """The mark is about the running exchange, not about the connection's life."""
    answer = asyncio.Event()

    async def respond(received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        await answer.wait()
        answer.clear()
        return b"HTTP/1.1 204 No Content\r\n\r\n"

    async def run(lease: Lease) -> None:
        reply = await exchange(lease, GET, None, head_only=False, response_timeout=5, idle_timeout=5)
        assert lease.protocol.heard is True
        reply.finish()

    async with raw_upstream(respond) as upstream, opened(upstream.url) as origin:
        for _ in range(2):
            lease = await origin.lease()
            running = asyncio.ensure_future(run(lease))
            await upstream.got_request.wait()
            upstream.got_request.clear()
            assert lease.protocol.heard is False
            answer.set()
            await running
            # Idle: whatever comes from now on is not an answer to anything.
            assert lease.protocol.heard is False
    assert upstream.connections == 1


@pytest.mark.rule("R286")
async def test_reader_of_content_that_makes_no_sense_is_told_at_once() -> None:
    """aiohttp alone leaves it waiting indefinitely, the connection being open."""

    async def respond(received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(CHUNKED + b"2\r\nab\r\n")
        await writer.drain()
        await spoil.wait()
        writer.write(b"zz\r\n")
        await reader.read()

    spoil = asyncio.Event()
    async with raw_upstream(respond) as upstream, opened(upstream.url) as origin:
        reply = await exchange(await origin.lease(), GET, None, head_only=False, response_timeout=5, idle_timeout=0)
        assert await reply.content.readany() == b"ab"
        waiting = asyncio.ensure_future(reply.content.readany())
        await asyncio.sleep(0)
        spoil.set()
        async with asyncio.timeout(2):
            with pytest.raises((HttpProcessingError, ClientError)):
                await waiting
        assert reply.lease.protocol.should_close
        reply.abort()
        assert origin.state().idle == 0


@pytest.mark.rule("R429")
async def test_content_in_chunks_of_a_byte_is_read_in_turns() -> None:
    """aiohttp would go through all that has come before others have a turn."""
    count = 60_000

    async def respond(received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        return CHUNKED + b"1\r\na\r\n" * count + b"0\r\n\r\n"

    taken, in_a_turn = [0], []
    loop = asyncio.get_running_loop()

    def turn() -> None:
        in_a_turn.append(taken[0])
        taken[0] = 0
        ticking[0] = loop.call_soon(turn)

    async with raw_upstream(respond) as upstream, opened(upstream.url) as origin:
        reply = await exchange(await origin.lease(), GET, None, head_only=False, response_timeout=5, idle_timeout=5)
        ticking = [loop.call_soon(turn)]
        read = 0
        while piece := await reply.content.readany():
            read += len(piece)
            taken[0] += len(piece)
        ticking[0].cancel()
        assert read == count
        assert max(in_a_turn) <= 3 * BUFFER // 16
        reply.finish()


async def test_fault_after_the_end_of_content_does_not_spoil_it() -> None:
    """Content that has arrived whole stays readable; only the connection is not used again."""

    async def respond(received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        return b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

    async with raw_upstream(respond) as upstream, opened(upstream.url) as origin:
        reply = await exchange(await origin.lease(), GET, None, head_only=False, response_timeout=5, idle_timeout=5)
        await eventually(reply.content.is_eof)
        reply.lease.protocol.set_exception(ConnectionResetError())
        assert await reply.content.read() == b"ok"
        reply.finish()
        assert (origin.state().in_use, origin.state().idle) == (0, 0)


@pytest.mark.rule("R324")
async def test_connection_is_handed_over_with_what_came_behind_the_101() -> None:
    """Nothing of it is lost, and no time limit of responses is left."""

    async def respond(received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\nfirst")
        await reader.readexactly(4)
        writer.write(b"second")
        await reader.read()

    async with raw_upstream(respond) as upstream, opened(upstream.url) as origin:
        options = {"head_only": False, "response_timeout": 5, "idle_timeout": 0.05}
        lease = await origin.lease()
        reply = await exchange(lease, GET, None, upgrade=True, **options)  # type: ignore[arg-type]
        assert (reply.status, reply.bodyless, reply.length) == (101, True, None)
        protocol = lease.protocol
        assert protocol.transport is not None
        behind = bytearray()

        def came(expected: bytes) -> bool:
            transport, tail = protocol.hand_over()
            assert transport is protocol.transport
            behind.extend(tail)
            return behind == expected

        await eventually(lambda: came(b"first"))
        protocol.transport.write(b"more")
        await eventually(lambda: came(b"firstsecond"))
        assert protocol.exception() is None
        lease.discard()
        assert protocol.hand_over() == (None, b"")


CONTENT = bytes(range(256)) * 850  # the last 50 KB stay in the kernel, or in TLS, until they are asked for
LONG = b"HTTP/1.1 413 Too Large\r\nContent-Length: %d\r\n\r\n" % len(CONTENT) + CONTENT


def reads(lease: Lease) -> bool:
    """Return whether the upstream's connection is read."""
    transport = lease.protocol.transport
    return transport is not None and transport.is_reading()


class Sending:
    """Content that goes on for as long as a test wants."""

    chunked = True

    def __init__(self) -> None:
        self.go_on = asyncio.Event()

    def whole(self) -> bytes | None:
        return None

    async def read(self) -> bytes:
        await self.go_on.wait()
        await asyncio.sleep(0)
        return b"x" * 65536


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("end", [End.CLOSE, End.FIN, End.RESET])
@pytest.mark.rule("R425")
async def test_answer_that_has_arrived_is_read_when_a_write_fails(end: End, secure: bool, tmp_path: Path) -> None:
    """Also what the kernel holds because its reader was slow, and reading was paused."""
    with blunt_upstream(tmp_path, LONG, end, secure=secure, arrived=True) as (url, options):
        async with opened(url, **options) as origin:
            content, lease = Sending(), await origin.lease()
            head = b"POST / HTTP/1.1\r\nHost: up\r\nTransfer-Encoding: chunked\r\n\r\n"
            reply = await exchange(lease, head, content, head_only=False, response_timeout=5, idle_timeout=5)
            assert reply.status == 413
            await eventually(lambda: not reads(lease))
            content.go_on.set()
            await eventually(lambda: lease.protocol.transport is None)
            assert await reply.content.read() == CONTENT
            reply.abort()


@pytest.mark.parametrize("end", [End.CLOSE, End.FIN, End.ALERT])
@pytest.mark.rule("R425", "R409")
async def test_answer_over_tls_is_whole_although_it_ended_while_reading_was_paused(end: End, tmp_path: Path) -> None:
    """uvloop ends such a connection with a FIN, whatever TLS still holds."""
    with blunt_upstream(tmp_path, LONG, end, secure=True, arrived=True) as (url, options):
        async with opened(url, **options) as origin:
            lease = await origin.lease()
            reply = await exchange(lease, GET, None, head_only=False, response_timeout=5, idle_timeout=5)
            await eventually(lambda: not reads(lease))
            await eventually(lambda: lease.protocol.transport is None)
            assert await reply.content.read() == CONTENT
            reply.abort()


@pytest.mark.parametrize(
    ("end", "secure", "broken"),
    [
        (End.CLOSE, False, False),
        (End.RESET, False, True),
        (End.ALERT, True, False),
        (End.CLOSE, True, True),
        (End.FIN, True, True),
    ],
)
@pytest.mark.rule("R409", "R287", "C105")
async def test_content_without_length_is_whole_over_tls_only_with_a_closure_alert(
    end: End, secure: bool, broken: bool, tmp_path: Path
) -> None:
    """A FIN is enough where no machine in between could have made it."""
    answer = b"HTTP/1.1 200 OK\r\nX: y\r\n\r\nall"
    with blunt_upstream(tmp_path, answer, end, secure=secure, arrived=True) as (url, options):
        async with opened(url, **options) as origin:
            lease = await origin.lease()
            reply = await exchange(lease, GET, None, head_only=False, response_timeout=5, idle_timeout=5)
            assert await reply.content.read() == b"all"
            assert (reply.truncated(), lease.protocol.secure) == (broken, secure)
            reply.abort()


# --- chunks that another reader has begun ---


async def read_by_parser(pieces: Sequence[bytes]) -> tuple[bytes, bool, bool]:
    """Return the content that the parser takes from chunks, whether it ended, and whether there is a fault."""
    connection = UpstreamConnection(asyncio.get_running_loop())
    connection.expect_response(head_only=False, idle_timeout=0)
    connection.data_received(CHUNKED)
    _, content = await connection.response()
    return await _taken(connection, content, pieces)


async def _taken(
    connection: UpstreamConnection, content: ContentStream, pieces: Sequence[bytes]
) -> tuple[bytes, bool, bool]:
    taken = b""
    for piece in pieces:
        before = content.total_bytes
        if not content.is_eof() and connection.exception() is None:
            connection.data_received(piece)
        if content.exception() is None:
            taken += content.read_nowait(-1)
        else:
            taken += b"?" * (content.total_bytes - before)  # it cannot be read any more
    return taken, content.is_eof(), connection.exception() is not None and not content.is_eof()


async def read_by_both(pieces: Sequence[bytes]) -> tuple[bytes, bool, bool]:
    """Return the same of chunks that are plain, up to where they are not, and then the parser's."""
    chunks, taken = ChunkedContent(), b""
    for number, piece in enumerate(pieces):
        taken += chunks.feed(piece)
        if chunks.ended:
            return taken, True, False
        if chunks.rest:
            connection = UpstreamConnection(asyncio.get_running_loop())
            connection.expect_rest(chunks.rest, idle_timeout=0)
            content = await connection.rest_of_content()
            first = b"?" * (content.total_bytes - 1) if content.exception() is not None else b""
            rest, ended, fault = await _taken(connection, content, [b"", *pieces[number + 1 :]])
            return taken + first + rest, ended, fault
    return taken, False, False


_PARTS = st.one_of(
    st.binary(min_size=1, max_size=20).map(lambda data: b"%x\r\n%b\r\n" % (len(data), data)),
    st.sampled_from(
        [
            *(b"0\r\n\r\n", b"5;ext\r\nhello\r\n", b"5 \r\nhello\r\n", b"5\r\nhello\n", b"%023x\r\nhello\r\n" % 5),
            *(b"0\r\nX: y\r\n\r\n", b"0\r\n", b"X: y\r\n", b"\r\n", b"\n", b"\r", b"5", b" ", b"0x1\r\n", b"+5\r\n"),
            *(b"10000000000000005\r\nhello", b"5\n", b"1\r\na\r\n" * 210),
        ]
    ),
)


@settings(max_examples=400)
@given(st.lists(_PARTS, max_size=6), st.lists(st.integers(0, 100), max_size=5))
@pytest.mark.rule("R302")
def test_parser_goes_on_in_chunks_as_if_it_had_read_them_from_the_start(parts: list[bytes], cuts: list[int]) -> None:
    """There is one judge of odd chunks, wherever they begin to be odd, and however they come."""
    data = b"".join(parts)
    places = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    asyncio.run(_compare([data[begin:end] for begin, end in pairwise(places)]))
    asyncio.run(_compare([data[at : at + 1] for at in range(len(data))]))


async def _compare(pieces: Sequence[bytes]) -> None:
    (mine, *how), (theirs, *wanted) = await read_by_both(pieces), await read_by_parser(pieces)
    assert how == wanted
    assert len(mine) == len(theirs)
    if not how[-1]:
        assert mine == theirs
