"""One request in the express lane: from its head to the last byte of its response.

Only the run of one request over a connection that is idle now lives here. The
steps are the pipeline's; every end is accounted for by the shared run of a
request (``serving.py``), which also takes over, in a task, whatever has to
wait or is not plain.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any, Protocol

from gateway.errors import GatewayError, Reason
from gateway.identity import Identity
from gateway.proxy.direct import HeadMemory
from gateway.proxy.forward import expect_response, receive
from gateway.proxy.origin import Lease, Origin
from gateway.proxy.upstreams import Upstream
from gateway.server.pipeline import UNSETTLED, Admitted, Facts, request_line
from gateway.server.responses import render
from gateway.server.serving import FAILURES, REPEATABLE, Client, Run, Serving
from gateway.tasks import spawn, where

_log = logging.getLogger("gateway")

#: Longest response head that is collected before aiohttp's parser takes it.
MAX_RESPONSE_HEAD = 65536

_REQUEST_ID = b"X-Request-Id: "


class ClientConnection(Client, Protocol):
    """What an exchange needs of its client's connection."""

    deadline: float

    def send(self, data: bytes) -> None:
        """Write without waiting."""
        ...

    def common_head(self, admitted: Admitted, origin: Origin) -> bytes:
        """Return what stands between request line and identity in the head for the upstream."""
        ...

    def ended(self, keep_alive: bool) -> None:
        """The request is over."""
        ...


class ExpressExchange:
    """One request on its way. Used once.

    Attributes:
        lease: the upstream's connection while the response comes straight to this object.
        task: the shared run, when it has taken over.
    """

    __slots__ = (
        "_admitted",
        "_began",
        "_client",
        "_content",
        "_heads",
        "_identity",
        "_left",
        "_loop",
        "_response",
        "_run",
        "_serving",
        "_upstream",
        "lease",
        "task",
    )

    def __init__(self, client: ClientConnection, run: Run, serving: Serving, heads: HeadMemory, content: bytes) -> None:
        self._client = client
        self._run = run
        self._serving = serving
        self._heads = heads
        self._content = content
        self._loop = asyncio.get_running_loop()
        self._response = b""
        self._left = -1  # content of the response still to come; -1 before its head
        self._began = 0.0
        self._identity: Identity | None = None
        self._upstream: Upstream | None = None
        self._admitted: Admitted | None = None
        self.lease: Lease | None = None
        self.task: asyncio.Task[None] | None = None

    def start(self, facts: Facts) -> None:
        """Take the steps up to the upstream, or to the refusal."""
        run, pipeline = self._run, self._serving.pipeline
        try:
            admitted = self._admitted = pipeline.admit(run.head, facts, run.record)
            token = pipeline.token(admitted, run.record)
            if token is not None:
                identity = pipeline.recognise(token, admitted, run.record)
                if identity is UNSETTLED:
                    self._in_task(self._verified_and_forwarded(token, admitted))
                    return
                self._identity = identity
            pipeline.check_content(facts)
            self._send(admitted)
        except GatewayError as error:
            self._refuse(error)
        except Exception as error:
            _log.error("request %s: %s", run.record.request_id, where(error))
            self._refuse(GatewayError(Reason.INTERNAL))

    def _send(self, admitted: Admitted) -> None:
        run, record, serving = self._run, self._run.record, self._serving
        upstream = self._upstream = serving.upstreams[admitted.route.upstream]
        leased = upstream.lease_now()
        if leased is None:
            self._in_task(serving.forward(run, admitted, self._identity))
            return
        origin, lease = leased
        record.upstream = upstream.name
        protocol = lease.protocol
        transport = protocol.transport
        try:
            if admitted.route.forward_authorization or admitted.target.authority is not None:
                head = serving.pipeline.upstream_head(run.head, admitted, self._identity, origin, run.id)
            else:
                head = self._head(admitted, origin)
        except BaseException:
            lease.release()
            raise
        assert transport is not None
        self.lease = lease
        self._began = serving.clock.monotonic()
        protocol.receiver = self
        protocol.heard = False
        transport.write(head + self._content if self._content else head)
        self._client.deadline = self._loop.time() + upstream.settings.response_timeout_seconds

    def _head(self, admitted: Admitted, origin: Origin) -> bytes:
        """Return the head for the upstream: what ``Pipeline.upstream_head`` returns, from its parts."""
        parts = [request_line(self._run.head.method, admitted, origin), self._client.common_head(admitted, origin)]
        if self._identity is not None:
            parts += [b"%b: %b\r\n" % pair for pair in self._identity.headers]
        parts += (_REQUEST_ID, self._run.id, b"\r\n\r\n")
        return b"".join(parts)

    # --- the upstream's side ---

    def upstream_data(self, data: bytes) -> None:
        """Take the next bytes of the response."""
        if self._left < 0:
            self._response_head(data)
            return
        lease = self.lease
        assert lease is not None
        if len(data) > self._left:
            # More than was announced: what is too much belongs to nobody, and the connection is not used again.
            data = data[: self._left]
            lease.protocol.force_close()
        self._run.record.bytes_out += len(data)
        self._left -= len(data)
        self._client.send(data)
        if self._left:
            idle = self._idle_timeout
            self._client.deadline = self._loop.time() + idle if idle else float("inf")
        else:
            self._whole()

    def _response_head(self, data: bytes) -> None:
        lease, record = self.lease, self._run.record
        assert lease is not None
        lease.protocol.heard = True
        if self._response:
            data = self._response + data
        end = data.find(b"\r\n\r\n") + 4
        if end < 4:
            if len(data) > MAX_RESPONSE_HEAD:
                self._read_by_aiohttp(data)
            else:
                self._response = data
            return
        try:
            known = None if self._run.head.method == "HEAD" else self._heads.read(data[:end])
        except ValueError:
            known = None
        keep_alive = self._client.keep_alive
        if known is None or not keep_alive or len(data) - end > known.length:
            self._read_by_aiohttp(data)
            return
        record.upstream_seconds = self._serving.clock.monotonic() - self._began
        record.status = known.status
        self._run.started_reply = True
        self._client.send(known.client_head + data[end:] if len(data) > end else known.client_head)
        record.bytes_out = len(data) - end
        self._left = known.length - record.bytes_out
        if self._left:
            idle = self._idle_timeout
            self._client.deadline = self._loop.time() + idle if idle else float("inf")
        else:
            self._whole()

    @property
    def _idle_timeout(self) -> float:
        assert self._upstream is not None
        return self._upstream.settings.idle_timeout_seconds

    def _whole(self) -> None:
        """The response is complete."""
        self._give_up_lease().release()
        self._finish()
        self._client.ended(True)

    def upstream_lost(self, broken: bool) -> None:
        """The upstream's connection is gone before the response was complete."""
        del broken  # a plain response has a length: it is short either way
        lease, run = self._give_up_lease(), self._run
        lease.discard()
        assert self._admitted is not None
        unheard = not lease.protocol.heard
        if unheard and lease.reused and not self._content and run.head.method in REPEATABLE:
            run.retried = True
            self._in_task(self._serving.forward(run, self._admitted, self._identity))
            return
        self._failed(GatewayError(Reason.UPSTREAM_DISCONNECTED))

    def too_late(self) -> None:
        """The upstream is late with what is expected of it."""
        if self.lease is not None:
            self._give_up_lease().discard()
            self._failed(GatewayError(Reason.UPSTREAM_TIMEOUT))

    def _failed(self, error: GatewayError) -> None:
        record = self._run.record
        assert self._upstream is not None
        self._upstream.failed(error.reason)
        if not self._run.started_reply:
            record.upstream_seconds = self._serving.clock.monotonic() - self._began
            self._refuse(error)
            return
        # The head is out: the only honest end is a broken connection (R286).
        status = record.status
        self._serving.account(record, error)
        record.status = status
        self._client.abort()
        self._finish()
        self._client.ended(False)

    def _read_by_aiohttp(self, data: bytes) -> None:
        """Give the response to aiohttp's parser, from its first byte, and the request to the shared run."""
        lease = self._give_up_lease()
        head_only = self._run.head.method == "HEAD"
        expect_response(lease.protocol, head_only=head_only, idle_timeout=self._idle_timeout)
        self._in_task(self._received_and_delivered(lease, head_only))
        lease.protocol.data_received(data)

    def _give_up_lease(self) -> Lease:
        """Take the connection away from this object: its bytes go to aiohttp's parser from now on."""
        lease, self.lease = self.lease, None
        assert lease is not None
        lease.protocol.receiver = None
        return lease

    # --- the client's side ---

    def client_lost(self) -> None:
        """The client left."""
        if self.task is not None:
            self.task.cancel()
        elif self.lease is not None:
            self._give_up_lease().discard()
            self._serving.client_left(self._run)
            self._finish()

    def client_paused(self, paused: bool) -> None:
        """The client cannot take more for now, or can again."""
        transport = None if self.lease is None else self.lease.protocol.transport
        if transport is not None:
            if paused:
                transport.pause_reading()
            else:
                transport.resume_reading()

    def _refuse(self, error: GatewayError) -> None:
        run = self._run
        reply = self._serving.account(run.record, error)
        keep_alive = self._client.keep_alive and not reply.close
        run.record.bytes_out = len(reply.body)
        data = render(reply, http_11=True, keep_alive=keep_alive, head_only=run.head.method == "HEAD")
        self._client.send(data)
        self._finish()
        self._client.ended(keep_alive)

    def _finish(self) -> None:
        self._serving.finish(self._run)

    # --- the shared run takes over ---

    def _in_task(self, work: Coroutine[Any, Any, bool]) -> None:
        self._client.deadline = float("inf")  # the shared run has time limits of its own
        self.task = spawn(self._settled(work), "express request")

    async def _settled(self, work: Coroutine[Any, Any, bool]) -> None:
        keep_alive = await self._serving.settle(self._run, work)
        self._client.ended(keep_alive)

    async def _verified_and_forwarded(self, token: bytes, admitted: Admitted) -> bool:
        pipeline = self._serving.pipeline
        identity = await pipeline.verify(token, admitted, self._run.record)
        pipeline.check_content(admitted.facts)
        return await self._serving.forward(self._run, admitted, identity)

    async def _received_and_delivered(self, lease: Lease, head_only: bool) -> bool:
        upstream, record = self._upstream, self._run.record
        assert upstream is not None
        try:
            reply = await receive(lease, head_only=head_only, response_timeout=self._time_left(upstream))
        except GatewayError as error:
            if error.reason.kind in FAILURES:
                upstream.failed(error.reason)
            raise
        finally:
            record.upstream_seconds = self._serving.clock.monotonic() - self._began
        return await self._serving.deliver(self._run, reply, upstream)

    def _time_left(self, upstream: Upstream) -> float:
        elapsed = self._serving.clock.monotonic() - self._began
        return max(0.001, upstream.settings.response_timeout_seconds - elapsed)
