"""One pooled connection to an upstream: aiohttp's client protocol, made to tell the whole truth.

Only seven things are added to aiohttp's: the limits on a response, the same for
all; a response whose content cannot be parsed fails at once for its reader
(aiohttp leaves the reader waiting); what has arrived when a connection ends is
read before the end is reported; a connection that ended by a fault is known
from one that was closed in order, which matters to content that ends with its
connection (RFC 9112 section 8); whether anything of a response came, which
matters to sending a request again (RFC 9112 section 9.3.1); and when it was
opened, because one that is never idle would otherwise outlive every change of
its name's addresses.

Only here does the upstream side touch what aiohttp does not promise: everything that
begins with an underscore, and ``aiohttp.client_proto``, ``connector``, ``http_parser`` and
``streams``. ``tests/test_internals.py`` names each of them and says why.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import ssl
import sys
from collections.abc import Callable, Iterator

from aiohttp import BaseConnector, ClientRequest, ClientTimeout
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection
from aiohttp.http_parser import RawResponseMessage
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader

from gateway import turns
from gateway.http1.plain_response import MAX_RESPONSE_FIELD, MAX_RESPONSE_FIELDS, Receiver

#: A response's head and its content as aiohttp reads them, and the content of a response without any.
ResponseMessage = RawResponseMessage
ContentStream = StreamReader
NO_CONTENT = EMPTY_PAYLOAD

#: A connection as aiohttp's connector lends it.
LentConnection = Connection

#: Content is read and written in pieces of about this size; it bounds what one exchange holds in memory.
BUFFER = 65536


class UpstreamConnection(ResponseHandler):
    """A connection of the pool.

    Attributes:
        broken: it ended by a fault instead of a close: by a reset, or, over TLS, without a closure
            alert (RFC 8446 section 6.1, RFC 9112 section 9.8).
        secure: it is a TLS connection.
        heard: bytes have come in since the running exchange began, or since it is idle.
        receiver: what takes the bytes instead of aiohttp's parser; None for the parser.
        opened_at: the loop's time when it was made.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self.broken = False
        self.secure = False
        self.heard = False
        self.receiver: Receiver | None = None
        self.opened_at = loop.time()
        self._tls: ssl.SSLObject | None = None
        self._closed_in_order = False
        self._ending = False
        self._in_turn = False  # it is among those that read on soon

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._tls = transport.get_extra_info("ssl_object")
        self.secure = self._tls is not None

    def expect_response(self, *, head_only: bool, idle_timeout: float) -> None:
        """Make aiohttp's parser ready to read a response: its bytes may come from now on.

        Args:
            head_only: the request is HEAD: the response has no content.
            idle_timeout: seconds between two reads of the response's content; 0 for none.
        """
        self.receiver = None
        self.set_response_params(
            skip_payload=head_only,
            read_until_eof=True,
            auto_decompress=False,
            read_timeout=idle_timeout or None,
            read_bufsize=BUFFER,
            max_line_size=MAX_RESPONSE_FIELD,
            max_field_size=MAX_RESPONSE_FIELD,
            max_headers=MAX_RESPONSE_FIELDS,
        )

    async def response(self) -> tuple[ResponseMessage, ContentStream]:
        """Wait for the next response's head, interim ones too; return it and its content.

        Raises:
            ClientError, OSError, TimeoutError, HttpProcessingError: as aiohttp says what is wrong.
        """
        return await self.read()

    async def drained(self) -> None:
        """Wait until the connection can take more.

        Raises:
            ConnectionError: it is gone.
        """
        await self._drain_helper()

    def data_received(self, data: bytes) -> None:
        if self.receiver is not None:
            self.receiver.upstream_data(data)
            return
        self.heard = self.heard or bool(data)  # aiohttp goes on without data where it has stopped
        super().data_received(data)

    def pause_reading(self) -> None:
        if not self._ending:  # what is left is as much as the kernel and TLS hold, and can be read now or never
            super().pause_reading()

    def resume_reading(self, resume_parser: bool = True) -> None:
        """Enough was taken of the content, as aiohttp says with each chunk: read on, in a turn of its own.

        aiohttp would go through all that has come, in however many chunks, before others have a turn.
        """
        if not resume_parser:
            super().resume_reading(resume_parser)
        elif self._reading_paused and not self._in_turn:
            self._in_turn = True
            turns.later(self._turn)

    def _turn(self) -> None:
        self._in_turn = False
        if self._reading_paused and not self._ending:
            super().resume_reading(resume_parser=self.receiver is None)

    def eof_received(self) -> None:
        # uvloop calls this over TLS for a closure alert only; asyncio's own loop would for a mere FIN, too.
        self._closed_in_order = True
        super().eof_received()
        if self.transport is not None and self.transport.get_write_buffer_size():
            # It would be closed behind what waits to be written, which its peer may never read.
            self.transport.abort()

    @property
    def connection_lost(self) -> Callable[[BaseException | None], None]:
        """What the event loop calls at the end of the connection.

        Over TLS uvloop calls it when the socket is closed already, but looks it up while that is open and
        its TLS can still decrypt. So what stands in the socket is handed to TLS here.
        """
        if self._tls is not None and self.transport is not None and not self._upgraded:
            _decrypt_arrived(self.transport)
        return self._lost

    def _lost(self, exc: BaseException | None) -> None:
        if self.transport is not None and not self._upgraded:
            self._read_rest(self.transport, exc)
        self.broken = not self._closed_in_order and (exc is not None or self.secure)
        receiver = self.receiver
        super().connection_lost(exc)
        if receiver is not None:
            receiver.upstream_lost(self.broken)

    def _read_rest(self, transport: asyncio.Transport, exc: BaseException | None) -> None:
        """Read what has arrived before the loss of the connection is reported.

        A write that fails ends the connection at once, though an answer may stand in the socket (RFC 9112
        section 9.6); and over TLS a FIN does, while reading is paused.
        """
        self._ending = True
        if self._reading_paused:
            super().resume_reading()
        if self._tls is not None:
            rest = _decrypted(self._tls)
        elif exc is not None:
            rest = _arrived(transport)
        else:
            return
        try:
            for data in rest:
                self.data_received(data)
        except OSError:
            return
        # Linux alone tells a FIN before the reset from a reset only, by EPIPE and ECONNRESET.
        if self.secure or (isinstance(exc, BrokenPipeError) and sys.platform == "linux"):
            self._closed_in_order = True

    def hand_over(self) -> tuple[asyncio.Transport | None, bytes]:
        """Return the transport, for another protocol, and what has come behind the response's head.

        The new protocol reports to this object when the connection is lost.
        """
        self._drop_timeout()
        tail, self._tail = self._tail, b""
        return self.transport, tail

    def set_exception(self, exc: BaseException, *cause: BaseException) -> None:
        content = self._payload
        super().set_exception(exc, *cause)
        if content is not None and not content.is_eof() and content.exception() is None:
            content.set_exception(exc, *cause)


def _arrived(transport: asyncio.Transport) -> Iterator[bytes]:
    """Yield what the kernel holds of a connection that has failed; it gets no more.

    Raises:
        OSError: it does not end with a FIN, as far as the system shows.
    """
    descriptor = transport.get_extra_info("socket").fileno()
    while data := os.read(descriptor, BUFFER):
        yield data


def make_own_connections(connector: BaseConnector, loop: asyncio.AbstractEventLoop) -> None:
    """Have a connector make connections of this kind. aiohttp has no public way to choose their protocol."""
    connector._factory = functools.partial(UpstreamConnection, loop=loop)  # type: ignore[assignment]


async def open_connection(
    connector: BaseConnector, request: ClientRequest, limits: ClientTimeout
) -> tuple[LentConnection, UpstreamConnection]:
    """Open a connection for requests like this one.

    Args:
        connector: one that ``make_own_connections`` was called with.
    """
    connection = await connector.connect(request, traces=[], timeout=limits)
    protocol = connection.protocol
    assert isinstance(protocol, UpstreamConnection)
    return connection, protocol


def _decrypt_arrived(transport: asyncio.Transport) -> None:
    """Give TLS what the kernel holds of a connection that has failed; what can be read of it is received at once."""
    protocol: asyncio.BufferedProtocol | None = transport.get_extra_info("uvloop.sslproto")
    if protocol is None or transport.get_extra_info("socket") is None:
        return
    with contextlib.suppress(OSError):
        for data in _arrived(transport):
            protocol.get_buffer(len(data))[: len(data)] = data  # type: ignore[index]
            protocol.buffer_updated(len(data))


def _decrypted(tls: ssl.SSLObject) -> Iterator[bytes]:
    """Yield what TLS holds of a connection that has ended.

    Raises:
        OSError: it does not end with a closure alert.
    """
    with contextlib.suppress(ssl.SSLZeroReturnError):
        while data := tls.read(BUFFER):
            yield data
