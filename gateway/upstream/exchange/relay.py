"""A response's content on its way to the client.

This file has the pace and the framing of content: pieces go out as they come
in, never decoded, at the pace of the slower side. A response that breaks off
never ends like a complete one (RFC 9112 section 8): the caller must close the
client's connection when this raises.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aiohttp import ClientError
from aiohttp.http_exceptions import HttpProcessingError

from gateway.errors import GatewayError, Reasons
from gateway.upstream.exchange.reply import Reply
from gateway.upstream.exchange.upload import LAST_CHUNK, chunk
from gateway.upstream.pool.connection import BUFFER, ContentStream

Write = Callable[[bytes], Awaitable[None]]


async def relay(reply: Reply, head: bytes, write: Write, *, chunked: bool, idle_timeout: float = 0) -> None:
    """Send ``head`` and then the reply's content to a client, and let the request's own content end.

    Args:
        reply: the response; its connection is returned or closed here, whatever happens, and it is
            noted what was written: ``begun``, ``relayed``, ``delivered``.
        head: the response's head as the client gets it.
        write: sends bytes to the client and waits while it cannot take more.
        chunked: frame the content in chunks (RFC 9112 section 7.1).
        idle_timeout: seconds that an upload may stand still after the response; 0 for no limit.

    Raises:
        GatewayError: the upstream broke off or was too slow, or the rest of the request's content was bad.
            A response that is known to be broken before anything of it was written is not begun,
            unless all that can be known of its length is its end.
        ConnectionError: the client left.
    """
    try:
        if reply.whole is not None:
            reply.finish()
            end = LAST_CHUNK if chunked else b""
            await _write(reply, write, head + _framed(reply.whole, chunked) + end, len(reply.whole))
        else:
            await _relay_content(reply, head, write, chunked)
        reply.delivered = True
        if not reply.ended:
            await reply.finish_upload(idle_timeout)
    except BaseException as error:
        reply.abort()
        if isinstance(error, GatewayError | ConnectionResetError):
            raise
        if isinstance(error, TimeoutError):
            raise GatewayError(Reasons.UPSTREAM_TIMEOUT, detail="between two reads of content") from error
        if isinstance(error, HttpProcessingError):
            raise GatewayError(Reasons.UPSTREAM_PROTOCOL, detail="content framing") from error
        if isinstance(error, ClientError):
            raise GatewayError(Reasons.UPSTREAM_DISCONNECTED, detail="content broke off") from error
        raise


async def _relay_content(reply: Reply, pending: bytes, write: Write, chunked: bool) -> None:
    content = reply.content
    if not reply.bodyless and (error := content.exception()) is not None:
        raise error
    read, piece = 0, b""
    while not reply.bodyless:
        piece = _ready(content) if pending else await content.read(BUFFER)
        read += len(piece)
        if content.at_eof():
            break
        if pending or piece:
            await _write(reply, write, pending + _framed(piece, chunked), len(piece))
            pending = b""
    pending += _framed(piece, chunked)
    if reply.truncated():
        # What came is passed on, as a client of the service would get it: there may be an answer to an upload in it.
        if pending:
            await _write(reply, write, pending, len(piece))
        raise GatewayError(Reasons.UPSTREAM_DISCONNECTED, detail=_broken_end(reply))
    if not reply.bodyless:
        if reply.length is not None and read != reply.length:
            raise GatewayError(Reasons.UPSTREAM_DISCONNECTED, detail="content broke off")
        pending += LAST_CHUNK if chunked else b""
    if not reply.answered_early:
        reply.finish()  # before the client takes it: the connection is free for the next request
    if pending:
        await _write(reply, write, pending, len(piece))


async def _write(reply: Reply, write: Write, data: bytes, content: int) -> None:
    """Write, and note it; ``content``: how many of the bytes are content, without framing."""
    reply.begun = True
    reply.relayed += content
    try:
        await write(data)
    except ConnectionError:
        reply.relayed -= content
        raise


def _broken_end(reply: Reply) -> str:
    return "no TLS closure alert" if reply.lease.protocol.secure else "content broke off"


def _ready(content: ContentStream) -> bytes:
    """Return what has arrived already, so that a small response leaves in one write with its head."""
    return b"" if content.at_eof() else content.read_nowait(BUFFER)


def _framed(piece: bytes, chunked: bool) -> bytes:
    return chunk(piece) if chunked and piece else piece
