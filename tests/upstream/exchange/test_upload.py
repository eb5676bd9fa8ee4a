"""A request's content on its way: framing, what ends it, and when it is whole."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from gateway.errors import GatewayError, Reasons
from gateway.tasks import cancelled
from gateway.upstream.exchange.upload import (
    MAX_TAKEN_WITH_HEAD,
    Upload,
    may_close_unread,
    unacknowledged,
    whole_content,
)
from gateway.upstream.pool.upstream_url import Lease
from tests.support.clock import eventually
from tests.support.socket_buffers import MIB, most_buffered
from tests.support.upstreams.recording import Received, raw_upstream
from tests.upstream.exchange.test_exchange import POST_CHUNKED, Pieces
from tests.upstream.pools import opened


class Reader:
    """An upstream that reads when a test says so, and leaves when it says so."""

    def __init__(self) -> None:
        self.read = asyncio.Event()
        self.leave = asyncio.Event()
        self.size = 0

    async def respond(self, received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        reading = asyncio.ensure_future(self._read(reader))
        await self.leave.wait()
        reading.cancel()

    async def _read(self, reader: asyncio.StreamReader) -> None:
        await self.read.wait()
        while data := await reader.read(65536):
            self.size += len(data)


@asynccontextmanager
async def leased() -> AsyncIterator[tuple[Reader, Lease]]:
    """A reader, and a connection to it."""
    service = Reader()
    async with raw_upstream(service.respond, early=True) as upstream, opened(upstream.url) as origin:
        lease = await origin.lease()
        try:
            yield service, lease
        finally:
            lease.discard()
            service.leave.set()
            await eventually(lambda: upstream.open_connections == 0)


def sending(lease: Lease, content: Pieces) -> tuple[Upload, list[int]]:
    """Begin an upload; the list counts how often it said that it had sent everything."""
    reports: list[int] = []
    return Upload(lease.protocol, POST_CHUNKED, content, lambda: reports.append(1)), reports


@pytest.mark.parametrize(
    ("chunked", "whole", "framed"),
    [
        (False, b"abcdef", b"abcdef"),
        (True, b"abcdef", b"6\r\nabcdef\r\n0\r\n\r\n"),
        (True, b"", b"0\r\n\r\n"),
        (False, b"", b""),
        (True, None, None),
        (False, None, None),
    ],
)
@pytest.mark.rule("R280", "R300")
def test_content_that_is_there_is_framed_in_one_piece(chunked: bool, whole: bytes | None, framed: bytes | None) -> None:
    assert whole_content(Pieces(chunked=chunked, whole=whole)) == framed


@pytest.mark.rule("R280")
async def test_upload_is_whole_when_everything_was_written() -> None:
    async with leased() as (service, lease):
        upload, reports = sending(lease, Pieces(b"abc", b"def", b""))
        service.read.set()
        await upload.task
        assert (upload.whole, upload.running, reports) == (True, False, [1])
        await eventually(lambda: service.size == len(b"3\r\nabc\r\n3\r\ndef\r\n0\r\n\r\n"))


async def test_upstream_that_leaves_ends_an_upload_without_a_fault() -> None:
    """RFC 9112 section 9.6: it may have answered; that is for the reader of the response to say."""
    async with leased() as (service, lease):
        content = Pieces(b"abc")
        upload, reports = sending(lease, content)
        await asyncio.sleep(0)
        service.leave.set()
        await eventually(lambda: lease.protocol.transport is None)
        content.add(b"more")
        await upload.task
        assert (upload.whole, reports) == (False, [1])


@pytest.mark.rule("R211", "R284")
async def test_content_that_cannot_be_had_is_a_fault_of_its_reader() -> None:
    """And the request is not reported as sent."""
    async with leased() as (_, lease):
        upload, reports = sending(lease, Pieces(b"abc", GatewayError(Reasons.BODY_TOO_LARGE)))
        with pytest.raises(GatewayError):
            await upload.task
        assert (upload.whole, reports) == (False, [])


@pytest.mark.rule("R427")
async def test_end_of_an_upload_is_when_the_kernel_has_all_of_it() -> None:
    """What waits in memory would be lost with the connection."""
    size = most_buffered(1) + 8 * MIB
    async with leased() as (service, lease):
        upload, _ = sending(lease, Pieces(b"x" * size, b""))
        ending = asyncio.ensure_future(upload.finished(0))
        await eventually(lambda: lease.protocol.writing_paused)
        assert not ending.done()
        service.read.set()
        async with asyncio.timeout(5):
            await ending
        assert upload.whole
        assert lease.protocol.transport is not None
        assert lease.protocol.transport.get_write_buffer_size() == 0


@pytest.mark.rule("R427")
async def test_upload_ends_when_its_upstream_closes_although_its_client_is_silent() -> None:
    """No answer can come any more."""
    async with leased() as (service, lease):
        upload, _ = sending(lease, Pieces(b"abc"))
        ending = asyncio.ensure_future(upload.finished(0))
        await asyncio.sleep(0)
        service.leave.set()
        async with asyncio.timeout(5):
            await ending
        assert not upload.whole
        await cancelled(upload.task)


@pytest.mark.parametrize("silent", ["client", "upstream"])
@pytest.mark.rule("R427")
async def test_upload_that_stands_still_ends(silent: str) -> None:
    """After the idle timeout, whichever side does nothing."""
    async with leased() as (_, lease):
        content = Pieces(b"abc") if silent == "client" else Pieces(b"x" * (most_buffered(1) + 8 * MIB), b"")
        upload, _ = sending(lease, content)
        async with asyncio.timeout(5):
            await upload.finished(0.05)
        assert not upload.whole
        await cancelled(upload.task)


@pytest.mark.rule("R427")
async def test_upload_that_moves_is_not_given_up() -> None:
    """The time limit is for standing still."""
    async with leased() as (service, lease):
        service.read.set()
        content = Pieces(b"abc")
        upload, _ = sending(lease, content)
        ending = asyncio.ensure_future(upload.finished(0.3))
        for _ in range(8):
            await asyncio.sleep(0.05)
            content.add(b"abc")
        content.add(b"")
        await ending
        assert upload.whole


@pytest.mark.rule("R284")
async def test_fault_of_the_content_comes_out_of_the_end() -> None:
    async with leased() as (_, lease):
        content = Pieces(b"abc")
        upload, _ = sending(lease, content)
        ending = asyncio.ensure_future(upload.finished(0))
        content.add(GatewayError(Reasons.MALFORMED_HTTP))
        with pytest.raises(GatewayError) as raised:
            await ending
        assert raised.value.reason is Reasons.MALFORMED_HTTP
        assert not upload.whole


@pytest.mark.rule("R285")
async def test_end_that_is_not_waited_for_any_more_leaves_no_task() -> None:
    """The client left."""
    async with leased() as (_, lease):
        upload, _ = sending(lease, Pieces(b"abc"))
        ending = asyncio.ensure_future(upload.finished(0))
        await asyncio.sleep(0)
        ending.cancel()
        await asyncio.gather(ending, return_exceptions=True)
        await eventually(upload.task.cancelled)


@pytest.mark.parametrize(
    ("status", "size", "closes"),
    [
        (200, MAX_TAKEN_WITH_HEAD + 1, False),
        (399, MAX_TAKEN_WITH_HEAD + 1, False),
        (400, MAX_TAKEN_WITH_HEAD, False),
        (400, MAX_TAKEN_WITH_HEAD + 1, True),
        (503, 1 << 30, True),
    ],
)
@pytest.mark.rule("R425")
def test_connection_of_a_refused_upload_may_be_about_to_close(status: int, size: int, closes: bool) -> None:
    """The next request would be lost on it; small ones are refused often and are read with their heads."""
    assert may_close_unread(status, size) is closes


@pytest.mark.rule("R427")
async def test_what_the_peer_has_not_taken_is_counted() -> None:
    """All of it at a peer that does not read, nothing without a connection."""
    assert unacknowledged(None) == 0
    async with leased() as (service, lease):
        transport = lease.protocol.transport
        assert transport is not None
        transport.write(POST_CHUNKED + b"x" * (most_buffered(1) + MIB))
        await eventually(lambda: unacknowledged(transport) > 0)
        service.read.set()
        await eventually(lambda: unacknowledged(transport) == 0)
        service.leave.set()
        await eventually(lambda: lease.protocol.transport is None)
        assert unacknowledged(transport) == 0
