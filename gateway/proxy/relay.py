"""A response's content on its way to the client.

Only the pace and the framing of content live here: pieces go out as they come
in, never decoded, at the pace of the slower side. A response that breaks off
never ends like a complete one (RFC 9112 section 8): whoever relays must close
the client's connection when this raises.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aiohttp import ClientError
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.streams import StreamReader

from gateway.errors import GatewayError, Reason
from gateway.proxy.reply import Reply

Write = Callable[[bytes], Awaitable[None]]


async def relay(reply: Reply, head: bytes, write: Write, *, chunked: bool) -> None:
    """Send ``head`` and then the reply's content to a client.

    Args:
        reply: the response; its connection is returned or closed here, whatever happens, and
            ``relayed`` counts its content.
        head: the response's head as the client gets it.
        write: sends bytes to the client and waits while it cannot take more.
        chunked: frame the content in chunks (RFC 9112 section 7.1).

    Raises:
        GatewayError: the upstream broke off or was too slow, or the rest of the request's content was bad.
        ConnectionError: the client left.
    """
    pending = head
    content = reply.content
    try:
        if reply.whole is not None:
            reply.relayed = len(reply.whole)
            reply.finish()
            await write(head + reply.whole)  # never in chunks: it has a length
            return
        while not reply.bodyless:
            piece = _ready(content) if pending else await content.readany()
            reply.relayed += len(piece)
            if content.at_eof():
                if reply.truncated() or (reply.length is not None and reply.relayed != reply.length):
                    raise GatewayError(Reason.UPSTREAM_DISCONNECTED, detail="content broke off")
                pending += _framed(piece, chunked) + (b"0\r\n\r\n" if chunked else b"")
                break
            if pending or piece:
                await write(pending + _framed(piece, chunked))
                pending = b""
        reply.finish()
        if pending:
            await write(pending)
    except BaseException as error:
        reply.abort()
        if isinstance(error, GatewayError | ConnectionResetError):
            raise
        if isinstance(error, TimeoutError):
            raise GatewayError(Reason.UPSTREAM_TIMEOUT, detail="between two reads of content") from error
        if isinstance(error, HttpProcessingError):
            raise GatewayError(Reason.UPSTREAM_PROTOCOL, detail="content framing") from error
        if isinstance(error, ClientError):
            raise GatewayError(Reason.UPSTREAM_DISCONNECTED, detail="content broke off") from error
        raise


def _ready(content: StreamReader) -> bytes:
    """Return what has arrived already, so that a small response leaves in one write with its head."""
    return content.read_nowait() if content.exception() is None and not content.at_eof() else b""


def _framed(piece: bytes, chunked: bool) -> bytes:
    if not chunked or not piece:
        return piece
    return b"%x\r\n%b\r\n" % (len(piece), piece)
