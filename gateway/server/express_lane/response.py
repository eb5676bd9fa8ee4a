"""The response of one request in the express lane.

This file has what comes back: the upstream's bytes on their way to the client, the gateway's own refusal instead of
them, and the handing of the request to the shared run (``pipeline/runner.py``), in a task, when its rest has to wait
or is not plain. How the request gets to its upstream is ``exchange.py``'s.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, Protocol

from gateway.errors import GatewayError, Reasons
from gateway.http1.plain_response import HeadMemory
from gateway.identity import Identity
from gateway.server.express_lane.plan import Plan, with_length
from gateway.server.pipeline.runner import Serving
from gateway.server.request.body import CollectedContent
from gateway.server.request.in_progress import Client, Run
from gateway.server.request.outcome import blame, may_repeat
from gateway.server.request.request import Admitted, RequestHead
from gateway.tasks import spawn
from gateway.telemetry.counters import Record
from gateway.upstream.exchange.exchange import receive
from gateway.upstream.exchange.upload import may_close_unread
from gateway.upstream.pool.upstream import Upstream
from gateway.upstream.pool.upstream_url import Lease, Origin


class ClientConnection(Client, Protocol):
    """What an exchange needs of its client's connection."""

    deadline: float

    @property
    def token(self) -> bytes:
        """The bearer token of the running request that follows a plan."""
        ...

    @property
    def address(self) -> str:
        """The client's address, seen through trusted proxies."""
        ...

    def send(self, data: bytes) -> None:
        """Write without waiting."""
        ...

    def record(self, request_id: bytes, method: str) -> Record:
        """Return a new record of a request on this connection."""
        ...

    def head_of(self, plan: Plan) -> RequestHead:
        """Return the head of a request that was served by a plan."""
        ...

    def head_for(self, plan: Plan, origin: Origin, lease: Lease) -> bytes | None:
        """Return the running request's head for the upstream, up to the identity; without one the lease is released."""
        ...

    def ended(self, keep_alive: bool, *, refused: bool = False) -> None:
        """The request is over."""
        ...


class ExpressResponse:
    """One request whose response is awaited, or comes. Used once.

    Attributes:
        lease: the upstream's connection while the response comes straight to this object.
        task: the shared run, when it has taken over.
        admitted: where the request led, once that is known.
        by_form: whether a refusal followed from the request's head alone, and from nothing that can change.
        refusal: why, if every request with this head is refused so, and is not access-logged.
    """

    # Not in __init__: most requests end without these being touched.
    lease: Lease | None = None
    task: asyncio.Task[None] | None = None
    admitted: Admitted | None = None
    by_form = False
    refusal: GatewayError | None = None
    _run: Run | None = None
    _plan: Plan | None = None
    _identity: Identity | None = None
    _upstream: Upstream
    _id = b""
    _content = b""
    _left = -1  # content of the response still to come; -1 before its head
    _began = 0.0
    _held_back = False  # the upstream's connection is not read, because the client does not take what it was sent
    _verify_seconds: float | None = None  # what a token that was not remembered took

    def __init__(self, client: ClientConnection, serving: Serving, heads: HeadMemory) -> None:
        self._client = client
        self._serving = serving
        self._heads = heads

    @property
    def run(self) -> Run:
        """The request, as the shared run knows it; made when something needs it."""
        if self._run is None:
            plan = self._plan
            assert plan is not None
            record = self._client.record(self._id, plan.method)
            record.started = self._began - (self._verify_seconds or 0.0)
            record.path = plan.admitted.target.path.decode("ascii")
            record.route = plan.admitted.route.name
            record.identity = self._identity
            record.cache_hit = None if self._identity is None else True
            if self._verify_seconds is not None:
                record.cache_hit, record.verify_seconds = False, self._verify_seconds
            record.upstream = self._upstream.name
            self.admitted = with_length(plan.admitted, self._content)
            self._run = Run(self._client, self._client.head_of(plan), record, self._id)
            if self._content:
                content = self._run.content = CollectedContent(self._content)
                content.whole()  # it was sent
            self._serving.outcomes.enter(self._run)
        return self._run

    # --- from the upstream ---

    def upstream_data(self, data: bytes) -> None:
        """Take the next bytes of the response."""
        if self._left < 0:
            self._response_head(data)
            return
        lease, run = self.lease, self.run
        assert lease is not None
        if len(data) > self._left:
            # More than was announced: the excess belongs to no response, and the connection is not used again.
            data = data[: self._left]
            lease.protocol.force_close()
        run.record.bytes_out += len(data)
        self._left -= len(data)
        self._client.send(data)
        if self._left:
            self._await_content()
        else:
            self._whole()

    def _response_head(self, data: bytes) -> None:
        lease = self.lease
        assert lease is not None
        lease.protocol.heard = True
        end = data.find(b"\r\n\r\n") + 4
        known = self._heads.read(data[:end]) if end >= 4 else None
        client = self._client
        added = () if self._run is None else self._run.answer_fields
        if known is None or client.draining or len(data) - end > known.length or self._head_only:
            self._read_by_aiohttp(data)
            return
        if added:
            if self._heads is not self._serving.heads:  # the head says something behind them
                self._read_by_aiohttp(data)
                return
            lines = b"".join([b"%b: %b\r\n" % pair for pair in added])
            client.send(b"".join((known.fields, lines, known.end(self._serving.outcomes.date), data[end:])))
        else:
            client.send(b"".join((known.fields, known.end(self._serving.outcomes.date), data[end:])))
        if self._run is None and len(data) - end == known.length and not self._serving.logging:
            self._whole_at_once(known.status)
            return
        run = self.run
        run.started_reply = True
        record = run.record
        record.upstream_seconds = self._serving.clock.monotonic() - self._began
        record.status = known.status
        record.bytes_out = len(data) - end
        self._left = known.length - record.bytes_out
        if self._left:
            self._await_content()
        else:
            self._whole()

    @property
    def _head_only(self) -> bool:
        return (self._plan.method if self._plan is not None else self.run.head.method) == "HEAD"

    def _await_content(self) -> None:
        idle = self._upstream.idle_timeout
        self._client.deadline = asyncio.get_running_loop().time() + idle if idle else float("inf")

    def _whole_at_once(self, status: int) -> None:
        """Finish a response that came whole in one piece, to a request that is not access-logged."""
        self._release(status)
        plan = self._plan
        assert plan is not None
        seconds, verifying = self._serving.clock.monotonic() - self._began, self._verify_seconds
        if verifying is None:
            self._serving.telemetry.finish_plain(plan.counter(status), seconds)
        else:
            self._serving.telemetry.finish_verified(plan.counter(status), seconds, verifying)
        self._client.ended(True)

    def _whole(self) -> None:
        """The response is complete."""
        self._release(self.run.record.status)
        self._serving.outcomes.finish(self.run)
        self._client.ended(True)

    def _release(self, status: int) -> None:
        """Give the upstream's connection back."""
        lease = self._give_up_lease()
        if self._content and may_close_unread(status, len(self._content)):
            lease.protocol.force_close()
        lease.release()

    def upstream_lost(self, broken: bool) -> None:
        """The upstream's connection is gone before the response was complete."""
        del broken  # a plain response has a length: it is short either way
        lease, run = self._give_up_lease(), self.run
        lease.discard()
        assert self.admitted is not None
        if may_repeat(lease, run.head.method, content=bool(self._content)):
            run.retried = True
            self._in_task(self._serving.forward(run, self.admitted, self._identity))
            return
        self._failed(GatewayError(Reasons.UPSTREAM_DISCONNECTED))

    def too_late(self) -> None:
        """The upstream is late with what is expected of it."""
        if self.lease is not None:
            self._give_up_lease().discard()
            self._failed(GatewayError(Reasons.UPSTREAM_TIMEOUT))

    def _failed(self, error: GatewayError) -> None:
        run = self.run
        record = run.record
        blame(self._upstream, error)
        if not run.started_reply:
            record.upstream_seconds = self._serving.clock.monotonic() - self._began
            self._refuse(error)
            return
        self._serving.outcomes.broke_off(run, error)
        self._serving.outcomes.finish(run)
        self._client.ended(False)

    def _read_by_aiohttp(self, data: bytes) -> None:
        """Give the response to aiohttp's parser, from its first byte, and the request to the shared run."""
        lease = self._give_up_lease()
        head_only = self._head_only
        lease.protocol.expect_response(head_only=head_only, idle_timeout=self._upstream.idle_timeout)
        self._in_task(self._received_and_delivered(lease, head_only))
        lease.protocol.data_received(data)

    def _give_up_lease(self) -> Lease:
        """Take the connection away from this object: its bytes go to aiohttp's parser from now on."""
        lease, self.lease = self.lease, None
        assert lease is not None
        protocol = lease.protocol
        protocol.receiver = None
        if self._held_back:
            # Its next request must not wait for this client: the last bytes may be what the client could not take.
            self._held_back = False
            if protocol.transport is not None and not protocol.transport.is_closing():
                protocol.transport.resume_reading()
        return lease

    # --- from the gateway ---

    def _refuse(self, error: GatewayError) -> None:
        run = self.run
        reply = self._serving.outcomes.refusal(run, error)
        run.record.bytes_out = reply.content
        if self.by_form and reply.keep_alive and not (run.answer_fields or self._serving.logging):
            self.refusal = error.untraced()  # its frames hold what the client has sent, and this object
        self._client.send(reply.data)
        self._serving.outcomes.finish(run)
        self._client.ended(reply.keep_alive, refused=run.record.upstream_seconds is None)

    # --- the shared run takes over ---

    def _in_task(self, work: Coroutine[Any, Any, bool]) -> None:
        self._client.deadline = float("inf")  # the shared run has time limits of its own
        self.task = spawn(self._settled(work), "express request")

    async def _settled(self, work: Coroutine[Any, Any, bool]) -> None:
        keep_alive = await self._serving.settle(self.run, work)
        self._client.ended(keep_alive, refused=self.run.record.outcome == "refused")

    def cancel(self) -> None:
        """End the shared run, if it has taken over; not before it has begun, or it would not clean up."""
        if self.task is not None:
            asyncio.get_running_loop().call_soon(self.task.cancel)

    async def _received_and_delivered(self, lease: Lease, head_only: bool) -> bool:
        upstream = self._upstream
        timeout = upstream.response_timeout - (self._serving.clock.monotonic() - self._began)
        with self._serving.outcomes.asking(self.run, upstream, self._began):
            reply = await receive(lease, head_only=head_only, response_timeout=max(0.001, timeout))
        return await self._serving.deliver(self.run, reply, upstream)
