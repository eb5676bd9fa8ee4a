"""A request's content on its way to the upstream.

This file has its framing and its pace: pieces go out as they come in, and what
may come back meanwhile is ``exchange.py``'s and ``relay.py``'s. A response that
is complete does not end an upload (RFC 9112 section 9.5): whether the upstream
wants the rest is shown by its reading on.
"""

from __future__ import annotations

import asyncio
import fcntl
import struct
import termios
from collections.abc import Callable
from typing import Protocol

from aiohttp.http_writer import StreamWriter

from gateway.tasks import cancelled, spawn
from gateway.upstream.pool.connection import UpstreamConnection

#: What ends content in chunks, without trailers (RFC 9112 section 7.1).
LAST_CHUNK = b"0\r\n\r\n"

#: Content of more bytes than this may be unread where it was refused: see ``may_close_unread``.
MAX_TAKEN_WITH_HEAD = 16384


class Content(Protocol):
    """A request's content as it comes from the client."""

    chunked: bool

    def whole(self) -> bytes | None:
        """Return all of it if it has arrived completely, else None."""
        ...

    async def read(self) -> bytes:
        """Return the next piece; empty at the end.

        Raises:
            GatewayError: malformed, too large, or the client left.
        """
        ...


class Upload:
    """A head and content that are being sent, at the pace of the slower side.

    Args:
        protocol: the connection.
        head: the request's head.
        content: its content.
        sent: called when nothing more will be sent, unless the content could not be had.

    Attributes:
        task: sends; ends with what reading ``content`` raised, never by a fault of the upstream's side.
        whole: all of it was written.
        left: the upstream closed the connection before that, behind its response.
    """

    __slots__ = ("_content", "_moved_at", "_protocol", "_sent", "left", "task", "whole")

    def __init__(self, protocol: UpstreamConnection, head: bytes, content: Content, sent: Callable[[], None]) -> None:
        self._protocol = protocol
        self._content = content
        self._sent = sent
        self._moved_at = asyncio.get_running_loop().time()
        self.whole = self.left = False
        self.task = spawn(self._send(head), "upload", awaited=True)

    @property
    def running(self) -> bool:
        """Whether more of it may be sent."""
        return not self.task.done()

    def seconds_left(self, idle_timeout: float) -> float | None:
        """Return how much longer the upstream may take nothing; None while it is not waited for, or for no limit."""
        if not idle_timeout or not self._protocol.writing_paused:
            return None
        return max(0.0, self._moved_at + idle_timeout - asyncio.get_running_loop().time())

    async def _send(self, head: bytes) -> None:
        loop, content = asyncio.get_running_loop(), self._content
        writer = StreamWriter(self._protocol, loop)
        try:
            await writer.write(head, drain=False)
            while piece := await content.read():
                self._moved_at = loop.time()
                await writer.write(chunk(piece) if content.chunked else piece)
                self._moved_at = loop.time()
            if content.chunked:
                await writer.write(LAST_CHUNK)
            self.whole = True
        except ConnectionError:
            # The upstream closed before it had everything. It may have answered
            # first (RFC 9112 section 9.6): the read of the response tells.
            pass
        self._sent()

    async def finished(self, idle_timeout: float) -> None:
        """Wait for the end of an upload whose response is complete already, and until the kernel has all of it.

        It ends, not whole, when the upstream closes the connection, or when nothing moves for a time.

        Args:
            idle_timeout: seconds without a byte from the client or to the upstream; 0 for no limit.

        Raises:
            GatewayError: the content could not be had.
        """
        closed = self._protocol.closed
        if closed is not None:
            closed.add_done_callback(_seen)
        rest = spawn(self._flushed(), "end of an upload", awaited=True)
        try:
            while not rest.done() and closed is not None and not closed.done():
                left = self._moved_at + idle_timeout - asyncio.get_running_loop().time() if idle_timeout else None
                if left is not None and left <= 0:
                    break
                await asyncio.wait({rest, closed}, timeout=left, return_when=asyncio.FIRST_COMPLETED)
            if rest.done():
                rest.result()
            else:
                self.whole = False
            if not self.whole and (closed is None or closed.done()):
                self.left = True
                await cancelled(self.task)  # the rest of the content is for others to read
        finally:
            rest.cancel()
            self.task.cancel()

    async def _flushed(self) -> None:
        await asyncio.shield(self.task)
        transport = self._protocol.transport
        if not self.whole or transport is None:
            return
        transport.set_write_buffer_limits(high=0)  # writing is paused until the last byte has left
        try:
            await self._protocol.drained()
        except ConnectionError:
            self.whole = False


def _seen(closed: asyncio.Future[None]) -> None:
    if not closed.cancelled():
        closed.exception()  # the end of the connection is reported elsewhere


def may_close_unread(status: int, size: int) -> bool:
    """Whether a service that answers so may not have read the request, and close the connection in a moment.

    The next request over it would be lost. Small content comes with the head, and is read with it.

    Args:
        status: of the response.
        size: of the request's content, in bytes.
    """
    return status >= 400 and size > MAX_TAKEN_WITH_HEAD


def unacknowledged(transport: asyncio.BaseTransport | None) -> int:
    """Return how many bytes the kernel holds that the peer has not acknowledged; 0 where that is unknown."""
    if transport is None:
        return 0
    try:
        descriptor = transport.get_extra_info("socket").fileno()
        return int(struct.unpack("i", fcntl.ioctl(descriptor, termios.TIOCOUTQ, b"\0\0\0\0"))[0])
    except (OSError, ValueError, AttributeError):
        return 0  # closed, or a system that does not say


def whole_content(content: Content) -> bytes | None:
    """Return content that has arrived completely, framed as its head announces; None when it has not."""
    whole = content.whole()
    if whole is None or not content.chunked:
        return whole
    return (chunk(whole) if whole else b"") + LAST_CHUNK


def chunk(piece: bytes) -> bytes:
    """Return a piece of content, which is not empty, as a chunk (RFC 9112 section 7.1)."""
    return b"%x\r\n%b\r\n" % (len(piece), piece)
