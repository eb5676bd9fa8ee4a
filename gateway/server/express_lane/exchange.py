"""One request in the express lane: from its head to its upstream, or to its refusal.

Sends the request, over a connection that is idle now, and decides what becomes
of it when its client leaves or does not read. The steps are the pipeline's;
every end is accounted for by the shared run of a request
(``pipeline/runner.py``). What comes back is ``response.py``'s.
"""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

from gateway.errors import GatewayError
from gateway.identity import Identity
from gateway.server.express_lane.response import ExpressResponse
from gateway.server.express_lane.waiting import WaitingRequest
from gateway.server.request.request import UNSETTLED, Admitted, Unsettled
from gateway.server.seam.credential import SOON, Outcome, Shown
from gateway.upstream.pool.upstream_url import Lease, Origin


class ExpressExchange(ExpressResponse):
    """One request on its way. Used once."""

    _shown: Shown | None = None  # its credential, while that is being verified
    _waiting: WaitingRequest | None = None  # for a connection to its upstream

    def start(self) -> None:
        """Take the steps up to the upstream, or to the refusal."""
        serving, pipeline, run = self._serving, self._serving.pipeline, self._run
        try:
            serving.outcomes.enter(run)
            admitted = self.admitted = pipeline.admit(run.head, run.peer, run.record)
            if _takes_task(admitted):
                self._in_task(serving.serve(run, admitted))
                return
            if admitted.guarded:
                found = pipeline.identification.identify_now(run, admitted)
                if isinstance(found, Coroutine):
                    self._in_task(self._identified_and_forwarded(found, admitted))
                    return
                self._forward(admitted, found)
                return
            identity = pipeline.identification.known(run, admitted)
            if identity is not UNSETTLED:
                self._forward(admitted, identity)
                return
            identity, shown = None, pipeline.identification.token(run, admitted)
            if shown is not None:
                self._shown = shown
                found_now = pipeline.identification.recognise_soon(shown, run, admitted, self._learned)
                if found_now is SOON:
                    self._began = serving.clock.monotonic()
                    return
                self._shown = None
                if found_now is UNSETTLED:
                    self._in_task(self._verified_and_forwarded(shown, admitted))
                    return
                identity = found_now
            self._forward(admitted, identity)
        except GatewayError as error:
            self._refuse(error)
        except Exception as error:
            self._broken(error)

    def _learned(self, outcome: Outcome) -> None:
        """Hear what became of the credential, if its client is still there."""
        shown, self._shown = self._shown, None
        if shown is None:
            return
        run, admitted, serving = self._run, self.admitted, self._serving
        assert admitted is not None
        run.record.verify_seconds = serving.clock.monotonic() - self._began
        identification = serving.pipeline.identification
        try:
            if isinstance(outcome, GatewayError):
                if not identification.lets_pass(run, admitted, outcome):
                    self._refuse(outcome)
                    return
                identity: Identity | Unsettled | None = None
            else:
                identity = identification.learned(outcome, shown, run, admitted)
            if identity is UNSETTLED:
                self._in_task(self._verified_and_forwarded(shown, admitted))
                return
            self._forward(admitted, identity)
        except GatewayError as error:
            self._refuse(error)
        except Exception as error:
            self._broken(error)

    def _forward(self, admitted: Admitted, identity: Identity | None) -> None:
        """Send the request to its upstream, whose caller may.

        Raises:
            GatewayError: 413.
        """
        serving, run = self._serving, self._run
        self._identity = identity
        if run.head.content_length:
            serving.pipeline.check_content(run.head)
        upstream = self._upstream = serving.upstreams[admitted.route.upstream]
        run.record.upstream = upstream.name
        leased = upstream.lease_now()
        if leased is not None:
            self._send_over(*leased)
            return
        # None to the upstream is idle, or others wait for one.
        self._began = serving.clock.monotonic()
        self._client.deadline = float("inf")  # the queue has a time limit of its own
        self._waiting = WaitingRequest(self, upstream)
        self._waiting.begin()

    def connected(self, origin: Origin, lease: Lease) -> None:
        """Go on over this connection, as if it had been free when the request came."""
        began, self._waiting = self._began, None
        try:
            if lease.protocol.transport is None:  # it was closed as soon as it was opened
                self.lease = lease
                self.upstream_lost(False)
            else:
                self._send_over(origin, lease)
        except GatewayError as error:
            self._refuse(error)
        except Exception as error:
            self._broken(error)
        self._began = began  # the upstream is asked since then: the wait is part of its time

    def not_connected(self, error: GatewayError) -> None:
        """End the request: there is no connection for it."""
        self._waiting = None
        self._failed(error)

    def cancel(self) -> None:
        """End what runs by itself, or leave the queue."""
        super().cancel()
        if self._waiting is not None:
            self._waiting.end()

    def _send_over(self, origin: Origin, lease: Lease) -> None:
        run, admitted = self._run, self.admitted
        assert admitted is not None
        pipeline = self._serving.pipeline
        try:
            data = pipeline.upstream_head(run.head, run.peer, admitted, self._identity, origin, run.id)
        except BaseException:
            lease.release()
            raise
        if run.content is not None:
            data += run.content.whole() or b""
        self._send(lease, data)

    def _send(self, lease: Lease, data: bytes) -> None:
        protocol = lease.protocol
        self.lease = lease
        self._began = self._serving.clock.monotonic()
        protocol.receiver = self
        protocol.heard = False
        transport = protocol.transport
        assert transport is not None
        client = self._client
        client.writes.add(transport, data)
        client.deadline = client.in_seconds(self._upstream.response_timeout)

    # --- the client's side ---

    def client_lost(self) -> None:
        """The client left."""
        self.cancel()
        if self.task is not None:
            return
        if self.lease is not None or self._waiting is not None:
            if self.lease is not None:
                self._give_up_lease().discard()
            self._waiting = None
            if not self._run.started_reply:
                self._run.record.upstream_seconds = self._serving.clock.monotonic() - self._began
        elif self._shown is not None:
            self._shown = None
        else:
            return
        self._serving.outcomes.client_left(self._run)
        self._serving.outcomes.finish(self._run)

    def client_paused(self, paused: bool) -> None:
        """The client cannot take more for now, or can again."""
        if self._waiting is not None:
            self._waiting.client_paused = paused
        transport = None if self.lease is None else self.lease.protocol.transport
        if transport is not None:
            self._held_back = paused
            if paused:
                transport.pause_reading()
            else:
                transport.resume_reading()
            if self._left > 0:
                self._await_content()

    async def _identified_and_forwarded(
        self, finding: Coroutine[Any, Any, Identity | None], admitted: Admitted
    ) -> bool:
        identity = await finding
        self._serving.pipeline.check_content(admitted.head)
        return await self._serving.forward(self._run, admitted, identity)

    async def _verified_and_forwarded(self, token: Shown, admitted: Admitted) -> bool:
        pipeline = self._serving.pipeline
        identity = await pipeline.identification.verify(token, self._run, admitted)
        pipeline.check_content(admitted.head)
        return await self._serving.forward(self._run, admitted, identity)


def _takes_task(admitted: Admitted) -> bool:
    """Whether a request needs more than the steps that do not wait."""
    return admitted.preflight or admitted.forwards_left == 0 or not admitted.route.express_serves
