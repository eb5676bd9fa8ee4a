"""A request's content on its way in from the client, as aiohttp reads it.

This file has its pace, its limit and the translation of what goes wrong with
it. Nothing is buffered beyond what aiohttp's stream holds, and nothing is
decoded but the chunked framing (RFC 9112 section 7.1).
"""

from __future__ import annotations

import asyncio
import contextlib

from aiohttp import web

from gateway.errors import GatewayError, Reasons
from gateway.http1.plain_response import CONTINUE
from gateway.server.aiohttp_lane.protocol import CONTENT_FAULTS
from gateway.server.request.facts import Facts
from gateway.server.sockets.lingering import MAX_LINGERING_SECONDS
from gateway.settings.tables.server import Server


class ClientContent:
    """The content of one request.

    Attributes:
        chunked: it came, and is sent on, in chunks.
        size: bytes read so far.
        awaited: the client still waits for a 100 before it sends (RFC 9110 section 10.1.1).
    """

    __slots__ = ("_limit", "_patience", "_request", "awaited", "chunked", "size")

    def __init__(self, request: web.BaseRequest, facts: Facts, limits: Server) -> None:
        self._request = request
        self._limit = limits.max_body_bytes
        self._patience = limits.request_body_timeout_seconds or None
        self.chunked = bool(facts.transfer_encoding)
        self.size = 0
        self.awaited = bool(facts.expect) and request.version >= (1, 1) and not request.content.is_eof()

    @property
    def unread(self) -> bool:
        """Whether some of it has not come in yet."""
        return not self._request.content.is_eof()

    def whole(self) -> bytes | None:
        """Return all of the content if it has arrived completely, else None."""
        stream = self._request.content
        if not stream.is_eof() or stream.exception() is not None:
            return None
        return self._counted(b"" if stream.at_eof() else stream.read_nowait())

    async def read_rest(self) -> bool:
        """Read and drop what still comes; return whether it came to its end, within the time of ``lingering.py``.

        The next request on the connection is behind it.
        """
        with contextlib.suppress(TimeoutError, GatewayError):
            async with asyncio.timeout(MAX_LINGERING_SECONDS):
                while await self.read():
                    pass
                return True
        return False

    async def read(self) -> bytes:
        """Return the next piece of content; empty at the end.

        Raises:
            GatewayError: the framing is broken, the limit is passed, nothing came for too long, or the client left.
        """
        try:
            if self.awaited:
                # Only now: the caller is accepted and a connection to the upstream stands (R293).
                self.awaited = False
                await self._request.writer.write(CONTINUE)
            stream = self._request.content
            if stream.total_bytes > self.size or stream.is_eof():
                return self._counted(await stream.readany())  # without a wait
            async with asyncio.timeout(self._patience):
                piece = await stream.readany()
            return self._counted(piece)
        except TimeoutError:
            raise GatewayError(Reasons.BODY_TIMEOUT) from None
        except CONTENT_FAULTS:
            raise GatewayError(Reasons.MALFORMED_HTTP, detail="content framing") from None
        except ConnectionError:
            raise GatewayError(Reasons.CLIENT_GONE) from None

    def _counted(self, piece: bytes) -> bytes:
        self.size += len(piece)
        if self._limit and self.size > self._limit:
            raise GatewayError(Reasons.BODY_TOO_LARGE)
        return piece
