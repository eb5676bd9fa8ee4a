"""One client connection in the express lane, until it is handed over.

Only the connection lives here: its buffer, its time limits, what it remembers
of its requests, and the moment at which it becomes aiohttp's. What happens to
a request is ``express_exchange.py``'s.
"""

from __future__ import annotations

import asyncio
import re
from hashlib import sha256
from typing import cast

from gateway.errors import GatewayError
from gateway.identity import Identity
from gateway.policy.authorize import authorize
from gateway.proxy.direct import HeadMemory
from gateway.proxy.headers import Peer
from gateway.server.content import CollectedContent
from gateway.server.express_exchange import ExpressExchange
from gateway.server.express_memory import (
    MAX_PLANS,
    Plan,
    Section,
    identity_lines,
    is_token,
    plannable,
    read_section,
)
from gateway.server.full_lane import peer_of
from gateway.server.listener import Listener, Protocol
from gateway.server.pipeline import Admitted, RequestHead
from gateway.server.run import Run
from gateway.server.serving import Serving
from gateway.server.unsent import UnsentWatch
from gateway.telemetry import Record

_REQUEST_LINE = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+) ([!-~]+) HTTP/1\.1\r\n").match

#: Largest request content that is collected; a larger one is streamed by the full lane.
MAX_CONTENT = 65536

#: How long the rest of a request's content is waited for, in seconds: many clients send head and content apart.
CONTENT_WAIT = 0.02

#: How much a client may send behind a request that is being served, before it is not read any more.
MAX_AHEAD = 65536


class ExpressConnection(asyncio.Protocol):
    """One client connection.

    Args:
        serving: the shared run of requests.
        listener: makes the full lane's protocol for what is handed over.
        heads: what upstreams' response heads mean.
        connections: where the connection is known while it is in this lane.

    Attributes:
        deadline: the loop's time after which it is too late for what is expected next.
    """

    def __init__(
        self, serving: Serving, listener: Listener, heads: HeadMemory, connections: set[ExpressConnection]
    ) -> None:
        self._serving = serving
        self._listener = listener
        self._heads = heads
        self._connections = connections
        self._limits = limits = serving.settings.server
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._peer = Peer(b"unknown", False, 0)
        self._buffer = b""
        self._working = False
        self._exchange: ExpressExchange | None = None
        self._section: Section | None = None
        self._plans: dict[bytes, Plan] = {}
        self._token = self._digest = b""
        self._client_text = ""
        self._paused = False
        self._reading_paused = False
        self._drained: asyncio.Future[None] | None = None
        self._unsent: UnsentWatch | None = None
        self._content_timer: asyncio.TimerHandle | None = None
        self._most_content = min(MAX_CONTENT, limits.max_body_bytes or MAX_CONTENT)
        self.deadline = 0.0

    # --- the connection ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = self._transport = cast(asyncio.Transport, transport)
        telemetry = self._serving.telemetry
        telemetry.connections += 1
        self._connections.add(self)
        if telemetry.connections > self._limits.max_connections:
            self._hand_over(b"")
            return
        secure = transport.get_extra_info("ssl_object") is not None
        self._peer = peer_of(transport.get_extra_info("peername"), transport.get_extra_info("sockname"), secure=secure)
        self.deadline = self._loop.time() + self._limits.keepalive_timeout_seconds

    def connection_lost(self, exc: Exception | None) -> None:
        self._leave()
        self._transport = None
        if self._drained is not None and not self._drained.done():
            self._drained.set_exception(ConnectionResetError("the client left"))
        if self._exchange is not None:
            self._exchange.client_lost()
        self._listener.connection_ended()

    def _leave(self) -> None:
        self._stop_content_timer()
        if self._unsent is not None:
            self._unsent.stop()
        self._connections.discard(self)
        self._serving.telemetry.connections -= 1

    def data_received(self, data: bytes) -> None:
        idle = self._exchange is None and not self._paused
        if idle and not self._buffer and self._plans and self._known(data):
            return
        self._buffer = self._buffer + data if self._buffer else data
        if idle:
            self._work()
        elif len(self._buffer) > MAX_AHEAD and not self._reading_paused and self._transport is not None:
            self._reading_paused = True
            self._transport.pause_reading()

    def pause_writing(self) -> None:
        self._paused = True
        self._watch_unsent()
        if self._exchange is not None:
            self._exchange.client_paused(True)

    def resume_writing(self) -> None:
        self._paused = False
        if self._unsent is not None:
            self._unsent.stop()
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)
        if self._exchange is not None:
            self._exchange.client_paused(False)
        else:
            self._go_on()

    def _watch_unsent(self) -> None:
        """Bound the time for which the client takes nothing, if there is something for it to take."""
        if self._unsent is None:
            self._unsent = UnsentWatch(self._limits.response_write_timeout_seconds)
        self._unsent.start(self._transport)

    def _close(self) -> None:
        """Close the connection once the client has what was sent."""
        if self._transport is not None:
            self._watch_unsent()
            self._transport.close()

    # --- requests ---

    def _known(self, data: bytes) -> bool:
        """Serve a request that differs from an earlier one of this connection in nothing but its token.

        What may have changed is asked anew: the token's standing, the route's
        rules for this caller, a free connection. Any doubt, and any refusal,
        goes the long way.
        """
        end = data.find(b"\r\n") + 2
        plan = self._plans.get(data[:end])
        section = self._section
        if plan is None or section is None or self._limits.max_concurrent_requests:
            return False
        start, stop = end + len(section.before), len(data) - len(section.after)
        if start > stop or data[end:start] != section.before or data[stop:] != section.after:
            return False
        identity: Identity | None = None
        if plan.anonymous:
            if start != stop and not section.after:
                return False
        else:
            identity = self._recalled(data[start:stop], plan)
            if identity is None:
                return False
        leased = plan.upstream.lease_now()
        if leased is None:
            return False
        origin, lease = leased
        common = plan.heads.get(origin)
        if common is None:
            head = RequestHead(plan.method, plan.admitted.target.path, True, section.headers, self._peer)
            common = plan.head(origin, self._serving.pipeline, head)
        exchange = self._exchange = ExpressExchange(self, self._serving, self._heads)
        exchange.start_known(plan, identity, common, lease, section.request_id)
        return True

    def _recalled(self, token: bytes, plan: Plan) -> Identity | None:
        """Return who the token speaks for, if it is known and the route lets them pass."""
        if token != self._token:
            if is_token(token) is None:
                return None
            self._token, self._digest = token, sha256(token).digest()
        identity = self._serving.pipeline.recall(self._digest)
        if identity is not None and identity is not plan.granted:
            try:
                authorize(plan.admitted.route, identity)
            except GatewayError:
                return None
            plan.granted, plan.granted_fields = identity, identity_lines(identity)
        return identity

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

    @property
    def _ready(self) -> bool:
        """Whether the next request can begin."""
        return bool(self._buffer) and self._exchange is None and not self._paused and self._transport is not None

    def _next(self) -> bool:
        """Begin the next request; return whether to go on."""
        buffer = self._buffer
        end = buffer.find(b"\r\n\r\n") + 4
        most = self._limits.max_head_bytes
        if end < 4 and len(buffer) <= most:
            self.deadline = min(self.deadline, self._loop.time() + self._limits.request_head_timeout_seconds)
            return False
        line = _REQUEST_LINE(buffer) if 4 <= end <= most else None
        if line is None:
            self._hand_over(buffer)
            return False
        head = RequestHead(line[1].decode("ascii"), line[2], True, (), self._peer)
        block = buffer[line.end() : end]
        found = self._read(block, head)
        if found is None:
            self._hand_over(buffer)
            return False
        section, token = found
        if section.length and not self._has_content(section.length, len(buffer) - end):
            return False
        self._stop_content_timer()
        self._buffer = buffer[end + section.length :]
        self._begin(line[0], head, section, token, buffer[end : end + section.length])
        return True

    def _read(self, block: bytes, head: RequestHead) -> tuple[Section, bytes | None] | None:
        """Return the meaning of a header section and the token in it; None when it is not for this lane."""
        section = self._section
        if section is not None:
            token = section.token(block)
            if token is not None or (not section.after and section.before == block):
                return section, token
        found = read_section(block, self._serving.pipeline, head)
        if found is not None:
            self._section = found[0]
            self._plans.clear()
            whole = head._replace(headers=found[0].headers)
            self._client_text = self._serving.pipeline.client_address(whole).decode("ascii")
        return found

    def _begin(self, line: bytes, head: RequestHead, section: Section, token: bytes | None, content: bytes) -> None:
        facts, headers = section.facts, section.headers
        if token is not None:
            facts, headers = section.facts_with(token), section.headers_with(token)
        given = section.request_id or self._serving.new_id()
        run = Run(self, head._replace(headers=headers), self.record(given, head.method), given)
        if content:
            run.content = CollectedContent(content)
        exchange = self._exchange = ExpressExchange(self, self._serving, self._heads)
        admitted = exchange.start(run, facts, content)
        if admitted is not None and plannable(admitted, section):
            self._remember(line, head.method, admitted, section)

    def _remember(self, line: bytes, method: str, admitted: Admitted, section: Section) -> None:
        """Remember where a request line led."""
        auth = admitted.route.auth
        if len(self._plans) >= MAX_PLANS:
            self._plans.clear()
        anonymous = auth == "public" or (auth == "optional" and not section.facts.authorization)
        upstream = self._serving.upstreams[admitted.route.upstream]
        self._plans[line] = Plan(method, admitted, upstream, anonymous=anonymous)

    def record(self, request_id: bytes, method: str) -> Record:
        """Return a new record of a request on this connection."""
        return Record(
            started=self._serving.clock.monotonic(),
            client=self._client_text,
            request_id=request_id.decode("ascii"),
            method=method,
        )

    def head_of(self, plan: Plan) -> RequestHead:
        """Return the head of a request that was served by a plan, as good as received."""
        section = self._section
        assert section is not None
        headers = section.headers_with(self._token) if section.after else section.headers
        return RequestHead(plan.method, plan.admitted.target.raw(), True, headers, self._peer)

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

    def _stop_content_timer(self) -> None:
        if self._content_timer is not None:
            self._content_timer.cancel()
            self._content_timer = None

    def ended(self, keep_alive: bool) -> None:
        """The running request is over."""
        self._exchange = None
        transport = self._transport
        if transport is None:
            return
        if not keep_alive or self._listener.draining:
            self._close()
            return
        self.deadline = self._loop.time() + self._limits.keepalive_timeout_seconds
        if not self._paused:
            self._go_on()

    def _go_on(self) -> None:
        """Read again, and serve what is there already."""
        if self._reading_paused and self._transport is not None:
            self._reading_paused = False
            self._transport.resume_reading()
        if self._buffer:
            self._work()

    def _hand_over(self, data: bytes) -> Protocol:
        """Give the connection to aiohttp's protocol, with all bytes that it has not served."""
        transport = self._transport
        assert transport is not None
        self._leave()
        self._transport = None
        self._buffer = b""
        protocol = cast(Protocol, self._listener())
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        if data:
            protocol.data_received(data)
        return protocol

    # --- the client's side of a request ---

    @property
    def keep_alive(self) -> bool:
        """Whether the connection may serve another request."""
        return not self._listener.draining

    @property
    def gone(self) -> bool:
        """Whether nothing can be written any more."""
        return self._transport is None or self._transport.is_closing()

    @property
    def draining(self) -> bool:
        """Whether the gateway is on its way out."""
        return self._listener.draining

    @property
    def stalled(self) -> bool:
        """Whether the connection was cut because the client did not read."""
        return self._unsent is not None and self._unsent.stalled

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
            self._close()
        elif not self._paused:  # else nothing is expected but that the client reads, which has a watch of its own
            head_only = b"\r\n\r\n" not in self._buffer
            protocol = self._hand_over(self._buffer)
            if head_only:
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
