"""A plain response in one piece is read without aiohttp's parser; every other one by it, from the first byte."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from gateway.errors import GatewayError, Reason, Reasons
from gateway.http1.plain_response import MAX_RESPONSE_FIELDS, PlainHead, PlainReader
from gateway.tasks import spawn
from gateway.upstream.exchange.exchange import ended_by_upstream
from gateway.upstream.exchange.relay import relay
from gateway.upstream.exchange.reply import Reply
from gateway.upstream.pool.connection import BUFFER
from tests.support.clock import eventually
from tests.support.upstreams.recording import OK, RawUpstream, Received, raw_upstream
from tests.upstream.exchange.test_exchange import ENDS, FAULTS, POST, POST_CHUNKED, Pieces, fault, send
from tests.upstream.exchange.test_relay import WHOLE, Client, answering
from tests.upstream.pools import Pool, opened

Then = Callable[[asyncio.StreamWriter], Awaitable[None]]


def reader() -> PlainReader:
    return PlainReader(b"gw")


@pytest.fixture
async def silent() -> AsyncIterator[tuple[RawUpstream, Pool]]:
    """An upstream that gets requests and answers nothing: the test plays the connection's transport."""

    async def respond(received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with raw_upstream(respond) as upstream, opened(upstream.url) as origin:
        yield upstream, origin


async def test_plain_response_in_one_piece_needs_no_parser() -> None:
    """Its parts are what the parser would have found, and its connection serves the next exchange."""
    async with raw_upstream() as upstream, opened(upstream.url) as origin:
        heads = reader()
        for _ in range(2):
            reply = await send(await origin.lease(), heads=heads)
            assert (reply.status, reply.phrase, reply.fields) == (200, b"OK", ((b"Content-Length", b"2"),))
            assert (reply.length, reply.bodyless, reply.until_close) == (2, False, False)
            assert reply.known is not None
            assert (reply.whole, reply.known.length) == (b"ok", 2)
            assert reply.known.start == b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nVia: 1.1 gw\r\n"
            assert reply.lease.protocol.heard
            reply.finish()
            assert not reply.lease.protocol.heard
            assert (origin.state().in_use, origin.state().idle) == (0, 1)
        assert upstream.connections == 1


async def test_chunks_in_one_piece_need_no_parser() -> None:
    """They go on as one."""
    data = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n4\r\ncdef\r\n0\r\n\r\n"
    async with raw_upstream(answering(data)) as upstream, opened(upstream.url) as origin:
        reply, client = await send(await origin.lease(), heads=reader()), Client()
        assert (reply.whole, reply.length, reply.until_close) == (b"abcdef", None, False)
        assert reply.fields == ((b"Transfer-Encoding", b"chunked"),)
        await relay(reply, b"HEAD ", client.write, chunked=True)
        assert client.writes == [b"HEAD 6\r\nabcdef\r\n0\r\n\r\n"]
        assert (reply.relayed, origin.state().idle) == (6, 1)


async def test_bytes_beyond_the_announced_length_are_the_parsers_to_judge() -> None:
    """RFC 9112 section 6.3: it refuses them when they are no response, and so would it without the other reader."""
    for heads in (reader(), None):
        async with raw_upstream(answering(OK + b"more")) as upstream, opened(upstream.url) as origin:
            error = await fault(send(await origin.lease(), heads=heads))
            assert error.reason is Reasons.UPSTREAM_PROTOCOL
            assert (origin.state().in_use, origin.state().idle) == (0, 0)


async def test_request_with_content_that_is_there_is_sent_in_the_same_way() -> None:
    async with raw_upstream() as upstream, opened(upstream.url) as origin:
        reply = await send(await origin.lease(), POST, Pieces(chunked=False, whole=b"abcdef"), heads=reader())
        assert reply.whole == b"ok"
        assert upstream.requests[0].body == b"abcdef"
        reply.finish()


@pytest.mark.rule("R280")
async def test_content_that_still_comes_leaves_the_response_to_the_parser() -> None:
    """An upload may end late, or badly; that is watched in one place."""
    async with raw_upstream() as upstream, opened(upstream.url) as origin:
        reply = await send(await origin.lease(), POST_CHUNKED, Pieces(b"abc", b""), heads=reader())
        assert reply.whole is None
        assert await reply.content.read() == b"ok"
        reply.finish()
        assert origin.state().idle == 1


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize(("data", "closes", "chunked", "expected"), WHOLE)
@pytest.mark.rule("R287", "R288", "R289")
async def test_client_gets_the_same_either_way(
    data: bytes, closes: bool, chunked: bool, expected: bytes, known: bool
) -> None:
    """Whatever the form of the response, and who reads it."""
    async with raw_upstream(answering(data, closes=closes)) as upstream, opened(upstream.url) as origin:
        reply = await send(await origin.lease(), heads=reader() if known else None)
        if closes:
            await eventually(reply.content.is_eof)
        client = Client()
        chunked = chunked and reply.length is None
        await relay(reply, b"HEAD ", client.write, chunked=chunked)
        assert client.writes == [b"HEAD " + expected]
        assert (origin.state().in_use, origin.state().idle) == (0, 0 if closes else 1)


CHUNKS = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"

NOT_WHOLE = [
    pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n", b"abcd", b"abcd", 1, id="content-later"),
    pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab", b"cd", b"abcd", 1, id="rest-of-content-later"),
    pytest.param(b"HTTP/1.1 200 OK\r\nContent-Le", b"ngth: 4\r\n\r\nabcd", b"abcd", 1, id="rest-of-head-later"),
    pytest.param(b"H", b"TTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nabcd", b"abcd", 1, id="one-byte"),
    pytest.param(b"HTTP/1.1 100 Continue\r\n\r\n" + OK, b"", b"ok", 1, id="interim-and-final"),
    pytest.param(b"HTTP/1.1 103 Early Hints\r\n\r\n", OK, b"ok", 1, id="interim-first"),
    pytest.param(b"HTTP/1.1 204 No Content\r\n\r\n", b"", b"", 1, id="204"),
    pytest.param(b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", b"", b"", 1, id="304"),
    pytest.param(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nabcd\r\n0\r\nX-T: 1\r\n\r\n",
        b"",
        b"abcd",
        1,
        id="chunked-with-trailer",
    ),
    pytest.param(CHUNKS + b"2\r\nab\r\n", b"2\r\ncd\r\n0\r\n\r\n", b"abcd", 1, id="last-chunk-later"),
    pytest.param(CHUNKS + b"4;a=b\r\nabcd\r\n0\r\n\r\n", b"", b"abcd", 1, id="chunk-extension"),
    pytest.param(CHUNKS + b"2\r\nab\r\n0\r\n\r\n" + OK, b"", b"ab", 0, id="chunks-and-a-response"),
    pytest.param(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok", b"", b"ok", 0, id="closing"),
    pytest.param(OK + OK, b"", b"ok", 0, id="two-responses"),
]


@pytest.mark.parametrize(("first", "then", "content", "idle"), NOT_WHOLE)
@pytest.mark.rule("R276", "R287")
async def test_every_other_response_goes_to_the_parser_whole(
    silent: tuple[RawUpstream, Pool], first: bytes, then: bytes, content: bytes, idle: int
) -> None:
    """No byte is lost between the readers, and a connection with bytes to spare is not used again."""
    upstream, origin = silent
    lease = await origin.lease()
    sending = spawn(send(lease, heads=reader()), "sends", awaited=True)
    await eventually(lambda: upstream.requests)
    lease.protocol.data_received(first)
    if then:
        await asyncio.sleep(0)
        lease.protocol.data_received(then)
    reply = await sending
    assert reply.whole is None
    assert lease.protocol.receiver is None
    assert b"".join([piece async for piece in reply.content.iter_any()]) == content
    reply.finish()
    assert (origin.state().in_use, origin.state().idle) == (0, idle)


async def test_response_to_head_goes_to_the_parser() -> None:
    """RFC 9110 section 9.3.2: its length is not that of content that comes."""
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n"
    async with raw_upstream(answering(head)) as upstream, opened(upstream.url) as origin:
        reply = await send(await origin.lease(), head_only=True, heads=reader())
        assert (reply.whole, reply.bodyless, reply.length) == (None, True, 4)
        reply.finish()
        assert origin.state().idle == 1


@pytest.mark.parametrize("size", [BUFFER - 100, BUFFER, 3 * BUFFER])
async def test_no_more_than_a_buffer_is_held_at_once(size: int) -> None:
    """Content beyond it is relayed at the client's pace."""
    content = b"x" * size
    data = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + content
    async with raw_upstream(answering(data)) as upstream, opened(upstream.url) as origin:
        reply, client = await send(await origin.lease(), heads=reader()), Client()
        assert reply.whole is None or len(reply.whole) < BUFFER
        await relay(reply, b"", client.write, chunked=False)
        assert b"".join(client.writes) == content
        assert origin.state().idle == 1


@pytest.mark.parametrize(("data", "then", "reason"), FAULTS)
@pytest.mark.rule("R393")
async def test_faults_are_the_parsers(data: bytes, then: Then, reason: Reason) -> None:
    """502 and 504; no place in the pool is left."""

    async def respond(received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        await writer.drain()
        await then(writer)

    async with raw_upstream(respond) as upstream, opened(upstream.url) as origin:
        lease = await origin.lease()
        error = await fault(send(lease, response_timeout=0.1, heads=reader()))
        assert error.reason is reason
        assert lease.protocol.receiver is None
        assert (origin.state().in_use, origin.state().idle) == (0, 0)


@pytest.mark.parametrize(("data", "then", "unanswered"), ENDS)
@pytest.mark.rule("R310")
async def test_a_single_byte_counts_as_an_answer(data: bytes, then: Then, unanswered: bool) -> None:
    """Only a request of which nothing was heard may be sent again."""

    async def respond(received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        await writer.drain()
        await then(writer)

    async with raw_upstream(respond) as upstream, opened(upstream.url) as origin:
        lease = await origin.lease()
        error = await fault(send(lease, response_timeout=0.1, heads=reader()))
        assert (ended_by_upstream(error) and not lease.protocol.heard) is unanswered


@pytest.mark.rule("R284", "R393")
async def test_client_that_leaves_ends_the_wait(silent: tuple[RawUpstream, Pool]) -> None:
    """The handler is cancelled, and what may still come has no reader."""
    upstream, origin = silent
    lease = await origin.lease()
    sending = spawn(send(lease, heads=reader()), "sends", awaited=True)
    await eventually(lambda: upstream.requests)
    sending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sending
    assert lease.protocol.receiver is None
    assert (origin.state().in_use, origin.state().idle) == (0, 0)
    await eventually(lambda: upstream.open_connections == 0)


async def _whole_then(silent: tuple[RawUpstream, Pool], then: Callable[[Any], None]) -> Reply:
    """Return the reply when something happens after its last byte and before it was looked at."""
    upstream, origin = silent
    lease = await origin.lease()
    sending = spawn(send(lease, heads=reader()), "sends", awaited=True)
    await eventually(lambda: upstream.requests)
    lease.protocol.data_received(OK)
    then(lease.protocol)
    reply = await sending
    assert reply.whole == b"ok"
    reply.finish()
    assert (origin.state().in_use, origin.state().idle) == (0, 0)
    return reply


async def test_bytes_behind_the_end_cost_the_connection(silent: tuple[RawUpstream, Pool]) -> None:
    """Response smuggling: they must not answer the next request."""
    await _whole_then(silent, lambda protocol: protocol.data_received(OK))


async def test_connection_that_ends_behind_the_end_is_not_kept(silent: tuple[RawUpstream, Pool]) -> None:
    """The response was complete: its client gets it."""
    await _whole_then(silent, lambda protocol: protocol.transport.abort())
    upstream, _ = silent
    await eventually(lambda: upstream.open_connections == 0)


async def test_exception_behind_the_end_does_no_harm(silent: tuple[RawUpstream, Pool]) -> None:
    """The time for the response may be over in the turn in which it came."""
    await _whole_then(silent, lambda protocol: protocol.set_exception(TimeoutError()))


async def test_response_in_the_turn_in_which_its_time_is_over_is_one(silent: tuple[RawUpstream, Pool]) -> None:
    """Whichever comes first, there is one end, and the connection is not used again."""
    upstream, origin = silent
    lease = await origin.lease()
    sending = spawn(send(lease, heads=reader()), "sends", awaited=True)
    await eventually(lambda: upstream.requests)
    protocol = lease.protocol
    protocol.set_exception(TimeoutError())
    assert protocol.receiver is not None
    protocol.receiver.upstream_lost(False)
    protocol.data_received(OK)
    reply = await sending
    assert reply.whole == b"ok"
    reply.finish()
    assert (origin.state().in_use, origin.state().idle) == (0, 0)


@pytest.mark.parametrize("leaves", [False, True])
async def test_unforeseen_fault_in_the_reading_is_the_exchanges(silent: tuple[RawUpstream, Pool], leaves: bool) -> None:
    """It ends this exchange, not the event loop's callback; and when no request waits any more, it ends nothing."""

    class Wrong(PlainReader):
        def read(self, block: bytes) -> PlainHead | None:
            raise RuntimeError("wrong")

    upstream, origin = silent
    lease = await origin.lease()
    sending = spawn(send(lease, heads=Wrong(b"gw")), "sends", awaited=True)
    await eventually(lambda: upstream.requests)
    if leaves:
        sending.cancel()
    lease.protocol.data_received(OK)
    with pytest.raises(asyncio.CancelledError if leaves else RuntimeError):
        await sending
    assert (origin.state().in_use, origin.state().idle) == (0, 0)


@pytest.mark.parametrize("fields", [MAX_RESPONSE_FIELDS - 1, MAX_RESPONSE_FIELDS])
async def test_number_of_fields_has_one_bound(fields: int) -> None:
    """CWE-770: whichever parser reads the head."""
    outcomes = []
    data = b"HTTP/1.1 200 OK\r\n" + b"X:\r\n" * fields + b"Content-Length: 2\r\n\r\nok"
    for heads in (reader(), None):
        async with raw_upstream(answering(data)) as upstream, opened(upstream.url) as origin:
            try:
                reply = await send(await origin.lease(), heads=heads)
            except GatewayError as error:
                outcomes.append(error.reason.code)
            else:
                outcomes.append(str(len(reply.fields)))
                reply.abort()
    assert outcomes[0] == outcomes[1]
    assert (outcomes[0] == Reasons.UPSTREAM_PROTOCOL.code) is (fields >= MAX_RESPONSE_FIELDS)
