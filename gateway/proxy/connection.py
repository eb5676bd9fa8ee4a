"""One pooled connection to an upstream: aiohttp's client protocol, made to tell the whole truth.

Only five things are added to aiohttp's: the limits on a response, the same for
all; a response whose content cannot be parsed fails at once for whoever reads
it (aiohttp leaves the reader waiting); a connection that ended by a fault can
be told from one that was closed in order, which matters to content that ends
with its connection (RFC 9112 section 8); whether anything of a response came,
which matters to sending a request again (RFC 9112 section 9.3.1); and when it
was opened, because one that is never idle would otherwise outlive every change
of its name's addresses.
"""

from __future__ import annotations

import asyncio

from aiohttp.client_proto import ResponseHandler

from gateway.proxy.direct import MAX_RESPONSE_FIELD, MAX_RESPONSE_FIELDS, Receiver

#: Content is read and written in pieces of about this size; it bounds what one exchange holds in memory.
BUFFER = 65536


class UpstreamConnection(ResponseHandler):
    """A connection of the pool.

    Attributes:
        broken: it ended by a fault, such as a reset, instead of a close.
        heard: bytes have come in since the running exchange began, or since it is idle.
        receiver: who takes the bytes in place of aiohttp's parser; None for the parser.
        opened_at: the loop's time when it was made.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self.broken = False
        self.heard = False
        self.receiver: Receiver | None = None
        self.opened_at = loop.time()

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

    def data_received(self, data: bytes) -> None:
        if self.receiver is not None:
            self.receiver.upstream_data(data)
            return
        self.heard = True
        super().data_received(data)

    def connection_lost(self, exc: BaseException | None) -> None:
        self.broken = exc is not None
        receiver = self.receiver
        super().connection_lost(exc)
        if receiver is not None:
            receiver.upstream_lost(self.broken)

    def hand_over(self) -> tuple[asyncio.Transport | None, bytes]:
        """Return the transport, for another protocol, and what has come behind the response's head.

        Whoever takes them tells this object when the connection is lost.
        """
        self._drop_timeout()
        tail, self._tail = self._tail, b""
        return self.transport, tail

    def set_exception(self, exc: BaseException, *cause: BaseException) -> None:
        content = self._payload
        super().set_exception(exc, *cause)
        if content is not None and not content.is_eof() and content.exception() is None:
            content.set_exception(exc, *cause)
