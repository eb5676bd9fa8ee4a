"""What aiohttp is given in place of the heads that clients send, and of the responses that they get.

This file has the stand-ins, and what keeps them and the real heads together. aiohttp refuses methods that it does not
know, fields that are repeated, and more that is nothing between a client and a service; so it gets a head of the same
framing, which asks the same of the connection, and says nothing else. The danger of this file is a mix-up: each
stand-in has a number, and a head is given out for its own number only. And aiohttp wants a response object from every
handler and writes it itself; the lanes write raw bytes, so that no field is added, folded or re-coded: ``sent``
stands for one that was written already.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import cast

from aiohttp import web

from gateway.http1.request_head import RequestHead

#: In place of bytes that were found unsound: an error at every point of a message.
NO_REQUEST = b"\x00\r\n\r\n"


# What a client may ask of its own connection (RFC 9112 section 9.3).
_ASKED = frozenset({b"close", b"keep-alive"})


class StandIns:
    """The heads of one connection for which aiohttp has stand-ins, and which no lane has taken yet.

    Attributes:
        weight: the sum of theirs.
    """

    __slots__ = ("_heads", "_number", "weight")

    def __init__(self) -> None:
        self._heads: deque[tuple[RequestHead, bytes]] = deque()  # with the stand-ins' targets
        self._number = self.weight = 0

    def __len__(self) -> int:
        return len(self._heads)

    def make(self, head: RequestHead) -> bytes:
        """Return what is given in place of a head, which is kept."""
        self._number += 1
        target = b"/%d" % self._number
        self._heads.append((head, target))
        self.weight += head.weight
        lines = [b"POST %b HTTP/1.%d" % (target, head.http_11), b"Host: h"]
        lines += [b"Connection: " + option for option in _ASKED & head.options]
        if head.chunked:
            lines.append(b"Transfer-Encoding: chunked")
        elif head.content_length:
            lines.append(b"Content-Length: %d" % head.content_length)
        return b"\r\n".join(lines) + b"\r\n\r\n"

    def take(self, parsed: web.BaseRequest) -> RequestHead:
        """Return the head of the request whose turn it is.

        Args:
            parsed: what aiohttp made of the stand-in for that head.

        Raises:
            RuntimeError: the two are not the same request.
        """
        head, expected = self._heads.popleft()
        self.weight -= head.weight
        if parsed.raw_path.encode("utf-8", "surrogateescape") != expected:
            raise RuntimeError("two parsers read different requests")
        return head


class Sent:
    """What aiohttp's protocol looks at after a handler: whether to keep the connection.

    Args:
        then: called when aiohttp is done with the request.
        first: what is waited for before that.
    """

    __slots__ = ("_first", "_then", "keep_alive")

    def __init__(
        self,
        *,
        keep_alive: bool,
        then: Callable[[], object] | None = None,
        first: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self.keep_alive = keep_alive
        self._then, self._first = then, first

    async def prepare(self, request: web.BaseRequest) -> None:
        """Nothing is left to prepare."""

    async def write_eof(self) -> None:
        """Nothing is left to write."""
        if self._first is not None:
            await self._first()
        if self._then is not None:
            self._then()
        # From Python 3.12 on aiohttp begins handlers without a turn of the loop: requests that wait on one connection,
        # and are refused without a wait, would keep it to themselves (CWE-400).
        await asyncio.sleep(0)


def sent(
    *, keep_alive: bool, then: Callable[[], object] | None = None, first: Callable[[], Awaitable[None]] | None = None
) -> web.StreamResponse:
    """Return the stand-in as the type that aiohttp's signatures ask for; see ``Sent``."""
    return cast(web.StreamResponse, Sent(keep_alive=keep_alive, then=then, first=first))
