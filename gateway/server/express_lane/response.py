"""The response of one request in the express lane.

This file has what comes back: the upstream's bytes on their way to the client, the gateway's own refusal instead of
them, and the handing of the request to the shared run (``pipeline/runner.py``), in a task, when its rest has to wait
or is not plain. How the request gets to its upstream is ``exchange.py``'s.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any, Protocol

from gateway.errors import GatewayError, Reasons
from gateway.http1.chunked_content import ChunkedContent
from gateway.http1.request_head import RequestHead
from gateway.identity import Identity
from gateway.server.express_lane.write_batch import WriteBatch
from gateway.server.pipeline.runner import Serving
from gateway.server.request.in_progress import Client, Run
from gateway.server.request.outcome import blame, may_repeat
from gateway.server.request.request import Admitted
from gateway.tasks import spawn, where
from gateway.upstream.exchange.exchange import receive
from gateway.upstream.exchange.reply import rest_of_reply
from gateway.upstream.exchange.upload import LAST_CHUNK, chunk, may_close_unread
from gateway.upstream.pool.upstream import Upstream
from gateway.upstream.pool.upstream_url import Lease

_log = logging.getLogger("gateway")


class ClientConnection(Client, Protocol):
    """What an exchange needs of its client's connection."""

    deadline: float
    writes: WriteBatch

    def in_seconds(self, seconds: float) -> float:
        """Return the loop's time so many seconds from now."""
        ...

    def send(self, data: bytes) -> None:
        """Write without waiting."""
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
    """

    # Not in __init__: most requests end without these being touched.
    lease: Lease | None = None
    task: asyncio.Task[None] | None = None
    admitted: Admitted | None = None
    _identity: Identity | None = None
    _upstream: Upstream
    _left = -1  # content of the response still to come, in chunks anything but 0; -1 before its head
    _chunks: ChunkedContent | None = None
    _began = 0.0
    _held_back = False  # the upstream's connection is not read, because the client does not take what it was sent

    def __init__(self, client: ClientConnection, serving: Serving, run: Run, content: bytes) -> None:
        self._client = client
        self._serving = serving
        self._run = run
        self._content = content

    @property
    def head(self) -> RequestHead:
        """The request's."""
        return self._run.head

    # --- from the upstream ---

    def upstream_data(self, data: bytes) -> None:
        """Take the next bytes of the response."""
        try:
            if self._left < 0:
                self._response_head(data)
            elif self._chunks is not None:
                self._more_chunks(self._chunks, data)
            else:
                self._more_content(data)
        except Exception as error:
            self._broken(error)

    def _more_content(self, data: bytes) -> None:
        lease, run = self.lease, self._run
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

    def _more_chunks(self, chunks: ChunkedContent, data: bytes) -> None:
        content = chunks.feed(data)
        lease, record = self.lease, self._run.record
        assert lease is not None
        if content or chunks.ended:
            record.bytes_out += len(content)
            self._client.send(_in_chunks(content, chunks))
        if chunks.ended:
            if chunks.rest:
                lease.protocol.force_close()
            self._whole()
        elif chunks.rest:
            self._rest_by_aiohttp(chunks.rest)
        else:
            self._await_content()

    def _response_head(self, data: bytes) -> None:
        lease = self.lease
        assert lease is not None
        lease.protocol.heard = True
        end = data.find(b"\r\n\r\n") + 4
        known = self._serving.heads.read(data[:end]) if end >= 4 else None
        client = self._client
        run = self._run
        added = run.answer_fields
        if known is None or client.draining or run.head.method == "HEAD":
            self._read_by_aiohttp(data)
            return
        content, size = data[end:], len(data) - end
        if known.length >= 0:
            left = known.length - size
        else:
            chunks = self._chunks = ChunkedContent()
            taken = chunks.feed(content)
            content, size = _in_chunks(taken, chunks), len(taken)
            left = -1 if chunks.rest else 0 if chunks.ended else 1
        if left < 0:  # more than was announced, or odd chunks
            self._read_by_aiohttp(data)
            return
        lines = b"".join([b"%b: %b\r\n" % pair for pair in added]) if added else b""
        ending = known.end(self._serving.outcomes.date, keep_alive=client.keep_alive)
        client.send(b"".join((known.start, lines, ending, content)))
        run.started_reply = True
        record = run.record
        record.upstream_seconds = self._serving.clock.monotonic() - self._began
        record.status = known.status
        record.bytes_out = size
        self._left = left
        if left:
            self._await_content()
            return
        self._release(known.status)
        self._serving.outcomes.finish(run)
        client.ended(True)

    @property
    def _head_only(self) -> bool:
        return self._run.head.method == "HEAD"

    def _await_content(self) -> None:
        """Bound the time for the next piece; the upstream is not late with what is not read because of the client."""
        idle = 0.0 if self._held_back else self._upstream.idle_timeout
        self._client.deadline = self._client.in_seconds(idle) if idle else float("inf")

    def _whole(self) -> None:
        """The response is complete."""
        self._release(self._run.record.status)
        self._serving.outcomes.finish(self._run)
        self._client.ended(True)

    def _release(self, status: int) -> None:
        """Give the upstream's connection back."""
        lease = self._give_up_lease()
        if self._content and may_close_unread(status, len(self._content)):
            lease.protocol.force_close()
        lease.release()

    def upstream_lost(self, broken: bool) -> None:
        """The upstream's connection is gone before the response was complete."""
        del broken  # a plain response has a length or chunks: it is short either way
        lease, run = self._give_up_lease(), self._run
        lease.discard()
        assert self.admitted is not None
        if may_repeat(lease, run.head.method, content=bool(self._content)):
            run.retried, run.asked_at = True, self._began
            self._in_task(self._serving.forward(run, self.admitted, self._identity))
            return
        detail = "content broke off" if run.started_reply else ""
        self._failed(GatewayError(Reasons.UPSTREAM_DISCONNECTED, detail=detail))

    def too_late(self) -> None:
        """The upstream is late with what is expected of it."""
        if self.lease is not None:
            self._give_up_lease().discard()
            detail = "between two reads of content" if self._run.started_reply else ""
            self._failed(GatewayError(Reasons.UPSTREAM_TIMEOUT, detail=detail))

    def _failed(self, error: GatewayError) -> None:
        run = self._run
        record = run.record
        blame(self._upstream, error)
        if not run.started_reply:
            record.upstream_seconds = self._serving.clock.monotonic() - self._began
            self._refuse(error)
            return
        self._break_off(error)

    def _break_off(self, error: GatewayError) -> None:
        """End a response that has begun, so that it cannot be taken for complete."""
        self._serving.outcomes.broke_off(self._run, error)
        self._serving.outcomes.finish(self._run)
        self._client.ended(False)

    def _read_by_aiohttp(self, data: bytes) -> None:
        """Give the response to aiohttp's parser, from its first byte, and the request to the shared run."""
        lease = self.lease
        assert lease is not None
        head_only = self._head_only
        left = self._client.deadline - asyncio.get_running_loop().time()
        # Given up last: if the parser fails, the connection is still this object's to discard.
        lease.protocol.expect_response(head_only=head_only, idle_timeout=self._upstream.idle_timeout)
        lease.protocol.data_received(data)
        self._in_task(self._received_and_delivered(self._give_up_lease(), head_only, left))

    def _rest_by_aiohttp(self, rest: bytes) -> None:
        """Give the rest of a response in chunks to aiohttp's parser, and the request to the shared run."""
        lease = self.lease
        assert lease is not None
        lease.protocol.expect_rest(rest, idle_timeout=self._upstream.idle_timeout)
        self._in_task(self._rest_delivered(self._give_up_lease(), self._run.record.status))

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

    def _broken(self, error: Exception) -> None:
        """End the request after a fault of the gateway's own."""
        run = self._run
        _log.error("request %s: %s", run.record.request_id, where(error))
        lease = None if self.lease is None else self._give_up_lease()
        if lease is not None:
            lease.discard()
        if not run.started_reply:
            self._refuse(GatewayError(Reasons.INTERNAL))
        elif lease is not None:
            self._break_off(GatewayError(Reasons.INTERNAL))
        else:  # the response was sent
            self._client.abort()

    def _refuse(self, error: GatewayError) -> None:
        run = self._run
        reply = self._serving.outcomes.refusal(run, error)
        run.record.bytes_out = reply.content
        self._client.send(reply.data)
        self._serving.outcomes.finish(run)
        self._client.ended(reply.keep_alive, refused=run.record.refused_here)

    # --- the shared run takes over ---

    def _in_task(self, work: Coroutine[Any, Any, bool]) -> None:
        self._client.deadline = float("inf")  # the shared run has time limits of its own
        self.task = spawn(self._settled(work), "express request")

    async def _settled(self, work: Coroutine[Any, Any, bool]) -> None:
        keep_alive = await self._serving.settle(self._run, work)
        self._client.ended(keep_alive, refused=self._run.record.refused_here)

    def cancel(self) -> None:
        """End the shared run, if it has taken over; not before it has begun, or it would not clean up."""
        if self.task is not None:
            asyncio.get_running_loop().call_soon(self.task.cancel)

    async def _received_and_delivered(self, lease: Lease, head_only: bool, left: float) -> bool:
        upstream = self._upstream
        with self._serving.outcomes.asking(self._run, upstream, self._began):
            reply = await receive(lease, head_only=head_only, response_timeout=max(0.001, left))
        return await self._serving.deliver(self._run, reply, upstream)

    async def _rest_delivered(self, lease: Lease, status: int) -> bool:
        return await self._serving.deliver(self._run, await rest_of_reply(status, lease), self._upstream)


def _in_chunks(content: bytes, chunks: ChunkedContent) -> bytes:
    """Return what a client gets of content that came in chunks."""
    framed = chunk(content) if content else b""
    return framed + LAST_CHUNK if chunks.ended else framed
