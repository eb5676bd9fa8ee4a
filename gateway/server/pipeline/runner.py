"""The run of one request, for both lanes: exchange, relay, one answer, one count, one log line.

Only what a lane must not do in its own way lives here. Who the client is and
how bytes get to it is behind ``run.Client``; the rules are the pipeline's steps.
Every way out of a request passes ``finish`` exactly once.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Literal

from gateway.clock import Clock
from gateway.errors import BAD_GATEWAY, GATEWAY_TIMEOUT, UNAVAILABLE, GatewayError, Reasons
from gateway.http1.date_field import DateField
from gateway.http1.plain_response import HeadMemory
from gateway.identity import Identity
from gateway.policy.cors import refusal_fields, response_fields, without_own
from gateway.server.authentication.token_expiry import TokenWatch
from gateway.server.express_lane.loop_turn import Deferred
from gateway.server.express_lane.plan import Refusal
from gateway.server.pipeline.judge_steps import Pipeline
from gateway.server.request.error_answers import Answer, answer, render
from gateway.server.request.in_progress import Run
from gateway.server.request.local_answers import last_recipient, own_answer
from gateway.server.request.request import Admitted
from gateway.server.request.response_head import client_head, plain_client_head
from gateway.settings.tables.root import Settings
from gateway.tasks import where
from gateway.telemetry.counters import Record, Telemetry, method_class
from gateway.upstream.exchange.exchange import died_unanswered, exchange
from gateway.upstream.exchange.relay import relay
from gateway.upstream.exchange.reply import Reply
from gateway.upstream.exchange.upload import may_close_unread
from gateway.upstream.pool.upstream import Upstream

_log = logging.getLogger("gateway")

# Requests that may be sent again when a reused connection turns out to be closed
# (RFC 9110 section 9.2.2, RFC 9112 section 9.3.1): idempotent, and without content.
REPEATABLE = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE"})

FAILURES = (BAD_GATEWAY, GATEWAY_TIMEOUT, UNAVAILABLE)

#: What the access log shows as the status of a request whose client left before the answer.
CLIENT_CLOSED_REQUEST = 499


class Serving:
    """What happens to requests under one configuration."""

    def __init__(
        self,
        settings: Settings,
        pipeline: Pipeline,
        upstreams: Mapping[str, Upstream],
        telemetry: Telemetry,
        clock: Clock,
        new_id: Callable[[], bytes],
    ) -> None:
        self.settings = settings
        self.pipeline = pipeline
        self.upstreams = upstreams
        self.telemetry = telemetry
        self.clock = clock
        self.new_id = new_id
        self.token_watch = TokenWatch(clock)
        self.deferred = Deferred(pipeline.authenticator.cache, telemetry, clock)
        self.date = DateField(clock.wall)
        self.heads = HeadMemory(functools.partial(plain_client_head, pseudonym=pipeline.pseudonym, keep_alive=True))

    @property
    def logging(self) -> bool:
        """Whether each request gets a line in the access log."""
        return self.telemetry.access_log.enabled

    def enter(self, run: Run) -> None:
        """Count a request that begins; ``finish`` ends it.

        Raises:
            GatewayError: as many as may be are served already.
        """
        run.entered = True
        self.telemetry.running += 1
        if 0 < self.settings.server.max_concurrent_requests < self.telemetry.running:
            raise GatewayError(Reasons.OVERLOADED)

    def leave(self, run: Run) -> None:
        """Count a request no longer among those that are being served."""
        if run.entered:
            run.entered = False
            self.telemetry.running -= 1

    async def settle(self, run: Run, work: Awaitable[bool]) -> bool:
        """Do what is left of a request, to whatever end; return whether the connection stays open.

        Only cancellation comes out of here: the client left, or the drain's time was over.
        """
        try:
            return await work
        except GatewayError as error:
            return await self.refuse(run, error)
        except asyncio.CancelledError:
            self.client_left(run)
            raise
        except ConnectionError as error:
            if not run.client.gone:
                # Not the client's connection, then: it waits for an answer, and gets one.
                return await self.refuse(run, GatewayError(Reasons.UPSTREAM_DISCONNECTED, detail=type(error).__name__))
            self.client_left(run)
            return False
        except Exception as error:
            # Never a 500 and never a stack trace to a client; the log says where to look.
            _log.error("request %s: %s", run.record.request_id, where(error))
            return await self.refuse(run, GatewayError(Reasons.INTERNAL))
        finally:
            self.finish(run)

    async def serve(self, run: Run, admitted: Admitted) -> bool:
        """Serve a request whose route is known; return whether the connection stays open.

        Raises:
            GatewayError: nothing was sent to the client.
            ConnectionError: the client left.
        """
        run.cors = admitted.route.cors
        reply = own_answer(admitted, run.head, run.id)
        if reply is not None:
            run.record.outcome, run.record.status = "answered", reply.status
            return await self._answer(run, reply)
        identity = await self.pipeline.identification.identify(run, admitted)
        self.pipeline.check_content(admitted.facts)
        if admitted.forwards_left == 0:
            # Behind the credential: which methods are served is shown only to those who may ask for it.
            run.record.outcome, run.record.status = "answered", 204
            pages = refusal_fields(run.cors, run.head.headers) if run.cors is not None else ()
            methods = self.pipeline.allowed_methods(admitted)
            return await self._answer(run, last_recipient(methods, (*pages, *run.answer_fields), run.id))
        return await self.forward(run, admitted, identity)

    async def forward(self, run: Run, admitted: Admitted, identity: Identity | None) -> bool:
        """Exchange the request with its upstream and relay the response; return whether the connection stays open.

        Raises:
            GatewayError: no response could be had, and nothing was sent to the client.
            ConnectionError: the client left.
        """
        if identity is not None and admitted.route.end_at_expiry:
            run.in_use = self.pipeline.identification.in_use(admitted)
        reply, upstream = await self.obtain(run, admitted, identity)
        return await self.deliver(run, reply, upstream)

    async def obtain(self, run: Run, admitted: Admitted, identity: Identity | None) -> tuple[Reply, Upstream]:
        """Exchange the request with its upstream; return the response, of which nothing has been delivered yet.

        Raises:
            GatewayError: no response could be had.
        """
        upstream = self.upstreams[admitted.route.upstream]
        record = run.record
        record.upstream = upstream.name
        began = self.clock.monotonic()
        try:
            return await self._exchange(run, admitted, upstream, identity), upstream
        except GatewayError as error:
            if error.reason.kind in FAILURES:
                upstream.failed(error.reason)
            raise
        finally:
            record.upstream_seconds = self.clock.monotonic() - began

    async def _exchange(self, run: Run, admitted: Admitted, upstream: Upstream, identity: Identity | None) -> Reply:
        """Exchange the request with one of the upstream's URLs, again if that is safe."""
        limits = upstream.settings
        fresh = run.retried
        while True:
            origin, lease = await upstream.lease(fresh=fresh)
            try:
                head = self.pipeline.upstream_head(run.head, admitted, identity, origin, run.id)
            except BaseException:
                lease.release()  # nothing was sent over it
                raise
            try:
                return await exchange(
                    lease,
                    head,
                    run.content,
                    head_only=run.head.method == "HEAD",
                    response_timeout=limits.response_timeout_seconds,
                    idle_timeout=limits.idle_timeout_seconds,
                    upgrade=admitted.websocket,
                    heads=self.heads,
                )
            except GatewayError as error:
                again = lease.reused and not fresh and run.content is None and run.head.method in REPEATABLE
                if not (again and died_unanswered(lease, error)):
                    raise
                fresh = True

    async def deliver(self, run: Run, reply: Reply, upstream: Upstream) -> bool:
        """Send a response on to the client; return whether the connection stays open."""
        client, record = run.client, run.record
        chunked = not reply.bodyless and reply.length is None and run.head.http_11
        delimited = reply.bodyless or reply.length is not None or chunked
        unread = run.content is not None and run.content.unread
        keep_alive = client.keep_alive and delimited and (not unread or reply.reads_on)
        try:
            head = self._client_head(run, reply, keep_alive=keep_alive, chunked=chunked)
        except BaseException:
            reply.abort()  # nothing else would give up its connection
            raise
        if run.content is not None and may_close_unread(reply.status, run.content.size):
            reply.lease.protocol.force_close()
        idle_timeout = upstream.settings.idle_timeout_seconds
        try:
            if client.gone:
                reply.abort()
                raise ConnectionResetError("the client left")
            if not delimited:
                client.without_end(True)
            if run.in_use is None:
                await relay(reply, head, client.write, chunked=chunked, idle_timeout=idle_timeout)
            else:
                with self.token_watch.watching(run.in_use, run.end_with_credential):
                    await relay(reply, head, client.write, chunked=chunked, idle_timeout=idle_timeout)
        except GatewayError as error:
            if error.reason.kind in FAILURES:
                upstream.failed(error.reason)
            if not reply.begun or error.reason is Reasons.CLIENT_GONE:
                raise
            self.account(record, error)
            if reply.delivered:
                record.outcome = "forwarded"  # it is the rest of the request that failed
            else:
                # The head is out: the only honest end is a broken connection (R286).
                client.break_off(unread=run.content is not None and run.content.unread)
            return False
        finally:
            record.bytes_out, run.delivered = reply.relayed, reply.delivered
            if reply.begun:
                record.status, run.started_reply = reply.status, True
            if reply.delivered and not delimited:
                client.without_end(False)
        if keep_alive and reply.upstream_left and run.content is not None:
            return await run.content.read_rest()  # the client's response says that its connection stays open
        return keep_alive

    def _client_head(self, run: Run, reply: Reply, *, keep_alive: bool, chunked: bool) -> bytes:
        """Return the head of a response as its client gets it.

        Raises:
            ValueError: it holds what may not stand in a head.
        """
        fields, added, http_11 = reply.headers, tuple(run.answer_fields), run.head.http_11
        if run.cors is not None:
            added = (*response_fields(run.cors, run.head.headers, fields, added), *added)
            fields = without_own(fields)
        elif reply.known is not None and keep_alive and http_11 and not added:
            return reply.known.fields + reply.known.end(self.date)
        return client_head(
            reply.status,
            reply.phrase,
            fields,
            self.pipeline.pseudonym,
            added=added,
            http_11=http_11,
            keep_alive=keep_alive,
            chunked=chunked,
            date=self.date.value,
        )

    async def refuse(self, run: Run, error: GatewayError) -> bool:
        """Answer a refusal or failure; return whether the connection stays open."""
        client = run.client
        if error.reason is Reasons.CLIENT_GONE:
            self.client_left(run)
            return False
        reply = self.account(run.record, error)
        if run.started_reply or client.gone:
            client.abort()
            return False
        if run.cors is not None or run.answer_fields:
            added = tuple(run.answer_fields)
            cors = refusal_fields(run.cors, run.head.headers, added) if run.cors is not None else ()
            reply = replace(reply, headers=(*reply.headers, *cors, *added))
        return await self._answer(run, reply)

    async def _answer(self, run: Run, reply: Answer) -> bool:
        """Send an answer of the gateway itself; return whether the connection stays open."""
        client, content = run.client, run.content
        keep_alive = client.keep_alive and not (reply.close or (content is not None and content.unread))
        head_only, date = run.head.method == "HEAD", self.date.value
        data = render(reply, http_11=run.head.http_11, keep_alive=keep_alive, head_only=head_only, date=date)
        try:
            await client.write(data)
        except ConnectionError:
            self.client_left(run)
            return False
        run.record.bytes_out = 0 if head_only else len(reply.body)
        return keep_alive

    def account(self, record: Record, error: GatewayError) -> Answer:
        """Note a refusal or failure in the record and return its answer."""
        reply = self._answer_to(error, record.route, record.request_id)
        record.status = reply.status
        record.reason = error.reason.code
        record.detail = error.detail
        record.outcome = _outcome(error)
        return reply

    def give_refusal(self, refusal: Refusal, request_id: bytes, send: Callable[[bytes], None], seconds: float) -> None:
        """Answer and count a refused request that is not access-logged, and whose connection stays open.

        Args:
            refusal: the verdict.
            request_id: the request's.
            send: writes to its client.
            seconds: what it has taken.
        """
        error, route, method = refusal
        reply = self._answer_to(error, route, request_id.decode("ascii"))
        send(render(reply, http_11=True, keep_alive=True, head_only=method == "HEAD", date=self.date.value))
        counter = (route, method_class(method), reply.status, _outcome(error))
        self.telemetry.finish_refused(counter, error.reason.code, seconds)

    def _answer_to(self, error: GatewayError, route: str, request_id: str) -> Answer:
        return answer(error, self.settings.tokens, request_id, self.pipeline.challenges(route))

    def client_left(self, run: Run) -> None:
        """Note that the request ended because its client left, or because the drain's time was over."""
        record = run.record
        if record.tunnel_end or run.delivered:
            return  # its end is recorded already: what its client sends behind the answer is no part of it
        if run.cut_off is not None:
            record.outcome, record.reason = "refused", run.cut_off.code
            return
        record.outcome = "failed" if run.client.draining else "client_gone"
        reason = Reasons.CLIENT_STALLED if run.client.stalled else Reasons.CLIENT_GONE
        record.reason = (Reasons.DRAINED if run.client.draining else reason).code
        record.status = record.status or CLIENT_CLOSED_REQUEST

    def finish(self, run: Run) -> None:
        """Count the request and write its line."""
        self.leave(run)
        if run.content is not None:
            run.record.bytes_in = run.content.size
        self.telemetry.finish(run.record, self.clock.monotonic())
        if run.record.reason or run.record.observed:
            self.pipeline.observer.finished(run.record)


def _outcome(error: GatewayError) -> Literal["failed", "refused"]:
    return "failed" if error.reason.kind in FAILURES else "refused"
