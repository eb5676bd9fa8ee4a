"""One exchange with an upstream: what is sent, what ends it, and that nothing of it stays behind."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from gateway import tasks
from gateway.errors import GatewayError, Reason, Reasons
from gateway.tasks import spawn
from gateway.upstream.exchange.exchange import ended_by_upstream, exchange
from gateway.upstream.exchange.relay import relay
from gateway.upstream.exchange.reply import Reply
from gateway.upstream.pool.upstream_url import Lease
from tests.support.clock import eventually, settle
from tests.support.upstreams.recording import OK, Received, raw_upstream, reset
from tests.upstream.pools import GET, opened

POST = b"POST / HTTP/1.1\r\nHost: up\r\nContent-Length: 6\r\n\r\n"
POST_CHUNKED = b"POST / HTTP/1.1\r\nHost: up\r\nTransfer-Encoding: chunked\r\n\r\n"


class Pieces:
    """A request's content as a test feeds it: pieces, then the end or a fault."""

    def __init__(self, *pieces: bytes | Exception, chunked: bool = True, whole: bytes | None = None) -> None:
        self.chunked = chunked
        self._whole = whole
        self._queue = asyncio.Queue[bytes | Exception]()
        for piece in pieces:
            self.add(piece)

    def add(self, piece: bytes | Exception) -> None:
        self._queue.put_nowait(piece)

    def whole(self) -> bytes | None:
        return self._whole

    async def read(self) -> bytes:
        piece = await self._queue.get()
        if isinstance(piece, Exception):
            raise piece
        return piece


async def send(lease: Lease, head: bytes = GET, content: Pieces | None = None, **options: Any) -> Reply:
    facts: dict[str, Any] = {"head_only": False, "response_timeout": 5, "idle_timeout": 5, **options}
    return await exchange(lease, head, content, **facts)


async def fault(sending: Awaitable[Reply]) -> GatewayError:
    with pytest.raises(GatewayError) as raised:
        await sending
    await settle(3)
    assert not [task for task in tasks.running() if task.get_name() in ("upload", "response head")]
    return raised.value


@pytest.mark.parametrize(
    ("chunked", "whole", "sent"),
    [
        (False, b"abcdef", POST + b"abcdef"),
        (True, b"abcdef", POST_CHUNKED + b"6\r\nabcdef\r\n0\r\n\r\n"),
        (True, b"", POST_CHUNKED + b"0\r\n\r\n"),
    ],
)
@pytest.mark.rule("R280", "R300")
async def test_content_that_is_there_goes_out_with_the_head(chunked: bool, whole: bytes, sent: bytes) -> None:
    """One write, no task, and the framing that the head announces."""
    seen = b""

    async def respond(received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        nonlocal seen
        seen = received.head + await reader.readexactly(len(sent) - len(received.head))
        return OK

    async with raw_upstream(respond, early=True) as upstream, opened(upstream.url) as origin:
        head = POST_CHUNKED if chunked else POST
        reply = await send(await origin.lease(), head, Pieces(chunked=chunked, whole=whole))
        assert reply.upload is None
        assert seen == sent
        assert await reply.content.read() == b"ok"
        reply.finish()
        assert origin.state().idle == 1


@pytest.mark.rule("R280")
async def test_content_that_comes_in_pieces_keeps_the_connection_when_all_went_well() -> None:
    """The upload ends before the response; the connection is used again."""
    async with raw_upstream() as upstream, opened(upstream.url) as origin:
        reply = await send(await origin.lease(), POST_CHUNKED, Pieces(b"abc", b"def", b""))
        assert await reply.content.read() == b"ok"
        reply.finish()
        assert (origin.state().in_use, origin.state().idle) == (0, 1)
        assert upstream.requests[0].body == b"abcdef"


@pytest.mark.parametrize("reason", [Reasons.BODY_TOO_LARGE, Reasons.MALFORMED_HTTP, Reasons.CLIENT_GONE])
@pytest.mark.rule("R211", "R283", "R284")
async def test_fault_of_the_clients_content_ends_the_exchange(reason: Reason) -> None:
    """With the client's reason; the upstream's request never looks complete."""
    async with raw_upstream() as upstream, opened(upstream.url) as origin:
        content = Pieces(b"abc")
        sending = spawn(send(await origin.lease(), POST_CHUNKED, content), "sends", awaited=True)
        await eventually(lambda: upstream.requests)
        content.add(GatewayError(reason))
        assert (await fault(sending)).reason is reason
        assert origin.state().in_use == 0
        await eventually(lambda: upstream.open_connections == 0)
        assert not upstream.requests[0].complete


@pytest.mark.rule("R284", "R393")
async def test_cancelled_exchange_leaves_no_upload_and_no_connection() -> None:
    """The client left, so the handler is cancelled."""
    async with raw_upstream() as upstream, opened(upstream.url) as origin:
        sending = spawn(send(await origin.lease(), POST_CHUNKED, Pieces(b"abc")), "sends", awaited=True)
        await eventually(lambda: upstream.requests)
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        await settle(3)
        assert not tasks.running()
        assert origin.state().in_use == 0
        await eventually(lambda: upstream.open_connections == 0)


async def close(writer: asyncio.StreamWriter) -> None:
    writer.close()


async def reset_later(writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(0.02)  # a reset may overtake what is still in flight
    reset(writer)


async def stay(writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(0.3)


FAULTS = [
    pytest.param(b"", close, Reasons.UPSTREAM_DISCONNECTED, id="closed"),
    pytest.param(b"", reset_later, Reasons.UPSTREAM_DISCONNECTED, id="reset"),
    pytest.param(b"HTTP/1.1 200 OK\r\nContent-Le", close, Reasons.UPSTREAM_DISCONNECTED, id="half-a-head"),
    pytest.param(b"nonsense\r\n\r\n", stay, Reasons.UPSTREAM_PROTOCOL, id="nonsense"),
    pytest.param(b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\n\r\n", stay, Reasons.UPSTREAM_PROTOCOL, id="unasked-101"),
    pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", stay, Reasons.UPSTREAM_PROTOCOL, id="bad-length"),
    pytest.param(b"", stay, Reasons.UPSTREAM_TIMEOUT, id="silent"),
    pytest.param(b"HTTP/1.1 100 Continue\r\n\r\n", stay, Reasons.UPSTREAM_TIMEOUT, id="only-interim"),
]


# The time for the response begins when the request is complete: a running upload has no such timeout.
WITH_UPLOADS = [
    pytest.param(*fault.values, upload, id=f"{fault.id}-{upload}")
    for fault in FAULTS
    for upload in ("none", "sent", "running")
    if not (upload == "running" and fault.values[2] is Reasons.UPSTREAM_TIMEOUT)
]


@pytest.mark.parametrize(("data", "then", "reason", "upload"), WITH_UPLOADS)
@pytest.mark.rule("R285", "R393")
async def test_every_fault_of_an_upstream_ends_connection_and_upload(
    data: bytes, then: Callable[[asyncio.StreamWriter], Awaitable[None]], reason: Reason, upload: str
) -> None:
    """502 and 504; neither a task nor a place in the pool is left."""

    async def respond(received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        await writer.drain()
        await then(writer)

    async with raw_upstream(respond, early=True) as upstream, opened(upstream.url) as origin:
        content = None if upload == "none" else Pieces(b"abc", *([b""] if upload == "sent" else []))
        head = GET if content is None else POST_CHUNKED
        error = await fault(send(await origin.lease(), head, content, response_timeout=0.1))
        assert error.reason is reason
        assert (origin.state().in_use, origin.state().idle) == (0, 0)


ENDS = [
    pytest.param(b"", close, True, id="closed"),
    pytest.param(b"", reset_later, True, id="reset"),
    pytest.param(b"H", close, False, id="one-byte"),
    pytest.param(b"H", reset_later, False, id="one-byte-reset"),
    pytest.param(b"HTTP/1.1 200 OK\r\nX: ", close, False, id="half-a-head"),
    pytest.param(b"HTTP/1.1 200 OK\r\nX: ", reset_later, False, id="half-a-head-reset"),
    pytest.param(b"HTTP/1.1 103 Early Hints\r\n\r\n", close, False, id="interim"),
    pytest.param(b"nonsense\r\n\r\n", close, False, id="nonsense"),
    pytest.param(b"", stay, False, id="silent"),
]


@pytest.mark.parametrize("reused", [False, True])
@pytest.mark.parametrize(("data", "then", "unanswered"), ENDS)
@pytest.mark.rule("R310")
async def test_only_an_end_without_a_single_byte_counts_as_unanswered(
    data: bytes, then: Callable[[asyncio.StreamWriter], Awaitable[None]], unanswered: bool, reused: bool
) -> None:
    """After any byte, interim responses included, the upstream may have acted on the request."""

    async def respond(received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes | None:
        if reused and len(upstream.requests) == 1:
            return OK
        writer.write(data)
        await writer.drain()
        await then(writer)
        return None

    async with raw_upstream(respond) as upstream, opened(upstream.url) as origin:
        if reused:
            reply = await send(await origin.lease())
            await reply.content.read()
            reply.finish()
        lease = await origin.lease()
        assert lease.reused is reused
        error = await fault(send(lease, response_timeout=0.1))
        assert (ended_by_upstream(error) and not lease.protocol.heard) is unanswered


@pytest.mark.rule("R310")
async def test_connection_that_closed_between_lease_and_request_is_unanswered() -> None:
    """Nothing was sent at all."""
    async with raw_upstream() as upstream, opened(upstream.url) as origin:
        lease = await origin.lease()
        assert lease.protocol.transport is not None
        lease.protocol.transport.close()
        error = await fault(send(lease))
        assert (error.reason, ended_by_upstream(error)) == (Reasons.UPSTREAM_DISCONNECTED, True)
        assert not lease.protocol.heard


async def test_answer_before_the_end_of_the_upload_passes_although_the_upstream_closes() -> None:
    """RFC 9112 section 9.6: 413 and close while the client still sends; the answer is what counts."""

    async def respond(received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 413 Too Big\r\nContent-Length: 3\r\n\r\nbig")
        await writer.drain()

    async with raw_upstream(respond, early=True) as upstream, opened(upstream.url) as origin:
        content = Pieces(b"abc")
        reply = await send(await origin.lease(), POST_CHUNKED, content)
        await eventually(lambda: upstream.open_connections == 0)
        content.add(b"more")  # finds the connection closed: no fault of its own
        await settle()
        assert (reply.status, reply.answered_early) == (413, True)
        assert await reply.content.read() == b"big"
        reply.finish()
        assert (origin.state().in_use, origin.state().idle) == (0, 0)


@pytest.mark.parametrize("reason", [Reasons.BODY_TOO_LARGE, Reasons.MALFORMED_HTTP])
@pytest.mark.rule("R283", "R284")
async def test_bad_content_after_an_early_answer_ends_the_response(reason: Reason) -> None:
    """The upstream waits for content that will never be whole, and the client for its echo of it."""

    async def respond(received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while piece := await reader.read(100):
            writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))

    written = b""

    async def write(data: bytes) -> None:
        nonlocal written
        written += data

    async with raw_upstream(respond, early=True) as upstream, opened(upstream.url) as origin:
        content = Pieces(b"abc")
        reply = await send(await origin.lease(), POST_CHUNKED, content, idle_timeout=0)
        relaying = spawn(relay(reply, b"HEAD ", write, chunked=True), "relays", awaited=True)
        await eventually(lambda: b"abc" in written)
        content.add(GatewayError(reason))
        with pytest.raises(GatewayError) as raised:
            async with asyncio.timeout(2):
                await relaying
        assert raised.value.reason is reason
        assert origin.state().in_use == 0
        await eventually(lambda: upstream.open_connections == 0)


@pytest.mark.rule("R315")
async def test_time_for_the_response_begins_when_the_request_is_complete() -> None:
    """A long upload is no slow upstream; a silent upstream after it is."""
    async with raw_upstream(early=True, respond=_never) as upstream, opened(upstream.url) as origin:
        content = Pieces(b"abc")
        sending = spawn(send(await origin.lease(), POST_CHUNKED, content, response_timeout=0.05), "sends", awaited=True)
        await asyncio.sleep(0.15)
        assert not sending.done()
        content.add(b"")
        assert (await fault(sending)).reason is Reasons.UPSTREAM_TIMEOUT
        assert upstream.connections == 1


async def _never(received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()
    await reader.read()
