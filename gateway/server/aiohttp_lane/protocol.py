"""aiohttp's protocol of a server connection, with names for what it keeps to itself.

Only here does the server side touch what aiohttp does not promise: everything that
begins with an underscore, and ``aiohttp.web_protocol``, ``http_parser`` and ``streams``.
``tests/test_internals.py`` names each of them and says why. The danger of this file is
an upgrade of aiohttp that renames one: some of them fail without a sound.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sized
from operator import attrgetter
from typing import Any, cast

from aiohttp import web
from aiohttp.http_parser import HttpRequestParser, RawRequestMessage
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader
from aiohttp.web_protocol import PayloadAccessError, RequestHandler, RequestPayloadError

#: How much content waits for its reader before the client is not read any more, in bytes: twice this, or a chunk for
#: every 16 of it.
CONTENT_AHEAD_BYTES = 65536

#: The content of one request as aiohttp reads it, and that of a request without any.
RequestStream = StreamReader
NO_REQUEST_CONTENT = EMPTY_PAYLOAD

#: What the reader of content gets when the content is malformed, and when it is read too late.
MalformedContentError = RequestPayloadError
CONTENT_FAULTS = (RequestPayloadError, PayloadAccessError)

#: How aiohttp says that a head has more fields than it may; it has no type for that.
TOO_MANY_FIELDS = "Too many headers received"


class PurePythonParserError(RuntimeError):
    """aiohttp runs without its C parser, whose strictness the gateway relies on."""


def demand_native_parser() -> None:
    """Refuse to run on aiohttp's pure-Python parser (R215).

    Raises:
        PurePythonParserError: the C extension is missing or switched off.
    """
    if HttpRequestParser.__module__ != "aiohttp._http_parser":
        raise PurePythonParserError(
            "aiohttp's C parser is not available (AIOHTTP_NO_EXTENSIONS set, or an installation without extensions)"
        )


def _alias(attribute: str) -> Any:
    """Return a name of this module for an attribute of aiohttp's; reading it costs no call."""
    return property(attrgetter(attribute))


class ServerProtocol(RequestHandler):
    """One server connection.

    Args:
        manager: knows the handler of requests.
        max_head_bytes: bound on a line and on a field of a head.
        max_fields: bound on the fields of a head.
        keepalive_seconds: for which a connection without a request is kept.
        lingering_seconds: for which content that no handler has read is read on behind the answer.
    """

    __slots__ = ()

    def __init__(
        self,
        manager: web.Server,
        loop: asyncio.AbstractEventLoop,
        *,
        max_head_bytes: int,
        max_fields: int,
        keepalive_seconds: float,
        lingering_seconds: float,
    ) -> None:
        super().__init__(
            manager,
            loop=loop,
            keepalive_timeout=keepalive_seconds,
            max_line_size=max_head_bytes,
            max_field_size=max_head_bytes,
            max_headers=max_fields,
            lingering_time=lingering_seconds,
            auto_decompress=False,
            read_bufsize=CONTENT_AHEAD_BYTES,
            access_log=cast(Any, None),
        )

    # --- what a subclass does ---

    def arrived(self, data: bytes) -> None:
        """Take bytes of the client; what aiohttp is to see of them goes to ``parse``."""
        raise NotImplementedError

    def content_taken(self) -> None:
        """Note that the reader of content has taken enough for more to be read."""
        raise NotImplementedError

    @property
    def may_resume_input(self) -> bool:
        """Whether input that was paused may be read again, when aiohttp's own queue has become short."""
        raise NotImplementedError

    def log_fault(self, error: object) -> None:
        """Log a fault that no handler has caught, without its text, which may quote the request.

        Args:
            error: the exception; None when aiohttp had none.
        """
        raise NotImplementedError

    # --- what aiohttp knows ---

    #: The event loop that the connection is on.
    loop: asyncio.AbstractEventLoop = _alias("_loop")
    #: Whether the connection ends after the running request.
    ends_after_answer: bool = _alias("_close")
    #: Whether the connection ends, and nothing more of the client is looked at.
    input_dropped: bool = _alias("_force_close")
    #: The requests that were parsed and no handler has begun.
    requests_ahead: Sized = _alias("_messages")
    #: Whether the client is not read because ``pause_input`` says so, or because of aiohttp's own queue.
    input_paused: bool = _alias("_buffer_paused")
    #: Whether the client is not read because the reader of content has enough.
    content_paused: bool = _alias("_reading_paused")

    @property
    def idle(self) -> bool:
        """Whether a request is waited for."""
        return self._waiter is not None

    @property
    def has_parsed_request(self) -> bool:
        """Whether a head was ever whole, or refused."""
        return bool(self._request_count)

    def request_ahead(self, place: int) -> RequestStream | None:
        """Return the content of a request that no handler has begun; None when what stands there is not a request."""
        message, content = self._messages[place]
        return content if isinstance(message, RawRequestMessage) else None

    # --- what is passed to aiohttp ---

    def parse(self, data: bytes) -> None:
        """Have aiohttp parse these bytes."""
        super().data_received(data)

    def pause_input(self) -> None:
        """Stop reading the client."""
        self._pause_reading_for_buffer()

    def resume_input(self) -> None:
        """Read the client again, unless the reader of content has enough."""
        self._resume_reading_for_buffer()

    def resume_drained_input(self) -> None:
        """Read the client again if aiohttp's own queue is short, and ``may_resume_input``."""
        self._resume_reading_if_drained()

    def resume_transport(self) -> None:
        """Read the client again whatever was said."""
        self._resume_transport_reading()

    def begin_without_task(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection in place of ``connection_made``: aiohttp makes no task for it."""
        self._manager = None
        self.transport = cast(asyncio.Transport, transport)

    def let_go(self) -> None:
        """End aiohttp's part in a connection on which it waits for a request; the connection itself goes on."""
        self.transport = None  # or it would be closed
        self.connection_lost(None)

    def drop_input(self) -> None:
        """Look at nothing more of the client, and end the loop that serves its requests."""
        self._force_close = True
        if self._waiter is not None:
            self._waiter.cancel()

    def forget_requests_ahead(self) -> None:
        """Serve none of the requests that no handler has begun."""
        self._messages.clear()

    # --- what aiohttp calls ---

    def data_received(self, data: bytes) -> None:
        try:
            if data:
                self.arrived(data)
            else:
                self.parse(data)  # aiohttp calls this itself, without data, to go on with what it has already
        except Exception as error:  # the event loop would close the connection, too, and quote the fault
            self.log_fault(error)
            self.force_close()

    def resume_reading(self, resume_parser: bool = True) -> None:
        """The content's reader has taken enough. aiohttp says so with each piece that is taken."""
        if self._reading_paused:
            super().resume_reading(resume_parser)
            self.content_taken()

    def _resume_reading_if_drained(self) -> None:
        if self.may_resume_input:
            super()._resume_reading_if_drained()

    def log_exception(self, *args: Any, **options: Any) -> None:
        """Log a fault that no handler has caught."""
        self.log_fault(options.get("exc_info"))

    def log_debug(self, *args: Any, **options: Any) -> None:
        """Log nothing: the lines would quote the request."""
