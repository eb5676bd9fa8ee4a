"""A recording upstream: it keeps every byte it gets and answers as a test says.

It reads requests with a parser of its own, so that what the gateway sent is
judged by something other than the gateway's libraries.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

from tests.support.wire.fields import Fields

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@dataclass
class Received(Fields):
    """One request as it arrived."""

    head: bytes
    body: bytes = b""
    complete: bool = False
    connection: int = 0

    @property
    def line(self) -> bytes:
        return self.head.split(b"\r\n", 1)[0]

    @property
    def target(self) -> bytes:
        return self.line.split(b" ")[1]


Responder = Callable[["Received", asyncio.StreamReader, asyncio.StreamWriter], Awaitable[bytes | None]]


def reset(writer: asyncio.StreamWriter) -> None:
    """Close a connection by RST instead of FIN."""
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def breaking_off(data: bytes, when: asyncio.Event, *, by_reset: bool = True) -> Responder:
    """Return a responder that sends ``data``, and ends the connection once ``when`` is set.

    A reset may overtake what is still in flight: set ``when`` once the data has arrived.
    """

    async def respond(received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        await writer.drain()
        await when.wait()
        if by_reset:
            reset(writer)

    return respond


@dataclass
class RawUpstream:
    """Answers each request with ``respond``'s bytes; None closes the connection without an answer.

    ``respond`` is called when the head has arrived and the body has been read,
    or, with ``early`` set, before the body is read.
    """

    respond: Responder | None = None
    early: bool = False
    requests: list[Received] = field(default_factory=list)
    connections: int = 0
    open_connections: int = 0
    raw: bytes = b""
    port: int = 0
    scheme: str = "http"
    closed: asyncio.Event = field(default_factory=asyncio.Event)
    got_request: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.open_connections += 1
        number = self.connections
        try:
            while await self._one(reader, writer, number):
                pass
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self.open_connections -= 1
            self.closed.set()
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> bool:
        head = await reader.readuntil(b"\r\n\r\n")
        self.raw += head
        received = Received(head, connection=number)
        self.requests.append(received)
        self.got_request.set()
        if not self.early:
            await self._body(received, reader)
        answer = OK if self.respond is None else await self.respond(received, reader, writer)
        if answer is None:
            return False
        writer.write(answer)
        await writer.drain()
        return True

    async def _body(self, received: Received, reader: asyncio.StreamReader) -> None:
        coding, length = received.one(b"transfer-encoding"), received.one(b"content-length")
        assert coding is None or length is None, "the gateway sent conflicting framing"
        if coding is not None:
            assert coding == b"chunked"
            while size := int((await reader.readuntil(b"\r\n"))[:-2], 16):
                received.body += await reader.readexactly(size)
                assert await reader.readexactly(2) == b"\r\n"
            assert await reader.readexactly(2) == b"\r\n", "trailers came through"
        elif length is not None:
            left = int(length)
            while left:
                piece = await reader.read(min(left, 65536))
                if not piece:
                    raise asyncio.IncompleteReadError(received.body, left)
                received.body += piece
                left -= len(piece)
        received.complete = True


@contextlib.asynccontextmanager
async def raw_upstream(
    respond: Responder | None = None, *, early: bool = False, tls: ssl.SSLContext | None = None
) -> AsyncIterator[RawUpstream]:
    """Run a recording upstream on loopback."""
    upstream = RawUpstream(respond, early, scheme="https" if tls else "http")
    server = await asyncio.start_server(upstream.serve, "127.0.0.1", 0, limit=1 << 20, ssl=tls)
    upstream.port = server.sockets[0].getsockname()[1]
    try:
        yield upstream
    finally:
        server.close()
