"""A plain response that comes in one piece, taken instead of aiohttp's parser.

Waits for such a response. A response that is not plain, or not whole with its first bytes,
goes to aiohttp's parser from its first byte: there is one judge of odd
responses, and one way for content that comes bit by bit. What is plain is
``http1/plain_response.py``'s to say.
"""

from __future__ import annotations

import asyncio

from gateway.http1.chunked_content import ChunkedContent
from gateway.http1.plain_response import IN_CHUNKS, PlainHead, PlainReader
from gateway.upstream.pool.connection import BUFFER, UpstreamConnection


class WholeReading:
    """Waits for the response to a request that has been sent whole, or is about to be. Used once.

    Args:
        protocol: the connection; its bytes come here until ``result`` or the parser.
        heads: reads the head.
        idle_timeout: for the parser; see ``UpstreamConnection.expect_response``.
    """

    __slots__ = ("_arrived", "_heads", "_idle_timeout", "_protocol", "_whole")

    def __init__(self, protocol: UpstreamConnection, heads: PlainReader, idle_timeout: float) -> None:
        self._protocol = protocol
        self._heads = heads
        self._idle_timeout = idle_timeout
        self._whole: tuple[PlainHead, bytes] | None = None
        self._arrived: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        protocol.receiver = self

    async def result(self) -> tuple[PlainHead, bytes] | None:
        """Return the head and the content of the response; None when it is for aiohttp's parser, or was cut off.

        Whatever the reading of the head raises comes out here, where the caller
        handles it.
        """
        await self._arrived
        self._protocol.receiver = None
        return self._whole

    def upstream_data(self, data: bytes) -> None:
        """Take the next bytes of the response."""
        protocol = self._protocol
        if self._whole is not None:
            # Behind the response's end: it belongs to no response, and the connection is not used again.
            protocol.force_close()
            return
        protocol.heard = True
        try:
            self._read(data)
        except Exception as error:
            self._wake(error)
        else:
            self._wake()

    def _read(self, data: bytes) -> None:
        protocol = self._protocol
        end = data.find(b"\r\n\r\n") + 4
        known = self._heads.read(data[:end]) if end >= 4 and len(data) <= BUFFER else None
        if known is not None and (content := _whole_content(known, data[end:])) is not None:
            self._whole = known, content
        else:
            protocol.expect_response(head_only=False, idle_timeout=self._idle_timeout)
            protocol.data_received(data)

    def upstream_lost(self, broken: bool) -> None:
        """The connection is gone, or late: the parser's reader has its exception."""
        del broken
        self._wake()

    def _wake(self, error: Exception | None = None) -> None:
        if self._arrived.done():
            return  # it is too late, or the caller no longer waits
        if error is None:
            self._arrived.set_result(None)
        else:
            self._arrived.set_exception(error)


def _whole_content(head: PlainHead, data: bytes) -> bytes | None:
    """Return the content that stands behind a head; None when it is not whole, or not all of what stands there."""
    if head.length != IN_CHUNKS:
        return data if len(data) == head.length else None
    chunks = ChunkedContent()
    content = chunks.feed(data)
    return content if chunks.ended and not chunks.rest else None
