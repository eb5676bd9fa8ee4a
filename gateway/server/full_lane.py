"""The full lane: aiohttp's request handler for everything.

Only the run of one request lives here: pipeline, exchange, relay, and the one
answer, one count and one log line that every request gets. Rules are in the
pipeline's steps; nothing is decided here.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from aiohttp import web

from gateway.clock import Clock
from gateway.errors import BAD_GATEWAY, GATEWAY_TIMEOUT, UNAVAILABLE, GatewayError, Reason
from gateway.identity import Identity
from gateway.proxy.forward import died_unanswered, exchange
from gateway.proxy.headers import Peer, address_text, render_head, request_id, response_headers
from gateway.proxy.relay import relay
from gateway.proxy.reply import Reply
from gateway.proxy.upstreams import Upstream
from gateway.server.content import ClientContent, has_content
from gateway.server.listener import Protocol
from gateway.server.pipeline import Admitted, Pipeline, RequestHead
from gateway.server.responses import Answer, answer, connection_field, render
from gateway.server.sent import sent
from gateway.settings.schema import Settings
from gateway.tasks import where
from gateway.telemetry import Record, Telemetry

_log = logging.getLogger("gateway")

# Requests that may be sent again when a reused connection turns out to be closed
# (RFC 9110 section 9.2.2, RFC 9112 section 9.3.1): idempotent, and without content.
_REPEATABLE = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE"})

_FAILURES = (BAD_GATEWAY, GATEWAY_TIMEOUT, UNAVAILABLE)

#: What the access log shows as the status of a request whose client left before the answer.
CLIENT_CLOSED_REQUEST = 499


@dataclass(slots=True)
class _Run:
    """One request on its way: aiohttp's request, its head, and what is known of it."""

    request: web.BaseRequest
    head: RequestHead
    record: Record
    id: bytes
    content: ClientContent | None = field(default=None)
    started_reply: bool = field(default=False)


class FullLane:
    """Runs one request from its head to its last byte."""

    def __init__(
        self,
        settings: Settings,
        pipeline: Pipeline,
        upstreams: Mapping[str, Upstream],
        telemetry: Telemetry,
        clock: Clock,
        new_id: Callable[[], bytes],
    ) -> None:
        self._settings = settings
        self._pipeline = pipeline
        self._upstreams = upstreams
        self._telemetry = telemetry
        self._clock = clock
        self._new_id = new_id

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Serve one request; every way out is counted and logged exactly once."""
        run = self._begin(request)
        record = run.record
        try:
            keep_alive = await self._serve(run)
        except GatewayError as error:
            keep_alive = await self._refuse(run, error)
        except asyncio.CancelledError:
            self._client_left(run)
            raise
        except ConnectionError:
            self._client_left(run)
            keep_alive = False
        except Exception as error:
            # Never a 500 and never a stack trace to a client; the log says where to look.
            _log.error("request %s: %s", record.request_id, where(error))
            keep_alive = await self._refuse(run, GatewayError(Reason.INTERNAL))
        finally:
            if run.content is not None:
                record.bytes_in = run.content.size
            self._telemetry.finish(record, self._clock.monotonic())
        return sent(keep_alive=keep_alive)

    def refuse_connection(self, protocol: Protocol, error: GatewayError) -> web.StreamResponse:
        """Answer and count a connection whose bytes are no request; it is closed afterwards."""
        record = Record(started=self._clock.monotonic(), client=_client(protocol).address.decode("ascii"))
        record.request_id = self._new_id().decode("ascii")
        reply = self._account(record, error)
        if protocol.transport is not None and not protocol.transport.is_closing():
            protocol.transport.write(render(reply, http_11=True, keep_alive=False, head_only=False))
        self._telemetry.finish(record, self._clock.monotonic())
        return sent(keep_alive=False)

    def _begin(self, request: web.BaseRequest) -> _Run:
        protocol = request.protocol
        assert isinstance(protocol, Protocol)
        peer = _client(protocol)
        head = RequestHead(
            method=request.method,
            target=request.raw_path.encode("utf-8", "surrogateescape"),
            http_11=request.version >= (1, 1),
            headers=request.raw_headers,
            peer=peer,
        )
        given_id = request_id(request.raw_headers, self._new_id)
        record = Record(
            started=self._clock.monotonic(),
            client=self._pipeline.client_address(head).decode("ascii"),
            request_id=given_id.decode("ascii"),
            method=request.method,
        )
        return _Run(request, head, record, given_id)

    async def _serve(self, run: _Run) -> bool:
        """Serve the request; return whether the connection stays open."""
        request, record = run.request, run.record
        admitted = self._pipeline.admit(run.head, record)
        if has_content(admitted.fields):
            run.content = ClientContent(request, admitted.fields, self._settings.server.max_body_bytes)
        identity = await self._pipeline.identify(admitted, record)
        self._pipeline.check_content(admitted.fields)
        upstream = self._upstreams[admitted.route.settings.upstream]
        record.upstream = upstream.name
        began = self._clock.monotonic()
        try:
            reply = await self._exchange(run, admitted, upstream, identity)
        except GatewayError as error:
            if error.reason.kind in _FAILURES:
                upstream.failed(error.reason)
            raise
        finally:
            record.upstream_seconds = self._clock.monotonic() - began
        return await self._relay(run, reply, upstream)

    async def _exchange(self, run: _Run, admitted: Admitted, upstream: Upstream, identity: Identity | None) -> Reply:
        """Exchange the request with one of the upstream's URLs, again if that is safe."""
        origin = upstream.next_origin()
        head = self._pipeline.upstream_head(run.head, admitted, identity, origin, run.id)
        limits = upstream.settings
        fresh = False
        while True:
            lease = await origin.lease(fresh=fresh)
            try:
                return await exchange(
                    lease,
                    head,
                    run.content,
                    head_only=run.head.method == "HEAD",
                    response_timeout=limits.response_timeout_seconds,
                    idle_timeout=limits.idle_timeout_seconds,
                )
            except GatewayError as error:
                again = lease.reused and not fresh and run.content is None and run.head.method in _REPEATABLE
                if not (again and died_unanswered(lease, error)):
                    raise
                fresh = True

    async def _relay(self, run: _Run, reply: Reply, upstream: Upstream) -> bool:
        """Send the response on; return whether the connection stays open."""
        request, record = run.request, run.record
        protocol = request.protocol
        assert isinstance(protocol, Protocol)
        chunked = not reply.bodyless and reply.length is None and run.head.http_11
        delimited = reply.bodyless or reply.length is not None or chunked
        unread = run.content is not None and not request.content.is_eof()
        keep_alive = request.keep_alive and delimited and not unread and not protocol.closing
        try:
            head = self._client_head(reply, http_11=run.head.http_11, keep_alive=keep_alive, chunked=chunked)
        except BaseException:
            reply.abort()  # nobody else knows of its connection yet
            raise
        record.status = reply.status
        run.started_reply = True
        try:
            await relay(reply, head, request.writer.write, chunked=chunked)
        except GatewayError as error:
            # The head is out: the only honest end is a broken connection (R286).
            if error.reason.kind in _FAILURES:
                upstream.failed(error.reason)
            self._account(record, error)
            record.status = reply.status
            if request.transport is not None:
                request.transport.abort()
            return False
        finally:
            record.bytes_out = reply.relayed
        return keep_alive

    def _client_head(self, reply: Reply, *, http_11: bool, keep_alive: bool, chunked: bool) -> bytes:
        headers = response_headers(reply.headers, self._pipeline.pseudonym)
        if reply.status == 204:
            headers = [pair for pair in headers if pair[0].lower() != b"content-length"]
        if chunked:
            headers.append((b"Transfer-Encoding", b"chunked"))
        if connection := connection_field(http_11=http_11, keep_alive=keep_alive):
            headers.append((b"Connection", connection))
        return render_head(b"HTTP/1.1 %d %b" % (reply.status, reply.phrase), headers)

    async def _refuse(self, run: _Run, error: GatewayError) -> bool:
        """Answer a refusal or failure; return whether the connection stays open."""
        request = run.request
        if error.reason is Reason.CLIENT_GONE:
            self._client_left(run)
            return False
        reply = self._account(run.record, error)
        transport = request.transport
        if run.started_reply or transport is None or transport.is_closing():
            if transport is not None:
                transport.abort()
            return False
        protocol = request.protocol
        assert isinstance(protocol, Protocol)
        waiting = run.content is not None and run.content.awaited
        unread = run.content is not None and not request.content.is_eof()
        keep_alive = request.keep_alive and not (reply.close or waiting or unread or protocol.closing)
        data = render(reply, http_11=run.head.http_11, keep_alive=keep_alive, head_only=run.head.method == "HEAD")
        try:
            await request.writer.write(data)
        except ConnectionError:
            self._client_left(run)
            return False
        run.record.bytes_out = len(reply.body)
        return keep_alive

    def _account(self, record: Record, error: GatewayError) -> Answer:
        """Note a refusal or failure in the record and return its answer."""
        reply = answer(error, self._settings.tokens, record.request_id)
        record.status = reply.status
        record.reason = error.reason.code
        record.detail = error.detail
        record.outcome = "failed" if error.reason.kind in _FAILURES else "refused"
        return reply

    def _client_left(self, run: _Run) -> None:
        run.record.outcome = "client_gone"
        run.record.reason = Reason.CLIENT_GONE.code
        run.record.status = run.record.status or CLIENT_CLOSED_REQUEST


def _client(protocol: Protocol) -> Peer:
    """Return who is at the other end of a connection."""
    peername = protocol.peername
    sockname = protocol.sockname
    address = address_text(peername[0]) if isinstance(peername, tuple) else b"unknown"
    port = sockname[1] if isinstance(sockname, tuple) else 0
    return Peer(address=address, secure=protocol.secure, port=port)
