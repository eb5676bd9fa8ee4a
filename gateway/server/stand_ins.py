"""What aiohttp's parser is given in place of the heads that clients send.

Only the stand-ins live here, and what keeps them and the real heads together.
aiohttp refuses methods that it does not know, fields that are repeated, and
more that is nothing between a client and a service; so it gets a head of the
same framing, which asks the same of the connection, and says nothing else. The
danger of this file is a mix-up: each stand-in has a number, and a head is given
out for its own number only.
"""

from __future__ import annotations

from collections import deque

from aiohttp import web

from gateway.server.framing import Head

#: In place of bytes that were found unsound: an error at every point of a message.
NO_REQUEST = b"\x00\r\n\r\n"


class StandIns:
    """The heads of one connection for which aiohttp has stand-ins, and which no lane has taken yet.

    Attributes:
        weight: the sum of theirs.
    """

    __slots__ = ("_heads", "_number", "weight")

    def __init__(self) -> None:
        self._heads: deque[tuple[Head, bytes]] = deque()  # with the stand-ins' targets
        self._number = self.weight = 0

    def __len__(self) -> int:
        return len(self._heads)

    def make(self, head: Head) -> bytes:
        """Return what is given in place of a head, which is kept."""
        self._number += 1
        target = b"/%d" % self._number
        self._heads.append((head, target))
        self.weight += head.weight
        lines = [b"POST %b HTTP/1.%d" % (target, head.http_11), b"Host: h"]
        lines += [b"%b: %b" % pair for pair in head.headers if pair[0].lower() == b"connection"]
        if head.chunked:
            lines.append(b"Transfer-Encoding: chunked")
        elif head.length:
            lines.append(b"Content-Length: %d" % head.length)
        return b"\r\n".join(lines) + b"\r\n\r\n"

    def take(self, parsed: web.BaseRequest) -> Head:
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
