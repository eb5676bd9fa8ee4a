"""The full lane: aiohttp's request handler for everything.

Leads from aiohttp's request to the shared run of a request and back. Nothing is
decided here.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from functools import lru_cache
from typing import cast

from aiohttp import web

from gateway import turns
from gateway.errors import GatewayError
from gateway.http1.trusted_proxies import UNIX, UNKNOWN, Peer, address_text
from gateway.server.aiohttp_lane.content import ClientContent
from gateway.server.aiohttp_lane.listener import ClientProtocol, reset_at_end
from gateway.server.aiohttp_lane.placeholders import sent
from gateway.server.pipeline.loop_turn import MAX_REFUSALS_OF_KNOWN
from gateway.server.pipeline.runner import Serving
from gateway.server.request.in_progress import Run
from gateway.server.sockets.tls import peer_certificate
from gateway.server.websocket.handshake import WebSockets
from gateway.telemetry.record import Record

_log = logging.getLogger("gateway")


class AiohttpClient:
    """The client's side of a request that aiohttp has parsed."""

    __slots__ = ("_request", "_without_end", "protocol")

    def __init__(self, request: web.BaseRequest) -> None:
        self._request = request
        self._without_end = False
        self.protocol = cast(ClientProtocol, request.protocol)

    @property
    def keep_alive(self) -> bool:
        return self._request.keep_alive and not self.protocol.closing

    @property
    def gone(self) -> bool:
        transport = self._request.transport
        return transport is None or transport.is_closing()

    @property
    def draining(self) -> bool:
        return self.protocol.draining and not self.gone

    @property
    def stalled(self) -> bool:
        return self.protocol.stalled

    @property
    def certificate(self) -> bytes | None:
        return peer_certificate(self._request.transport)

    async def write(self, data: bytes) -> None:
        # Not by aiohttp's writer, which looks at what this one request wrote, not at what waits for the client.
        protocol = self.protocol
        transport = protocol.transport
        if transport is None or transport.is_closing():
            raise ConnectionResetError("the client left")
        transport.write(data)
        protocol.written += 1
        if protocol.writing_paused:
            await self._request.writer.drain()

    def abort(self) -> None:
        if self._request.transport is not None:
            self._request.transport.abort()

    def break_off(self, *, unread: bool) -> None:
        protocol = self.protocol
        if protocol.transport is None:
            return
        if self._without_end:
            protocol.transport.abort()
        elif unread:
            protocol.close_after_answer(broken_off=True)
        else:
            protocol.watch_unsent()
            protocol.transport.close()

    def without_end(self, begins: bool) -> None:
        self._without_end = begins
        if self._request.transport is not None:
            reset_at_end(self._request.transport, begins)


class FullLane:
    """Runs requests that aiohttp has parsed."""

    def __init__(self, serving: Serving) -> None:
        self.serving = serving
        self.websockets = WebSockets(serving)

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Serve one request; every way out is counted and logged exactly once."""
        run = self._begin(request)
        keep_alive = await self.serving.settle(run, self._serve(run, request))
        protocol = cast(ClientProtocol, request.protocol)
        refused = run.record.refused_here
        if refused or protocol.refusals:
            known = refused and self.serving.pipeline.knows(run.head)
            protocol.refusals = max(1, (protocol.refusals or 0) + known) if refused else 0
            self.serving.deferred.saw(run.peer.address, protocol.refusals)
        protocol.watch_unsent()
        if protocol.pipelining:
            # Clients that do not wait for answers have one request in a turn of the loop, all of them together: a turn
            # with one of each would be a long wait for all others. And from Python 3.12 on, aiohttp begins each handler
            # at once: requests that are refused would keep the loop to their connection (CWE-400).
            await turns.own()
        # Where the client did not say so, it may be sending its next request already.
        ends = not keep_alive and request.keep_alive and not protocol.draining
        return sent(keep_alive=keep_alive, then=protocol.close_after_answer if ends else protocol.answered)

    def turn_to_refuse(self, protocol: ClientProtocol) -> Callable[[], Awaitable[None]] | None:
        """Return what bytes that are no request wait for, before they are refused; None when they do not wait."""
        waits = protocol.refusals
        if waits is None:
            waits = self.serving.deferred.refusals(_peer(protocol).address)
        return self.serving.deferred.turn if waits and not protocol.its_turn else None

    def refuse_connection(self, protocol: ClientProtocol, error: GatewayError) -> web.StreamResponse:
        """Answer and count a connection whose bytes are no request; it is closed afterwards."""
        client, transport = _peer(protocol).address.decode("ascii"), protocol.transport
        gone = transport is None or transport.is_closing()
        reply = self.serving.refuse_connection(
            client, protocol.lasted(), error, head_only=protocol.at_head_request, gone=gone
        )
        if transport is not None and not gone:
            transport.write(reply.data)
        return sent(keep_alive=False)

    def _begin(self, request: web.BaseRequest) -> Run:
        serving, client = self.serving, AiohttpClient(request)
        head, peer = client.protocol.take_head(request), _peer(client.protocol)
        record = Record(
            started=serving.clock.monotonic(),
            client=serving.pipeline.client_address(head, peer),
            method=head.method,
        )
        run = Run(client, head, peer, record, head.request_id or serving.new_id())
        record.request_id = run.id.decode("ascii")
        return run

    async def _serve(self, run: Run, request: web.BaseRequest) -> bool:
        """Serve the request; return whether the connection stays open."""
        serving, pipeline, protocol = self.serving, self.serving.pipeline, cast(ClientProtocol, request.protocol)
        if protocol.refusals is None:
            protocol.refusals = serving.deferred.refusals(run.peer.address)
        waits, protocol.its_turn = protocol.refusals and not protocol.its_turn, False
        if waits and (protocol.refusals >= MAX_REFUSALS_OF_KNOWN or not pipeline.knows(run.head)):
            await serving.deferred.turn()
        if run.head.has_content:
            # Before anything is refused: whether content is still to come decides about the connection (R294).
            run.content = ClientContent(request, run.head, serving.settings.server)
        serving.outcomes.enter(run)
        admitted = pipeline.admit(run.head, run.peer, run.record)
        if admitted.websocket:
            return await self.websockets.serve(run, admitted, protocol)
        return await serving.serve(run, admitted)


def _peer(protocol: ClientProtocol) -> Peer:
    """Return the peer of a connection."""
    return peer_of(protocol.peername, protocol.sockname, secure=protocol.secure)


@lru_cache(maxsize=4096)
def peer_of(peername: object, sockname: object, *, secure: bool) -> Peer:
    """Return the peer of a socket with these names; remembered, because it is needed with every request."""
    if isinstance(peername, tuple):
        address = address_text(peername[0])
    else:
        # A Unix socket's own name is a path, or bytes in the abstract namespace; the other end mostly has none.
        address = UNIX if isinstance(sockname, str | bytes) else UNKNOWN
    port = sockname[1] if isinstance(sockname, tuple) else 0
    return Peer(address=address, secure=secure, port=port)
