"""One client connection in the express lane, until it is handed over.

This file has what comes in: the connection's buffer, its time limits, the
order of its requests, and the moment at which it becomes aiohttp's. What goes
out is ``output.py``'s, and what happens to a request ``exchange.py``'s.
"""

from __future__ import annotations

import asyncio
from typing import cast

from gateway import turns
from gateway.errors import GatewayError, Reason, Reasons
from gateway.http1.first_bytes import not_http
from gateway.http1.request_head import MalformedError, RequestHead
from gateway.http1.trusted_proxies import UNKNOWN, Peer
from gateway.server.aiohttp_lane.lane import peer_of
from gateway.server.aiohttp_lane.listener import MAX_AHEAD_BYTES, MAX_AT_ONCE_BYTES, ClientProtocol, Listener
from gateway.server.express_lane.exchange import ExpressExchange
from gateway.server.express_lane.output import ClientOutput
from gateway.server.express_lane.write_batch import WriteBatch
from gateway.server.pipeline.loop_turn import MAX_REFUSALS_OF_KNOWN, DeferredRequest
from gateway.server.pipeline.runner import Serving
from gateway.server.request.body import CollectedContent
from gateway.server.request.in_progress import Run
from gateway.server.sockets.half_closed import HalfClosed
from gateway.server.sockets.slots import Place
from gateway.tasks import note_failure
from gateway.telemetry.record import Record

#: How long the rest of a request's content is waited for, in seconds: many clients send head and content apart.
CONTENT_WAIT_SECONDS = 0.02

#: Largest request content that is collected; a larger one is streamed by the full lane.
MAX_CONTENT_BYTES = 65536

# Fields of requests that are more than this lane takes.
_UNUSUAL = frozenset({b"expect", b"upgrade"})


class ExpressConnection(ClientOutput):
    """One client connection.

    Args:
        serving: the shared run of requests.
        listener: makes the full lane's protocol for what is handed over.
        loop: the event loop.
        writes: what this lane sends in a turn of the loop.
        connections: where the connection is known while it is in this lane.
        most_content: largest request content that is collected.

    Attributes:
        deadline: the loop's time after which it is too late for what is expected next.
    """

    # Not in __init__; see ``ClientOutput``.
    _peer, _client = Peer(UNKNOWN, False, 0), ""
    _exchange: ExpressExchange | DeferredRequest | None = None
    _refusals = 0  # requests that were refused in a row; see ``_note``
    _its_turn = False  # the next request has waited
    _head: RequestHead | None = None  # of the next request, when it was read before that waited
    _asked = False  # a request has come
    deadline = 0.0
    place: Place | None = None
    _made = 0.0
    _buffer = b""
    _start = 0  # where in it the next request begins; else the rest would be copied for each request
    _working = False
    _in_turn = False  # what is in the buffer is looked at in a turn of the loop to come
    _reading_paused = False
    _half_closed: HalfClosed | None = None
    _content_timer: asyncio.TimerHandle | None = None

    def __init__(
        self,
        serving: Serving,
        listener: Listener,
        loop: asyncio.AbstractEventLoop,
        writes: WriteBatch,
        connections: set[ExpressConnection],
        most_content: int,
    ) -> None:
        super().__init__(serving, listener, loop, writes)
        self._connections = connections
        self._most_content = most_content

    # --- the connection ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = self._transport = cast(asyncio.Transport, transport)
        self._made = self._loop.time()
        self._connections.add(self)
        if self.place is None:
            self.place = self._listener.places.serve()
            if self.place is None:
                self._hand_over(b"")
                return
        secure = transport.get_extra_info("ssl_object") is not None
        self._peer = peer_of(transport.get_extra_info("peername"), transport.get_extra_info("sockname"), secure=secure)
        self._client = self._peer.address.decode("ascii")
        if refusals := self._serving.deferred.refusals(self._peer.address):
            self._refusals = refusals
        self.deadline = self._made + self._limits.keepalive_timeout_seconds

    def come_back(self, transport: asyncio.Transport, refusals: int | None) -> None:
        """Go on with a connection that was handed over, and on which nothing is under way.

        Args:
            transport: the connection.
            refusals: how many of its last requests were refused; None when that is not known.
        """
        self.connection_made(transport)
        if refusals is not None:
            self._refusals = refusals  # its own, whatever other connections from its address have done since

    def connection_lost(self, exc: Exception | None) -> None:
        self._leave()
        if self.place is not None:
            self.place.give_back()
        self._output_lost()
        if self._exchange is not None:
            self._exchange.client_lost()
        self._listener.connection_ended()

    def _leave(self) -> None:
        self._stop_content_timer()
        self._stop_watch()
        if self._half_closed is not None:
            self._half_closed.stop()
        self._connections.discard(self)

    def data_received(self, data: bytes) -> None:
        idle = self._exchange is None and not (self._paused or self._in_turn)
        self._buffer = self._rest() + data if self._buffer else data
        self._start = 0
        try:
            if idle and len(self._buffer) <= MAX_AT_ONCE_BYTES:
                if not self._next():
                    self._pace_reading()
                elif self._buffer or self._reading_paused or self._half_closed is not None:
                    self._work()
                return  # mostly that was one request, and nothing is left to do
            if idle:
                self._wait_for_turn()
            self._pace_reading()
        except Exception as error:  # a fault of the gateway's own
            note_failure("client connections", error)
            self.abort()

    def eof_received(self) -> bool:
        """The client sends nothing more: answer the requests that came whole, then close."""
        transport = self._transport
        if transport is None or self._peer.secure:  # TLS has no half-closed connections here
            return False
        if self._exchange is None and not (self._paused or self._in_turn):
            return False  # what is in the buffer is no whole request
        if self._half_closed is None:
            self._half_closed = HalfClosed(transport, lambda: self._written, self._may_ask)
        return True

    def _may_ask(self) -> bool:
        """Return whether a request waits whose response has not begun."""
        return (self._exchange is not None or self._in_turn) and self._unanswered == self._written

    def pause_writing(self) -> None:
        self._output_paused()
        if self._exchange is not None:
            self._exchange.client_paused(True)

    def resume_writing(self) -> None:
        self._output_resumed()
        if self._exchange is not None:
            self._exchange.client_paused(False)
        else:
            self._go_on()

    def in_seconds(self, seconds: float) -> float:
        """Return the loop's time so many seconds from now."""
        return self._loop.time() + seconds

    # --- requests ---

    def _wait_for_turn(self) -> None:
        """Have the buffer looked at later: it costs much, or its client does not wait for answers."""
        if not self._in_turn:
            self._in_turn = True
            turns.later(self._turn)

    def _turn(self) -> None:
        self._in_turn = False
        try:
            self._work()
        except BaseException:
            self.abort()  # nothing else would end the connection
            raise

    def _work(self) -> None:
        """Serve what is whole in the buffer, one request after the other, while the client takes the answers."""
        if self._working:
            return
        self._working = True
        try:
            while self._ready and self._next():
                pass
        finally:
            self._working = False
        self._pace_reading()

    @property
    def _ready(self) -> bool:
        """Whether the next request can begin."""
        waits = self._exchange is not None or self._paused or self._in_turn
        return bool(self._buffer) and not waits and self._transport is not None

    def _put(self, data: bytes) -> None:
        """Have these bytes stand in the buffer, and no others."""
        self._buffer, self._start = data, 0

    def _rest(self) -> bytes:
        """Return what stands in the buffer behind the requests that were begun."""
        return self._buffer[self._start :] if self._start else self._buffer

    def _pace_reading(self) -> None:
        """Read on as far as is needed, and a little ahead."""
        transport = self._transport
        if transport is None:
            return
        if self._exchange is None and not (self._paused or self._in_turn):
            if self._half_closed is not None:
                self._close()  # nothing is left that can become a whole request
                return
            self._put(self._rest())  # what was served is no longer kept
            enough = False
        else:
            enough = len(self._buffer) - self._start > MAX_AHEAD_BYTES
        if enough is not self._reading_paused:
            self._reading_paused = enough
            if enough:
                transport.pause_reading()
            else:
                transport.resume_reading()

    def _next(self) -> bool:
        """Begin the next request; return whether to go on."""
        buffer, start = self._buffer, self._start
        head, end = None, len(buffer)
        if not start and self._head is None and buffer.endswith(b"\r\n\r\n") and end <= self._limits.max_head_bytes:
            # Mostly that is one request without content: where it ends need not be looked for. If more than that has
            # come, it has no reading as one head.
            head = self._serving.pipeline.reader.read_alone(buffer)
        if head is None:
            found = self._find_head(buffer, start)
            if found is None:
                return False
            head, end = found
        if self._refusals and not self._its_turn and self._waits(head):
            self._head = head
            self._defer()
            return False
        length = head.content_length or 0
        if head.chunked or not head.http_11 or (head.read and any(name in _UNUSUAL for name, _ in head.read)):
            self._hand_over(self._rest())
            return False
        if length and not self._has_content(length, len(buffer) - end):
            return False
        if self._content_timer is not None:
            self._stop_content_timer()
        # Only here: a request that has waited does not wait again for its content, or in the other lane.
        self._its_turn = False
        stop = end + length
        if stop == len(buffer):
            self._buffer, self._start = b"", 0
        else:
            self._start = stop
        self._begin(head, buffer[end:stop] if length else b"")
        return True

    def _find_head(self, buffer: bytes, start: int) -> tuple[RequestHead, int] | None:
        """Return the next request's head, and where in the buffer it ends; None when it is not there, or waits."""
        end = buffer.find(b"\r\n\r\n", start) + 4
        most = start + self._limits.max_head_bytes
        if end < 4 and len(buffer) <= most:
            rest = self._rest()
            if not_http(rest):
                if not self._defers_refusal():
                    self._hand_over(rest)
                return None
            self.deadline = min(self.deadline, self._loop.time() + self._limits.request_head_timeout_seconds)
            return None
        try:
            if not 4 <= end <= most:
                raise MalformedError(Reasons.HEAD_TOO_LARGE)
            head, self._head = self._head or self._serving.pipeline.reader.read(buffer[start:end]), None
        except MalformedError as error:
            # Empty lines before a request may be passed over (RFC 9112 section 2.2): the other lane counts them.
            if self._defers_refusal():
                pass
            elif buffer.startswith(b"\r\n", start):
                self._hand_over(self._rest())
            else:
                self._refuse_connection(error.reason)
            return None
        return head, end

    def _begin(self, head: RequestHead, content: bytes) -> None:
        serving, peer = self._serving, self._peer
        self._asked, self._persistent = True, b"close" not in head.options
        given = head.request_id or serving.new_id()
        client = serving.pipeline.client_address(head, peer) if head.forwarding else self._client
        record = Record(serving.clock.monotonic(), client, given.decode("ascii"), head.method)
        run = Run(self, head, peer, record, given)
        if content:
            run.content = CollectedContent(content)
        exchange = self._exchange = ExpressExchange(self, serving, run, content)
        exchange.start()

    def _refuse_connection(self, reason: Reason) -> None:
        """Answer what is no request: nothing behind it can be one."""
        assert self._transport is not None
        head_only = self._buffer.startswith(b"HEAD ", self._start)
        seconds = 0.0 if self._asked else self._loop.time() - self._made
        reply = self._serving.refuse_connection(self._client, seconds, GatewayError(reason), head_only=head_only)
        self._asked, self._persistent = True, False
        self.send(reply.data)
        self._end(self._transport)

    def _waits(self, head: RequestHead) -> bool:
        """Return whether a request waits behind those that are served."""
        return self._refusals >= MAX_REFUSALS_OF_KNOWN or not self._serving.pipeline.knows(head)

    def _defers_refusal(self) -> bool:
        """Have what is no request wait behind those that are served, if it has to; return whether it does."""
        if not self._refusals or self._its_turn:
            return False
        self._defer()
        return True

    def _defer(self) -> None:
        """Have the next request wait behind those that are served."""
        self._exchange = request = DeferredRequest(self)
        self._serving.deferred.add(request)

    def _has_content(self, length: int, arrived: int) -> bool:
        """Return whether the content is there; one that will not be soon, or is large, is streamed instead."""
        if arrived >= length and length <= self._most_content:
            return True
        if length > self._most_content:
            self._hand_over(self._rest())
        elif self._content_timer is None:
            self._content_timer = self._loop.call_later(CONTENT_WAIT_SECONDS, self._content_waited)
        return False

    def _content_waited(self) -> None:
        self._content_timer = None
        if self._exchange is None and self._transport is not None and self._buffer:
            self._hand_over(self._rest())

    def _stop_content_timer(self) -> None:
        if self._content_timer is not None:
            self._content_timer.cancel()
            self._content_timer = None

    def ended(self, keep_alive: bool, *, refused: bool = False) -> None:
        """The running request is over."""
        if refused or self._refusals:
            self._note(refused)
        self._exchange, self._unanswered = None, self._written
        transport = self._transport
        if transport is None:
            return
        if not keep_alive or not self.keep_alive:
            self._end(transport)
            return
        self.deadline = self._loop.time() + self._limits.keepalive_timeout_seconds
        if not self._paused and (self._buffer or self._reading_paused or self._half_closed is not None):
            self._go_on()

    def _note(self, refused: bool) -> None:
        """Note how many requests were refused since one was served; those without a known token count as one."""
        serving, exchange = self._serving, self._exchange
        known = isinstance(exchange, ExpressExchange) and serving.pipeline.knows(exchange.head)
        self._refusals = max(1, self._refusals + known) if refused else 0
        serving.deferred.saw(self._peer.address, self._refusals)

    def resume(self) -> bool:
        """Begin with the waiting request after all; return whether it goes on in a task."""
        self._exchange, self._its_turn = None, True
        if self._transport is None:
            return False
        self._work()
        in_task = self._exchange is not None and self._exchange.task is not None
        return in_task or self.place is None or self._content_timer is not None  # its content is late: the other lane's

    def _end(self, transport: asyncio.Transport) -> None:
        """Close the connection after an answer: what the client has sent behind its request is no request any more."""
        silent = not self._persistent and not self._buffer
        self._put(b"")
        if silent or self._half_closed is not None or self._paused or self._listener.draining or transport.is_closing():
            self._close()
        else:
            self._hand_over(b"").close_after_answer()

    def _go_on(self) -> None:
        """Serve what is there already, and read again."""
        if self._buffer:
            self._wait_for_turn()
        elif self._reading_paused or self._half_closed is not None:
            self._pace_reading()

    def _hand_over(self, data: bytes) -> ClientProtocol:
        """Give the connection to aiohttp's protocol, with all bytes that it has not served."""
        transport = self._transport
        assert transport is not None
        self.writes.flush()
        self._leave()
        self._transport = None
        self._put(b"")
        if self._reading_paused:
            self._reading_paused = False
            transport.resume_reading()
        protocol = self._listener()
        protocol.refusals, protocol.its_turn = self._refusals, self._its_turn or not self._refusals
        transport.set_protocol(protocol)
        protocol.place, self.place = self.place, None
        protocol.connection_made(transport)
        if not self._asked:
            protocol.since = self._made
        if data:
            protocol.data_received(data)
        if self._half_closed is not None and not protocol.eof_received():
            transport.close()
        return protocol

    # --- time ---

    def too_late(self) -> None:
        """What was expected has not come in time."""
        if self._exchange is not None:
            self._exchange.too_late()
        elif not self._buffer:
            self._close()
        # Else nothing is expected but that the client reads, which has a watch of its own, or a turn of the loop.
        elif not (self._paused or self._in_turn):
            data = self._rest()
            head_only = b"\r\n\r\n" not in data
            began = self.deadline - self._limits.request_head_timeout_seconds
            protocol = self._hand_over(data)
            if head_only:
                protocol.since = began if self._asked else protocol.since
                protocol.head_too_slow()

    def drain(self) -> None:
        """Close the connection if nothing is running or coming in."""
        if self._exchange is None and not self._buffer:
            self._close()

    def cut(self) -> asyncio.Task[None] | None:
        """Cut the connection now; return the task of its request, if it has one."""
        exchange = self._exchange
        if exchange is not None:
            exchange.cancel()
        self.abort()
        return None if exchange is None else exchange.task
