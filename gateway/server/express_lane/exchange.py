"""One request in the express lane: from its head to its upstream, or to its refusal.

Sends the request, over a connection that is idle now, and decides what becomes
of it when its client leaves or does not read. The steps are the pipeline's;
every end is accounted for by the shared run of a request
(``pipeline/runner.py``). What comes back is ``response.py``'s.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

from gateway.errors import GatewayError, Reasons
from gateway.identity import Identity
from gateway.jwt.batch import Outcome
from gateway.server.authentication.jwt_kind import JwtKind
from gateway.server.express_lane.plan import Plan, with_length
from gateway.server.express_lane.response import ExpressResponse
from gateway.server.request.facts import Facts
from gateway.server.request.in_progress import Run
from gateway.server.request.outcome import Refusal
from gateway.server.request.request import UNSETTLED, Admitted
from gateway.server.seam.credential import Shown
from gateway.tasks import where
from gateway.upstream.pool.upstream_url import Lease, Origin

_log = logging.getLogger("gateway")


class ExpressExchange(ExpressResponse):
    """One request on its way. Used once."""

    _learning = False  # its token is being verified

    def follow(self, plan: Plan, request_id: bytes | None, content: bytes) -> None:
        """Take up a request that follows a plan.

        Args:
            plan: where it leads.
            request_id: the client's own, if it gave one.
            content: the request's.
        """
        self._plan, self._upstream, self._content = plan, plan.upstream, content
        self._id = request_id or self._serving.new_id()

    def learn(self, plan: Plan, token: bytes, digest: bytes) -> None:
        """Identify the caller, from a token that is not remembered, and go on or refuse; not all of it now."""
        pipeline, now = self._serving.pipeline, self._serving.clock.monotonic
        self._began = now()
        try:
            if not pipeline.credentials.judged_as(JwtKind.name, Shown(token), plan.admitted.route):
                found = pipeline.identification.recognise(Shown(token), self.run, plan.admitted)
                self._go_on(plan, found if isinstance(found, Identity) else None)
                return
            pipeline.authenticator.refuse_unread(token, digest)
            try:
                pipeline.new_tokens.add(token, digest, self._learned)
                self._learning = True
            except GatewayError:
                self._verify_seconds = now() - self._began
                raise
        except GatewayError as error:
            self._refuse_learned(plan, error)

    def _learned(self, outcome: Outcome) -> None:
        """Hear what became of the token, if its client is still there."""
        if not self._learning:
            return
        self._learning = False
        self._verify_seconds = self._serving.clock.monotonic() - self._began
        assert self._plan is not None
        self._go_on(self._plan, outcome)

    def _go_on(self, plan: Plan, outcome: Outcome) -> None:
        """Go on with a request whose caller is known, or cannot be known at once."""
        try:
            if outcome is None:
                self.run.record.upstream = ""
                assert self.admitted is not None
                self._in_task(self._verified_and_forwarded(Shown(self._client.token), self.admitted))
                return
            if isinstance(outcome, GatewayError):
                self._refuse_learned(plan, outcome)
                return
            self._identity = outcome
            plan.let_pass(outcome)
            leased = plan.upstream.lease_now()
            head = None if leased is None else self._client.head_for(plan, *leased)
            if leased is None or head is None:
                run = self.run
                assert self.admitted is not None
                self._in_task(self._serving.forward(run, self.admitted, outcome))
            else:
                self.send(outcome, head, leased[1])
        except GatewayError as error:
            self._refuse_learned(plan, error)
        except Exception as error:
            self._broken(error)

    def _broken(self, error: Exception) -> None:
        """Answer a fault of the gateway's own."""
        _log.error("request %s: %s", self.run.record.request_id, where(error))
        self.by_form = False
        self._refuse(GatewayError(Reasons.INTERNAL))

    def ask_guards(self, plan: Plan, facts: Facts) -> None:
        """Identify the caller, ask the route's guards, and go on or refuse.

        Args:
            plan: where the request leads.
            facts: what its section says now; but for its length, which its content has.
        """
        self._began = self._serving.clock.monotonic()
        run = self.run
        run.record.upstream = ""
        admitted = self.admitted = with_length(plan.admitted._replace(facts=facts), self._content)
        try:
            found = self._serving.pipeline.identification.identify_now(run, admitted)
            if isinstance(found, Coroutine):
                self._in_task(self._identified_and_forwarded(found, admitted))
                return
            self._identity = found
            leased = plan.upstream.lease_now()
            head = None if leased is None else self._client.head_for(plan, *leased)
            if leased is None or head is None:
                self._in_task(self._serving.forward(run, admitted, found))
                return
            run.record.upstream = plan.upstream.name
            self.send(found, head, leased[1])
        except GatewayError as error:
            self._refuse(error)
        except Exception as error:
            self._broken(error)

    def _refuse_learned(self, plan: Plan, error: GatewayError) -> None:
        serving, client = self._serving, self._client
        # One that the shared run knows ends there.
        if self._run is not None or serving.logging or not client.keep_alive or error.reason.kind.close:
            self.run.record.upstream = ""
            self._refuse(error)
            return
        refusal = Refusal(error, plan.admitted.route.name, plan.method)
        if error.reason.code == "introspection_busy" and plan.busy is None:
            plan.busy = refusal._replace(error=error.untraced())
            plan.turns_away = serving.pipeline.credentials.sheds(plan.admitted.route)
        serving.outcomes.give_refusal(refusal, self._id, client.send, serving.clock.monotonic() - self._began)
        look = serving.pipeline.observer.refused_credential
        serving.outcomes.let_look(look, client.address, error.reason.code, error.detail)
        if self._verify_seconds is not None:
            serving.telemetry.verification.observe(self._verify_seconds)
        client.ended(True, refused=True)

    def send(self, identity: Identity | None, common: bytes, lease: Lease) -> None:
        """Send the request to its upstream.

        Args:
            identity: the caller, which may use the route.
            common: the head for the upstream up to the identity.
            lease: the connection to send it over.
        """
        self._identity = identity
        if identity is not None:
            fields = identity.lines
        elif self._plan is not None and self._plan.anonymous:
            fields = b""
        else:
            raise AssertionError("a request without a caller was admitted to a route that requires one")
        self._send(lease, b"".join((common, fields, b"X-Request-Id: ", self._id, b"\r\n\r\n", self._content)))

    def start(self, run: Run, facts: Facts, content: bytes) -> None:
        """Take the steps up to the upstream, or to the refusal."""
        self._run, self._content = run, content
        serving, pipeline = self._serving, self._serving.pipeline
        try:
            serving.outcomes.enter(run)
            self.by_form = True
            admitted = self.admitted = pipeline.admit(run.head, facts, run.record)
            if _takes_task(admitted):
                self.by_form = False
                self._in_task(serving.serve(run, admitted))
                return
            if admitted.guarded:
                self.by_form = False
                found = pipeline.identification.identify_now(run, admitted)
                if isinstance(found, Coroutine):
                    self._in_task(self._identified_and_forwarded(found, admitted))
                    return
                self._identity = found
            elif (token := self._token(run, admitted)) is not None:
                identity = pipeline.identification.recognise(token, run, admitted)
                if identity is UNSETTLED:
                    self._in_task(self._verified_and_forwarded(token, admitted))
                    return
                self._identity = identity
            pipeline.check_content(facts)
            self._upstream = serving.upstreams[admitted.route.upstream]
            leased = self._upstream.lease_now()
            if leased is None:
                self._in_task(serving.forward(run, admitted, self._identity))
                return
            self._send_new(*leased, run, admitted)
        except GatewayError as error:
            self._refuse(error)
        except Exception as error:
            self._broken(error)

    def _send_new(self, origin: Origin, lease: Lease, run: Run, admitted: Admitted) -> None:
        run.record.upstream = self._upstream.name
        try:
            head = self._serving.pipeline.upstream_head(run.head, admitted, self._identity, origin, run.id)
        except BaseException:
            lease.release()
            raise
        if run.content is not None:
            head += run.content.whole() or b""
        self._send(lease, head)

    def _send(self, lease: Lease, data: bytes) -> None:
        protocol = lease.protocol
        self.lease = lease
        self._began = self._serving.clock.monotonic()
        protocol.receiver = self
        protocol.heard = False
        transport = protocol.transport
        assert transport is not None
        transport.write(data)
        self._client.deadline = asyncio.get_running_loop().time() + self._upstream.response_timeout

    # --- the client's side ---

    def client_lost(self) -> None:
        """The client left."""
        self.cancel()
        if self.task is not None:
            return
        if self.lease is not None:
            self._give_up_lease().discard()
        elif self._learning:
            self._learning = False
            self.run.record.upstream = ""
        else:
            return
        self._serving.outcomes.client_left(self.run)
        self._serving.outcomes.finish(self.run)

    def client_paused(self, paused: bool) -> None:
        """The client cannot take more for now, or can again."""
        transport = None if self.lease is None else self.lease.protocol.transport
        if transport is not None:
            self._held_back = paused
            if paused:
                transport.pause_reading()
            else:
                transport.resume_reading()

    def _token(self, run: Run, admitted: Admitted) -> Shown | None:
        token = self._serving.pipeline.identification.token(run, admitted)
        self.by_form = False
        return token

    async def _identified_and_forwarded(
        self, finding: Coroutine[Any, Any, Identity | None], admitted: Admitted
    ) -> bool:
        identity = await finding
        self._serving.pipeline.check_content(admitted.facts)
        return await self._serving.forward(self.run, admitted, identity)

    async def _verified_and_forwarded(self, token: Shown, admitted: Admitted) -> bool:
        pipeline = self._serving.pipeline
        identity = await pipeline.identification.verify(token, self.run, admitted)
        pipeline.check_content(admitted.facts)
        return await self._serving.forward(self.run, admitted, identity)


def _takes_task(admitted: Admitted) -> bool:
    """Whether a request needs more than the steps that do not wait."""
    return admitted.preflight or admitted.forwards_left == 0 or not admitted.route.express_serves
