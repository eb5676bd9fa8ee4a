"""The express lane: the request that is nearly all of the traffic, without task, future or multidict.

A protocol in front of aiohttp's. It serves the plain request, whole in its
buffer, in the callback that brings the bytes. The steps are the pipeline's,
the same as in the full lane. A request that it does not fully understand it
hands over to aiohttp's protocol, with the connection and every byte that it
has. The danger of this file is to be another gateway: it must not decide
anything of its own. ``tests/lanes`` sends the same bytes through both lanes.
"""

from __future__ import annotations

import asyncio
import re
from typing import cast

from gateway.proxy.direct import HeadMemory, PlainHead
from gateway.proxy.headers import Peer
from gateway.proxy.origin import Origin
from gateway.server.express_exchange import ExpressExchange
from gateway.server.express_memory import Section, read_section, same_section
from gateway.server.full_lane import peer_of
from gateway.server.listener import Listener, Protocol
from gateway.server.pipeline import Admitted, RequestHead, request_line
from gateway.server.serving import Run, Serving, client_head
from gateway.telemetry import Record

_REQUEST_LINE = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+) ([!-~]+) HTTP/1\.1\r\n").match

#: Largest request content that is collected; a larger one is streamed by the full lane.
MAX_CONTENT = 65536

#: How long the rest of a request's content is waited for, in seconds: many clients send head and content apart.
CONTENT_WAIT = 0.02

#: How much a client may send behind a request that is being served, before it is not read any more.
MAX_AHEAD = 65536


class ExpressLane:
    """Makes one protocol for each connection, and knows them all.

    Args:
        serving: the shared run of requests.
        listener: makes the full lane's protocol for what is handed over.
    """

    def __init__(self, serving: Serving, listener: Listener) -> None:
        self.serving = serving
        self.listener = listener
        self.connections: set[ExpressProtocol] = set()
        self.heads = HeadMemory(self._client_head)
        self.limits = limits = serving.settings.server
        # One timer for all connections: a timer each would be made and thrown away for every request.
        times = [limits.request_head_timeout_seconds, limits.keepalive_timeout_seconds]
        for upstream in serving.settings.upstreams:
            times += [upstream.response_timeout_seconds, upstream.idle_timeout_seconds or 1]
        self._interval = min(1.0, *(seconds / 4 for seconds in times))
        self._timer: asyncio.TimerHandle | None = None

    def __call__(self) -> ExpressProtocol:
        return ExpressProtocol(self)

    def start(self) -> None:
        """Begin to watch the connections' time limits."""
        self._timer = asyncio.get_running_loop().call_later(self._interval, self._watch)

    def start_drain(self) -> None:
        """Close idle connections now; the others close after their running request."""
        for connection in list(self.connections):
            connection.drain()

    async def stop(self) -> None:
        """Cut what is still open."""
        if self._timer is not None:
            self._timer.cancel()
        tasks = [connection.cut() for connection in list(self.connections)]
        await asyncio.gather(*(task for task in tasks if task is not None), return_exceptions=True)

    def _watch(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(self._interval, self._watch)
        now = loop.time()
        for connection in list(self.connections):
            if connection.deadline < now:
                connection.too_late()

    def _client_head(self, head: PlainHead) -> bytes:
        return client_head(
            head.status,
            head.phrase,
            head.headers,
            self.serving.pipeline.pseudonym,
            http_11=True,
            keep_alive=True,
            chunked=False,
        )


class CollectedContent:
    """A request's content that has arrived whole."""

    __slots__ = ("_data", "awaited", "chunked", "size", "unread")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.chunked = False
        self.awaited = False
        self.unread = False
        self.size = len(data)

    def whole(self) -> bytes | None:
        """Return it."""
        return self._data

    async def read(self) -> bytes:
        """Return it, then nothing."""
        data, self._data = self._data, b""
        return data


class ExpressProtocol(asyncio.Protocol):
    """One client connection, until it is handed over.

    Attributes:
        deadline: the loop's time after which it is too late for what is expected next.
    """

    def __init__(self, lane: ExpressLane) -> None:
        self._lane = lane
        self._serving = lane.serving
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._peer = Peer(b"unknown", False, 0)
        self._buffer = b""
        self._working = False
        self._exchange: ExpressExchange | None = None
        self._section: Section | None = None
        self._client_text = ""
        self._common = b""
        self._common_for: tuple[object, ...] = ()
        self._paused = False
        self._reading_paused = False
        self._drained: asyncio.Future[None] | None = None
        self._content_timer: asyncio.TimerHandle | None = None
        self._most_content = min(MAX_CONTENT, lane.limits.max_body_bytes or MAX_CONTENT)
        self.deadline = 0.0

    # --- the connection ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = self._transport = cast(asyncio.Transport, transport)
        telemetry = self._serving.telemetry
        telemetry.connections += 1
        self._lane.connections.add(self)
        if telemetry.connections > self._lane.limits.max_connections:
            self._hand_over(b"")
            return
        secure = transport.get_extra_info("ssl_object") is not None
        self._peer = peer_of(transport.get_extra_info("peername"), transport.get_extra_info("sockname"), secure=secure)
        self.deadline = self._loop.time() + self._lane.limits.keepalive_timeout_seconds

    def connection_lost(self, exc: Exception | None) -> None:
        self._leave()
        self._transport = None
        if self._drained is not None and not self._drained.done():
            self._drained.set_exception(ConnectionResetError("the client left"))
        if self._exchange is not None:
            self._exchange.client_lost()
        self._lane.listener.connection_ended()

    def _leave(self) -> None:
        if self._content_timer is not None:
            self._content_timer.cancel()
            self._content_timer = None
        self._lane.connections.discard(self)
        self._serving.telemetry.connections -= 1

    def data_received(self, data: bytes) -> None:
        self._buffer = self._buffer + data if self._buffer else data
        if self._exchange is None:
            self._work()
        elif len(self._buffer) > MAX_AHEAD and not self._reading_paused and self._transport is not None:
            self._reading_paused = True
            self._transport.pause_reading()

    def pause_writing(self) -> None:
        self._paused = True
        if self._exchange is not None:
            self._exchange.client_paused(True)

    def resume_writing(self) -> None:
        self._paused = False
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)
        if self._exchange is not None:
            self._exchange.client_paused(False)

    # --- requests ---

    def _work(self) -> None:
        """Serve what is whole in the buffer, one request after the other."""
        if self._working:
            return
        self._working = True
        try:
            while self._buffer and self._exchange is None and self._transport is not None:
                if not self._next():
                    break
        finally:
            self._working = False

    def _next(self) -> bool:
        """Begin the next request; return whether to go on."""
        buffer = self._buffer
        end = buffer.find(b"\r\n\r\n") + 4
        limits = self._lane.limits
        if end < 4 and len(buffer) <= limits.max_head_bytes:
            self.deadline = min(self.deadline, self._loop.time() + limits.request_head_timeout_seconds)
            return False
        line = _REQUEST_LINE(buffer) if 4 <= end <= limits.max_head_bytes else None
        if line is None:
            self._hand_over(buffer)
            return False
        method, target = line.groups()
        head = RequestHead(method.decode("ascii"), target, True, (), self._peer)
        block = buffer[line.end() : end]
        section = self._section
        token = None if section is None else same_section(section, block)
        if section is None or (token is None and section.before != block):
            found = read_section(block, self._serving.pipeline, head)
            if found is None:
                self._hand_over(buffer)
                return False
            section, token = found
            self._section = section
            self._client_text = self._serving.pipeline.client_address(head._replace(headers=section.headers)).decode(
                "ascii"
            )
        if section.length and not self._has_content(section.length, len(buffer) - end):
            return False
        if self._content_timer is not None:
            self._content_timer.cancel()
            self._content_timer = None
        self._buffer = buffer[end + section.length :]
        self._begin(head, section, token, buffer[end : end + section.length])
        return True

    def _has_content(self, length: int, arrived: int) -> bool:
        """Return whether the content is there; one that will not be soon, or is large, is streamed instead."""
        if arrived >= length and length <= self._most_content:
            return True
        if length > self._most_content:
            self._hand_over(self._buffer)
        elif self._content_timer is None:
            self._content_timer = self._loop.call_later(CONTENT_WAIT, self._content_waited)
        return False

    def _content_waited(self) -> None:
        self._content_timer = None
        if self._exchange is None and self._transport is not None and self._buffer:
            self._hand_over(self._buffer)

    def _begin(self, head: RequestHead, section: Section, token: bytes | None, content: bytes) -> None:
        serving = self._serving
        facts, headers = section.facts, section.headers
        if token is not None:
            facts = facts._replace(authorization=[section.scheme + token])
            headers = section.headers_with(token)
        given = section.request_id or serving.new_id()
        record = Record(
            started=serving.clock.monotonic(),
            client=self._client_text,
            request_id=given.decode("ascii"),
            method=head.method,
        )
        run = Run(self, head._replace(headers=headers), record, given)
        if content:
            run.content = CollectedContent(content)
        exchange = self._exchange = ExpressExchange(self, run, serving, self._lane.heads, content)
        exchange.start(facts)

    def common_head(self, admitted: Admitted, origin: Origin) -> bytes:
        """Return what stands between request line and identity in the head for the upstream.

        It depends on the header section but its token, the connection, the
        route and the URL; the last one is remembered.
        """
        key = (self._section, admitted.route, origin)
        if self._common_for != key:
            assert self._section is not None
            head = RequestHead("GET", b"/", True, self._section.headers, self._peer)
            whole = self._serving.pipeline.upstream_head(head, admitted, None, origin, b"")
            line = request_line("GET", admitted, origin)
            self._common = whole[len(line) : -len(b"X-Request-Id: \r\n\r\n")]
            self._common_for = key
        return self._common

    def ended(self, keep_alive: bool) -> None:
        """The running request is over."""
        self._exchange = None
        transport = self._transport
        if transport is None:
            return
        if not keep_alive or self.draining:
            transport.close()
            return
        if self._reading_paused:
            self._reading_paused = False
            transport.resume_reading()
        self.deadline = self._loop.time() + self._lane.limits.keepalive_timeout_seconds
        if self._buffer:
            self._work()

    def _hand_over(self, data: bytes) -> Protocol:
        """Give the connection to aiohttp's protocol, with all bytes that it has not served."""
        transport = self._transport
        assert transport is not None
        self._leave()
        self._transport = None
        self._buffer = b""
        protocol = cast(Protocol, self._lane.listener())
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        if data:
            protocol.data_received(data)
        return protocol

    # --- the client's side of a request ---

    @property
    def keep_alive(self) -> bool:
        """Whether the connection may serve another request."""
        return not self.draining

    @property
    def gone(self) -> bool:
        """Whether nothing can be written any more."""
        return self._transport is None or self._transport.is_closing()

    @property
    def draining(self) -> bool:
        """Whether the gateway is on its way out."""
        return self._lane.listener.draining

    def send(self, data: bytes) -> None:
        """Write without waiting; ``pause_writing`` holds the source back."""
        if self._transport is not None:
            self._transport.write(data)

    async def write(self, data: bytes) -> None:
        """Write, and wait while the client cannot take more."""
        if self._transport is None or self._transport.is_closing():
            raise ConnectionResetError("the client left")
        self._transport.write(data)
        if self._paused:
            self._drained = self._loop.create_future()
            await self._drained

    def abort(self) -> None:
        """Cut the connection."""
        if self._transport is not None:
            self._transport.abort()

    # --- time ---

    def too_late(self) -> None:
        """What was expected has not come in time."""
        if self._exchange is not None:
            self._exchange.too_late()
        elif not self._buffer:
            if self._transport is not None:
                self._transport.close()
        else:
            head_only = b"\r\n\r\n" not in self._buffer
            protocol = self._hand_over(self._buffer)
            if head_only:
                protocol.head_too_slow()

    def drain(self) -> None:
        """Close the connection if nothing is running or coming in."""
        if self._exchange is None and not self._buffer and self._transport is not None:
            self._transport.close()

    def cut(self) -> asyncio.Task[None] | None:
        """Cut the connection now; return the task of its request, if it has one."""
        task = None if self._exchange is None else self._exchange.task
        if task is not None:
            task.cancel()
        self.abort()
        return task
