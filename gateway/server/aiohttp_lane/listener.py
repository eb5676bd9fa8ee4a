"""The public port's connections: aiohttp's protocol, with the limits that it lacks.

This file has what happens before a request exists: the number of connections,
the size of and the time for a header section, and the answer to bytes that are
no HTTP request. Everything after is a lane's business. The danger of this file
is the answer to malformed input: nothing of the input may be in it, or in a
log.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import struct
from collections.abc import Awaitable, Callable
from functools import partial
from typing import cast

from aiohttp import web
from aiohttp.http_exceptions import LineTooLong

from gateway import turns
from gateway.errors import GatewayError, Reason, Reasons
from gateway.http1.message_scanner import MessageScanner
from gateway.http1.request_head import MAX_FIELDS, HeadReader, RequestHead
from gateway.http1.trusted_proxies import address_text
from gateway.paced_log import PacedLog
from gateway.server.aiohttp_lane.front_lane import FrontLane
from gateway.server.aiohttp_lane.placeholders import NO_REQUEST, StandIns, sent
from gateway.server.aiohttp_lane.protocol import (
    NO_REQUEST_CONTENT,
    TOO_MANY_FIELDS,
    MalformedContentError,
    RequestStream,
    ServerProtocol,
)
from gateway.server.sockets.half_closed import HalfClosed
from gateway.server.sockets.lingering import Lingering
from gateway.server.sockets.slots import Place, Places
from gateway.server.sockets.stalled_client import UnsentWatch
from gateway.settings.tables.server import Server
from gateway.tasks import where
from gateway.telemetry.counters import Telemetry

_log = logging.getLogger("gateway")

#: How much a client may send behind a request that is being served, before it is not read any more, in bytes; and how
#: many of those requests are read, or fewer with long heads. A head in memory takes many times its bytes.
MAX_AHEAD_BYTES, MAX_AHEAD_REQUESTS = 65536, 8

#: The most bytes in which heads are looked for as soon as they come; more of them wait for a turn of the loop. To read
#: and pass on one of the longest heads takes about a millisecond.
MAX_AT_ONCE_BYTES = 16384

#: Turns of the loop that aiohttp may take to wait for the next request; a busy connection just stays.
MAX_TURNS_TO_IDLE = 8

Refuse = Callable[["ClientProtocol", GatewayError], web.StreamResponse]


class Listener(web.Server):
    """Makes one protocol for each connection, and knows them all.

    Args:
        handler: a lane: request to sent response.
        refuse: writes the answer for a connection that has no request yet.
        turn_to_refuse: returns what is waited for before that; None when nothing is.
        reader: reads heads.
        settings: the limits.
        telemetry: where connections are counted.
    """

    def __init__(
        self,
        handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]],
        refuse: Refuse,
        turn_to_refuse: Callable[[ClientProtocol], Callable[[], Awaitable[None]] | None],
        reader: HeadReader,
        settings: Server,
        telemetry: Telemetry,
    ) -> None:
        super().__init__(handler, handler_cancellation=True)
        self.settings = settings
        self.reader = reader
        self.telemetry = telemetry
        self.refuse, self.turn_to_refuse = refuse, turn_to_refuse
        self.places = Places(telemetry, settings.max_connections)
        self.paced = PacedLog(_log)
        self.front: FrontLane | None = None
        self.draining = False
        self.empty = asyncio.Event()  # set once a drain has begun and no connection is left

    def __call__(self) -> ClientProtocol:
        return ClientProtocol(self, asyncio.get_running_loop())

    def serve(self, place: Place) -> ClientProtocol:
        """Return the protocol of a connection that has its slot already."""
        made = ClientProtocol(self, asyncio.get_running_loop())
        made.place = place
        return made

    def refusing(self, place: Place, error: GatewayError) -> ClientProtocol:
        """Return a protocol that refuses its connection whatever comes."""
        made = self.serve(place)
        made.refused = error
        return made

    def start_drain(self) -> None:
        """Close idle connections now; the others close after their running request."""
        self.draining = True
        for connection in self.connections:
            cast("ClientProtocol", connection).drain()
        self.connection_ended()

    def connection_ended(self) -> None:
        """Note that a connection is gone."""
        if self.draining and self.telemetry.connections == 0:
            self.empty.set()


class ClientProtocol(ServerProtocol):
    """One client connection."""

    __slots__ = (
        *("_content", "_half_closed", "_head_timer", "_lingering", "_lingering_place", "_listener", "_refusal"),
        *(
            "_in_turn",
            "_running",
            "_scanner",
            "_stand_ins",
            "_unanswered",
            "its_turn",
            "refusals",
            "_unsent",
            "place",
            "secure",
            "refused",
            "since",
            "written",
        ),
    )

    def __init__(self, listener: Listener, loop: asyncio.AbstractEventLoop) -> None:
        limits = listener.settings
        super().__init__(
            listener,
            loop,
            max_head_bytes=limits.max_head_bytes,
            max_fields=MAX_FIELDS,
            keepalive_seconds=limits.keepalive_timeout_seconds,
            lingering_seconds=0,  # see ``close_after_answer``
        )
        self._listener = listener
        self.secure = False  # whether the client speaks TLS to this port
        self._in_turn = False  # it is among those that have more to read than they may at once
        self.place: Place | None = None
        self.refused: GatewayError | None = None  # what the connection is turned away with
        self._lingering_place: Place | None = None
        self.since = 0.0  # the loop's time from which a request is waited for; 0 when none is
        self._scanner = MessageScanner(limits.max_head_bytes, listener.reader)
        self._stand_ins = StandIns()
        self._refusal: Reason | None = None
        self._content: RequestStream = NO_REQUEST_CONTENT  # of the newest request
        self._head_timer: asyncio.TimerHandle | None = None
        self._unsent = UnsentWatch(limits.response_write_timeout_seconds)
        self._lingering: Lingering | None = None
        self._half_closed: HalfClosed | None = None
        self._running = False  # a request was taken and is not answered yet
        self.written = 0  # pieces of answers
        self.refusals: int | None = None  # requests that were refused in a row; None when that is not known
        self.its_turn = False  # the next request has waited
        self._unanswered = -1  # what that was when the running request was taken; -1 for HTTP/1.0

    @property
    def draining(self) -> bool:
        """Whether the gateway is on its way out."""
        return self._listener.draining

    @property
    def stalled(self) -> bool:
        """Whether the connection was cut because the client took nothing of what it was sent."""
        return self._unsent.stalled

    @property
    def closing(self) -> bool:
        """Whether the connection ends after the running request."""
        return self._listener.draining or self.ends_after_answer or self.input_dropped

    def take_head(self, parsed: web.BaseRequest) -> RequestHead:
        """Return the head of the request whose turn it is (``StandIns.take``), and read on behind it."""
        head = self._stand_ins.take(parsed)
        self._running = True
        self._unanswered = self.written if head.http_11 else -1
        if self._scanner.ahead and self._stand_ins.weight <= MAX_AHEAD_REQUESTS // 2:
            self._scan_on()
        return head

    def hand_over(self) -> tuple[asyncio.Transport, bytes]:
        """Return the connection, for another protocol, and what has come behind the head that asks for it.

        The new protocol reports to this object when the connection is lost.
        Raises ConnectionResetError when the client has left.
        """
        if self.transport is None or self.transport.is_closing():
            raise ConnectionResetError("the client left")
        return self.transport, self._scanner.take_held()

    def answered(self) -> None:
        """A request was answered as HTTP: if it asked for a WebSocket, what is behind it are requests."""
        self._running = False
        if not self._stand_ins.weight:
            if not self._content.is_eof():
                self.close_after_answer()  # to an upload that is not wanted any more
            if self._scanner.upgrading:
                self._scanner.upgrading = False
                self._scan_on()
        if self._half_closed is not None and not self._answer_due:
            self.close()
        elif self._listener.front is not None and self._between_requests:
            self.loop.call_soon(self.go_back, MAX_TURNS_TO_IDLE)

    @property
    def _between_requests(self) -> bool:
        """Whether nothing of a request has come that is not answered, and the connection goes on."""
        scanner = self._scanner
        under_way = self._running or self._stand_ins.weight or scanner.holds or scanner.upgrading or not scanner.at_head
        ends = self.closing or self._refusal is not None or self._half_closed is not None or self._lingering is not None
        return not (under_way or ends or self.input_paused or self.content_paused or self.writing_paused)

    def go_back(self, turns_left: int) -> None:
        """Give the connection to the lane in front, once aiohttp waits for the next request."""
        transport, place, front = self.transport, self.place, self._listener.front
        if transport is None or transport.is_closing() or place is None or front is None or not self._between_requests:
            return
        if not self.idle:
            if turns_left:
                self.loop.call_soon(self.go_back, turns_left - 1)
            return
        self.place = None
        self.let_go()
        front.take_back(transport, place, self.refusals)

    @property
    def _answer_due(self) -> bool:
        """Whether something that came whole, was refused, or was not looked at yet has no answer."""
        if self._refusal is not None or self._scanner.resting:
            return True
        # Of the requests that have begun, the newest may still lack content.
        return self._running + len(self._stand_ins) > self._scanner.in_content

    @property
    def pipelining(self) -> bool:
        """Whether another request may wait behind the one that is served."""
        return bool(self.requests_ahead) or self._scanner.upgrading

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.since = self.loop.time()
        self.secure = transport.get_extra_info("sslcontext") is not None
        if self.place is None:
            self.place = self._listener.places.serve()
            if self.place is None:
                self.refused = GatewayError(Reasons.TOO_MANY_CONNECTIONS)
        if self.refused is not None:
            self._turn_away(transport, self.refused)
            return
        super().connection_made(transport)

    def _turn_away(self, transport: asyncio.BaseTransport, error: GatewayError) -> None:
        """Answer and close, without making a task for the connection."""
        if error.reason is Reasons.TOO_MANY_CONNECTIONS:
            self._listener.telemetry.connections_refused += 1
        if self.place is not None and self.place.lingering:
            self._lingering_place, self.place = self.place, None
        self.begin_without_task(transport)
        self._listener.refuse(self, error)
        self.close_after_answer()

    @property
    def at_head_request(self) -> bool:
        """Whether the request that is refused, not having been read, is HEAD (RFC 9110 section 9.3.2)."""
        return self._scanner.at_head_request

    def lasted(self) -> float:
        """Return for how many seconds a request has been waited for: since its first byte, or the connection began."""
        return self.loop.time() - self.since if self.since else 0.0

    def connection_lost(self, exc: BaseException | None) -> None:
        for place in (self.place, self._lingering_place):
            if place is not None:
                place.give_back()
        self._stop_head_timer()
        self._unsent.stop()
        for watch in (self._lingering, self._half_closed):
            if watch is not None:
                watch.stop()
        super().connection_lost(exc)
        self._listener.connection_ended()

    def pause_writing(self) -> None:
        super().pause_writing()
        self.watch_unsent()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._unsent.stop()

    def watch_unsent(self) -> None:
        """Bound the time for which the client takes nothing, if there is something for it to take."""
        if self.transport is not None and self.transport.get_write_buffer_size():
            self._unsent.start(self.transport)

    def arrived(self, data: bytes) -> None:
        if self._lingering is not None:
            self._lingering.heard()
            return
        if self.input_dropped:
            self.parse(data)
            return
        if self._refusal is not None:
            return  # nothing behind what is not a request can be one; the answer waits for its turn
        if self._scanner.upgrading or self._scanner.resting:
            self._hold(data)
        elif len(data) > MAX_AT_ONCE_BYTES and self._scanner.at_head:
            self._scanner.resting = True
            self._hold(data)
            self._wait_for_turn()
        else:
            self._scan(data)

    def _hold(self, data: bytes) -> None:
        if self._scanner.hold(data) and not self.input_paused:
            self.pause_input()

    def _scan(self, data: bytes) -> None:
        sound, self._refusal = self._scanner.feed(data, MAX_AHEAD_REQUESTS - self._stand_ins.weight)
        if sound:
            self.since = 0.0
        if self._refusal is not None:
            sound.append(NO_REQUEST)  # answered in its turn: behind the requests before it
        for piece in sound:
            self.parse(self._stand_ins.make(piece) if isinstance(piece, RequestHead) else piece)
            if self.requests_ahead and piece is not NO_REQUEST:
                content = self.request_ahead(-1)
                if content is None:
                    self._refusal = Reasons.MALFORMED_HTTP  # aiohttp reads otherwise: nothing after it has one reading
                    break
                self._content = content
        if self._refusal is not None and not self._content.is_eof():
            # aiohttp would leave the reader of the last request's content waiting for its end.
            self._content.set_exception(MalformedContentError("malformed content"))
        if not self._scanner.holds:
            self._stop_head_timer()
            return
        self._watch_head()
        self._wait_for_turn()
        if self._scanner.size_ahead > MAX_AHEAD_BYTES and not self.input_paused:
            self.pause_input()

    def _wait_for_turn(self) -> None:
        """Have more read of what has come already, unless what was read waits for its reader."""
        if self._scanner.resting and not (self._in_turn or self.content_paused):
            self._in_turn = True
            turns.later(self._turn)

    def _turn(self) -> None:
        self._in_turn = False
        if self._scanner.resting and not self.content_paused:
            self._scan_on()
            if self._half_closed is not None and not self._answer_due and self.transport is not None:
                self.transport.close()  # what rested is no whole request, and no more will come

    def content_taken(self) -> None:
        self._wait_for_turn()

    def _scan_on(self) -> None:
        """Go on with what has come already."""
        if self.transport is None or self.input_dropped or self._refusal is not None:
            return
        self._scan(b"")
        if self.input_paused:
            self.resume_drained_input()

    @property
    def may_resume_input(self) -> bool:
        return self._scanner.size_ahead <= MAX_AHEAD_BYTES

    def eof_received(self) -> bool:  # type: ignore[override]  # aiohttp closes always, and says nothing
        """The client sends nothing more: answer the requests that came whole, then close."""
        transport = self.transport
        if transport is None or self.secure or self._lingering is not None:
            return False  # TLS has no half-closed connections here
        if not self._answer_due:
            return False
        if self._half_closed is None:
            self._half_closed = HalfClosed(transport, lambda: self.written, self._may_ask)
        return True

    def _may_ask(self) -> bool:
        """Return whether a request waits whose response has not begun, and whose client knows interim responses."""
        return self._running and self._unanswered == self.written

    def _watch_head(self) -> None:
        """Bound the time of a head that has begun; it starts anew for each request."""
        if not self._scanner.in_head:
            self._stop_head_timer()
        elif self._head_timer is None:
            self.since = self.since or self.loop.time()
            seconds = self._listener.settings.request_head_timeout_seconds
            self._head_timer = self.loop.call_later(seconds, self.head_too_slow)

    def drain(self) -> None:
        """Close the connection if no request is running or coming in."""
        if self._lingering is not None:
            self._lingering.hurry()
        if self.idle and not self.requests_ahead and not self._scanner.in_head:
            self._close_idle()

    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        """Answer what is no HTTP request; nothing of it is quoted (R274)."""
        too_many = isinstance(exc, LineTooLong) or message == TOO_MANY_FIELDS
        reason = self._refusal or (Reasons.HEAD_TOO_LARGE if too_many else Reasons.MALFORMED_HTTP)
        error, turn = GatewayError(reason, detail=self._not_http()), self._listener.turn_to_refuse(self)
        late = None if turn is None else sent(keep_alive=False, then=partial(self._refuse, error), first=turn)
        return late or self._refuse(error)

    def _refuse(self, error: GatewayError) -> web.StreamResponse:
        response = self._listener.refuse(self, error)
        self.close_after_answer()
        return response

    def _not_http(self) -> str:
        """Count and log what stands where a request should begin; return its kind, or nothing if it is a request."""
        kind = self._scanner.not_http
        if kind:
            listener = self._listener
            listener.telemetry.not_http[kind] += 1
            peer = self.peername
            client = address_text(peer[0]).decode("ascii") if isinstance(peer, tuple) else "unknown"
            message = "not HTTP: client %s sent %s, closed after %.1f s"
            listener.paced.write(logging.WARNING, kind, message, client, kind, self.lasted())
        return kind

    def log_fault(self, error: object) -> None:
        if isinstance(error, MalformedContentError):
            return  # answered already; aiohttp tried to read it to its end
        _log.error(
            "unexpected error, connection closed: %s", where(error) if isinstance(error, BaseException) else "a fault"
        )

    def head_too_slow(self) -> None:
        """Refuse the head that does not end, in its turn."""
        self._head_timer = None
        self._refusal = Reasons.HEAD_TIMEOUT
        self.parse(NO_REQUEST)

    def _close_idle(self) -> None:
        self.close()
        if self.transport is not None:
            self.transport.close()

    def close_after_answer(self, *, broken_off: bool = False) -> None:
        """Say that nothing more will be sent, drop what still comes in, and close a little later (``Lingering``).

        Args:
            broken_off: the answer is not whole, and its client must not wait for the rest of it.
        """
        transport = self.transport
        self.drop_input()
        if transport is None or transport.is_closing() or self._lingering is not None:
            return
        self.watch_unsent()
        uploading = not (self._content.is_eof() or broken_off)
        if self._half_closed is not None or not (transport.can_write_eof() or uploading):
            transport.close()  # nothing is coming in; TLS has no other way to say that nothing more will be sent
            return
        if self._lingering_place is None:
            self._lingering_place = self._listener.places.linger()
            if self._lingering_place is None:
                transport.close()  # too many linger already
                return
        self.resume_transport()
        self._lingering = Lingering(transport)
        if self.draining:
            self._lingering.hurry()

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None


def reset_at_end(transport: asyncio.BaseTransport, on: bool) -> None:
    """Choose whether the connection's end will be a reset instead of a FIN, whatever closes it."""
    sock = transport.get_extra_info("socket")
    with contextlib.suppress(OSError, ValueError, AttributeError):  # it is closed already, or a Unix socket
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", on, 0))
