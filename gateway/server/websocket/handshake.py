"""From a WebSocket handshake to an open tunnel, and what is logged of it afterwards.

Runs the steps in order: the same as for any request up to the token, then the
handshake, then the upstream's own answer to it. A client gets a 101 only when
the upstream has given one. What passes an open tunnel is ``tunnel.py``'s
business.
"""

from __future__ import annotations

from gateway.errors import GatewayError, Reasons
from gateway.http1.request_head import RequestHead
from gateway.http1.websocket import check_request, check_response, token_protocol
from gateway.policy.cors import CorsPolicy, without_own
from gateway.server.pipeline.runner import Serving
from gateway.server.request.in_progress import Run
from gateway.server.request.request import Admitted
from gateway.server.request.response_head import switching_head
from gateway.server.websocket.close_reasons import DRAINED
from gateway.server.websocket.tunnel import Side, Tunnel, TunnelClient, end_all
from gateway.telemetry.record import Record
from gateway.upstream.exchange.reply import Reply

#: How long goodbyes may take when the time of the drain is over, in seconds.
GOODBYE_SECONDS = 2.0

_STALLED = "client_stalled"


class WebSockets:
    """Serves handshakes, and knows every open tunnel.

    Args:
        serving: the shared run of requests.

    Attributes:
        tunnels: those that are open.
    """

    def __init__(self, serving: Serving) -> None:
        self._serving = serving
        self.tunnels: set[Tunnel] = set()

    async def serve(self, run: Run, admitted: Admitted, connection: TunnelClient) -> bool:
        """Serve a request that asks for a WebSocket; return whether its connection stays open for requests.

        Raises:
            GatewayError: nothing was sent to the client.
            ConnectionError: the client left.
        """
        serving, pipeline, head = self._serving, self._serving.pipeline, run.head
        run.cors = admitted.route.cors
        identity = await pipeline.identification.identify(run, admitted)
        key = check_request(head)
        if run.content is not None:
            raise GatewayError(Reasons.WEBSOCKET_HANDSHAKE, detail="content")
        _check_origin(run.cors, head)
        if run.client.draining:
            raise GatewayError(Reasons.DRAINED, detail="draining: new WebSockets are refused")
        in_use = None if identity is None else pipeline.identification.in_use(admitted)
        reply, upstream = await serving.obtain(run, admitted, identity)
        if reply.status != 101:
            return await serving.deliver(run, reply, upstream)
        try:
            tunnel = self._open(run, admitted, reply, key, connection)
        except BaseException as error:
            reply.abort()
            if isinstance(error, GatewayError):
                upstream.failed(error.reason)
            raise
        try:
            with serving.token_watch.watching(in_use, lambda reason: tunnel.end(reason.ending)):
                await tunnel.run()
        finally:
            self.tunnels.discard(tunnel)
            serving.telemetry.tunnels -= 1
            _account(run, tunnel)
        return False

    def _open(self, run: Run, admitted: Admitted, reply: Reply, key: bytes, connection: TunnelClient) -> Tunnel:
        """Join the two connections.

        Raises:
            GatewayError: the upstream's 101 is not a valid one, or its connection is gone.
            ConnectionResetError: the client left.
        """
        serving = self._serving
        check_response(reply.fields, key)
        token = admitted.route.websocket_protocol_token
        chosen = token_protocol(admitted.head.values(b"sec-websocket-protocol")) if token else None
        fields = reply.fields if run.cors is None else without_own(reply.fields)
        head = switching_head(reply.phrase, fields, serving.pipeline.pseudonym, chosen, serving.outcomes.date.value)
        protocol = reply.lease.protocol
        transport, from_upstream = protocol.hand_over()
        if transport is None or transport.is_closing():
            raise GatewayError(Reasons.UPSTREAM_DISCONNECTED)
        client_transport, from_client = connection.hand_over()
        limit = admitted.route.websocket_max_message_bytes
        tunnel = Tunnel(
            Side("client", client_transport, connection, limit), Side("upstream", transport, protocol, limit)
        )
        pooled = reply.lease.detach()
        tunnel.over.add_done_callback(lambda _: pooled.close())
        serving.outcomes.leave(run)  # an open tunnel is no request that is being served
        run.started_reply = True
        run.record.status = 101
        self.tunnels.add(tunnel)
        serving.telemetry.tunnels += 1
        tunnel.open(head, from_client, from_upstream)
        return tunnel

    async def drain(self) -> None:
        """End every tunnel: the time of the drain is over."""
        await end_all(self.tunnels, DRAINED, GOODBYE_SECONDS)


def _check_origin(cors: CorsPolicy | None, head: RequestHead) -> None:
    """Refuse pages that the route does not list: browsers ask no permission for a WebSocket (RFC 6455 section 10.2)."""
    origins = head.values(b"origin")
    if cors is None or cors.any_origin or not origins:
        return
    if len(origins) != 1 or origins[0] not in cors.origins:
        raise GatewayError(Reasons.CORS_ORIGIN)


def _account(run: Run, tunnel: Tunnel) -> None:
    """Note how a tunnel went."""
    record: Record = run.record
    record.bytes_in, record.bytes_out = tunnel.client.passed, tunnel.upstream.passed
    record.tunnel_end = _STALLED if run.client.stalled else tunnel.cause
    if tunnel.ending is not None or tunnel.cause == DRAINED.cause:
        record.outcome = "failed" if tunnel.cause == DRAINED.cause else "refused"
