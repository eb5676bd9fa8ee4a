"""One client connection in the express lane, until it is handed over.

This file has what comes in: the connection's buffer, its time limits, the order
of its requests, and the moment at which it becomes aiohttp's. What goes out is
``output.py``'s, what it remembers ``memory.py``'s, and what happens to a
request ``exchange.py``'s.
"""

from __future__ import annotations

import asyncio
import re
from typing import cast

from gateway import turns
from gateway.http1.fields import METHOD
from gateway.http1.first_bytes import not_http
from gateway.server.aiohttp_lane.lane import peer_of
from gateway.server.aiohttp_lane.listener import MAX_AHEAD_BYTES, MAX_AT_ONCE_BYTES, ClientProtocol, Listener
from gateway.server.express_lane.exchange import ExpressExchange
from gateway.server.express_lane.loop_turn import Deferred, DeferredRequest
from gateway.server.express_lane.memory import Heads, KnownRequests
from gateway.server.express_lane.plan import plannable
from gateway.server.express_lane.section import Section
from gateway.server.pipeline.runner import Serving
from gateway.server.request.body import CollectedContent
from gateway.server.request.in_progress import Run
from gateway.server.request.outcome import Refusal
from gateway.server.request.request import RequestHead
from gateway.server.sockets.half_closed import HalfClosed
from gateway.server.sockets.slots import Place

_REQUEST_LINE = re.compile(rb"(" + METHOD + rb") ([!-~]+) HTTP/1\.1\r\n").match

#: How long the rest of a request's content is waited for, in seconds: many clients send head and content apart.
CONTENT_WAIT = 0.02


class ExpressConnection(KnownRequests):
    """One client connection.

    Args:
        serving: the shared run of requests.
        listener: makes the full lane's protocol for what is handed over.
        heads: what upstreams' response heads mean.
        deferred: the requests that wait.
        connections: where the connection is known while it is in this lane.
    """

    def __init__(
        self,
        serving: Serving,
        listener: Listener,
        heads: Heads,
        deferred: Deferred,
        connections: set[ExpressConnection],
    ) -> None:
        super().__init__(serving, listener, heads, deferred)
        self._connections = connections
        self.place: Place | None = None
        self._made = 0.0
        self._buffer = b""
        self._start = 0  # where in it the next request begins; else the rest would be copied for each request
        self._working = False
        self._in_turn = False  # what is in the buffer is looked at in a turn of the loop to come
        self._reading_paused = False
        self._half_closed: HalfClosed | None = None
        self._content_timer: asyncio.TimerHandle | None = None
        self._idle_seconds = self._limits.keepalive_timeout_seconds

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
        self.deadline = self._made + self._limits.keepalive_timeout_seconds

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
        if idle and not self._buffer and self._plans and self._known(data):
            return
        self._put(self._rest() + data if self._buffer else data)
        if idle and len(self._buffer) <= MAX_AT_ONCE_BYTES:
            self._work()
            return
        if idle:
            self._wait_for_turn()
        self._pace_reading()

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
        end = buffer.find(b"\r\n\r\n", start) + 4
        most = start + self._limits.max_head_bytes
        if end < 4 and len(buffer) <= most:
            rest = self._rest()
            if not_http(rest):
                self._hand_over(rest)
                return False
            self.deadline = min(self.deadline, self._loop.time() + self._limits.request_head_timeout_seconds)
            return False
        line = _REQUEST_LINE(buffer, start) if 4 <= end <= most else None
        if line is None:
            self._hand_over(self._rest())
            return False
        if self._refused_last:
            self._defer(DeferredRequest(self, b""))
            return False
        head = RequestHead(line[1].decode("ascii"), line[2], True, (), self._peer)
        block = buffer[line.end() : end]
        found = self._read(block, head)
        if found is None:
            self._hand_over(self._rest())
            return False
        section, token = found
        if section.length and not self._has_content(section.length, len(buffer) - end):
            return False
        self._stop_content_timer()
        self._start = end + section.length
        if self._start == len(buffer):
            self._put(b"")
        self._begin(line[0], head, section, token, buffer[end : end + section.length])
        return True

    def _begin(self, line: bytes, head: RequestHead, section: Section, token: bytes | None, content: bytes) -> None:
        facts, headers = section.facts, section.headers
        if token is not None:
            facts, headers = section.facts_with(token), section.headers_with(token)
        given = section.request_id or self._serving.new_id()
        run = Run(self, head._replace(headers=headers), self.record(given, head.method), given)
        if content:
            run.content = CollectedContent(content)
        exchange = self._exchange = ExpressExchange(self, self._serving, self._heads)
        exchange.start(run, facts, content)
        if exchange.by_form:
            if exchange.refusal is not None and not section.after:
                self._remember(line, Refusal(exchange.refusal, run.record.route, head.method))
        elif exchange.admitted is not None and plannable(exchange.admitted):
            plan = self._plan(head.method, exchange.admitted, section)
            # A credential of a form that the section does not show is looked for each time.
            elsewhere = self._serving.pipeline.credentials.of(exchange.admitted.route).fields
            if (plan.anonymous or section.after) and not elsewhere:
                self._remember(line, plan)

    def _has_content(self, length: int, arrived: int) -> bool:
        """Return whether the content is there; one that will not be soon, or is large, is streamed instead."""
        if arrived >= length and length <= self._most_content:
            return True
        if length > self._most_content:
            self._hand_over(self._rest())
        elif self._content_timer is None:
            self._content_timer = self._loop.call_later(CONTENT_WAIT, self._content_waited)
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
        self._exchange, self._refused_last, self._unanswered = None, refused, self._written
        transport = self._transport
        if transport is None:
            return
        if not keep_alive or not self.keep_alive:
            self._end(transport)
            return
        self.deadline = self._loop.time() + self._idle_seconds
        if not self._paused:
            self._go_on()

    def resume(self, data: bytes) -> None:
        """Begin with the running request after all."""
        self._exchange, self._refused_last = None, False
        if self._transport is None or (data and not self._buffer and self._plans and self._known(data)):
            return
        if data:
            self._put(data + self._rest())
        self._work()

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
        self._leave()
        self._transport = None
        self._put(b"")
        if self._reading_paused:
            self._reading_paused = False
            transport.resume_reading()
        protocol = self._listener()
        transport.set_protocol(protocol)
        protocol.place, self.place = self.place, None
        protocol.connection_made(transport)
        if self._section is None:  # no request has come so far
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
                protocol.since = protocol.since if self._section is None else began
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
