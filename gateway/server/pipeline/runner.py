"""The run of one request, for both lanes: exchange, relay, one answer, one count, one log line.

This file has what a lane must not do in its own way. The client, and how bytes
get to it, are behind ``in_progress.Client``; the rules are the pipeline's
steps. How a request ends is ``request/outcome.py``'s.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Mapping

from gateway.clock import Clock
from gateway.errors import GatewayError, Reasons
from gateway.http1.plain_response import PlainReader
from gateway.identity import Identity
from gateway.network_errors import cause
from gateway.policy.cors import refusal_fields, response_fields, without_own
from gateway.server.authentication.token_expiry import TokenWatch
from gateway.server.pipeline.judge_steps import Pipeline
from gateway.server.pipeline.loop_turn import Deferred
from gateway.server.request.in_progress import Run
from gateway.server.request.local_answers import last_recipient, own_answer
from gateway.server.request.outcome import Outcomes, Rendered, blame, may_repeat, note, outcome_of
from gateway.server.request.request import Admitted
from gateway.server.request.response_head import client_head
from gateway.settings.tables.root import Settings
from gateway.tasks import where
from gateway.telemetry.counters import Telemetry
from gateway.telemetry.record import Record
from gateway.upstream.exchange.exchange import ended_by_upstream, exchange
from gateway.upstream.exchange.relay import relay
from gateway.upstream.exchange.reply import Reply
from gateway.upstream.exchange.upload import may_close_unread
from gateway.upstream.pool.upstream import Upstream

_log = logging.getLogger("gateway")


class Serving:
    """What happens to requests under one configuration.

    Attributes:
        outcomes: how they end.
        deferred: those that wait behind those that are served.
    """

    def __init__(
        self,
        settings: Settings,
        pipeline: Pipeline,
        upstreams: Mapping[str, Upstream],
        telemetry: Telemetry,
        clock: Clock,
    ) -> None:
        self.settings = settings
        self.pipeline = pipeline
        self.upstreams = upstreams
        self.telemetry = telemetry
        self.clock = clock
        self.new_id = RequestIds()
        self.token_watch = TokenWatch(clock)
        self.outcomes = Outcomes(
            settings, pipeline.challenges, pipeline.observer.finished, pipeline.observer.codes, telemetry, clock
        )
        self.deferred = Deferred(pipeline.authenticator.cache, telemetry, clock)
        self.heads = PlainReader(pipeline.pseudonym)

    @property
    def logging(self) -> bool:
        """Whether each request gets a line in the access log."""
        return self.telemetry.access_log.enabled

    def refuse_connection(
        self, client: str, seconds: float, error: GatewayError, *, head_only: bool, gone: bool = False
    ) -> Rendered:
        """Count bytes of a client that are no request; return the answer, behind which its connection ends.

        Args:
            client: the address of the other end.
            seconds: for how long a request was waited for.
            error: why.
            head_only: what came begins as a HEAD request.
            gone: nothing can be written to it any more.
        """
        if outcome_of(error) == "refused":
            address = client.encode("ascii")
            self.deferred.saw(address, max(1, self.deferred.refusals(address)))
        now = self.clock.monotonic()
        record = Record(now - seconds, client, self.new_id().decode("ascii"))
        reply = self.outcomes.refusal_of_connection(record, error, head_only=head_only)
        record.bytes_out = 0 if gone else reply.content
        self.telemetry.finish(record, now)
        return reply

    async def settle(self, run: Run, work: Awaitable[bool]) -> bool:
        """Do what is left of a request, to whatever end; return whether the connection stays open.

        Only cancellation comes out of here: the client left, or the drain's time was over.
        """
        try:
            return await work
        except GatewayError as error:
            return await self.refuse(run, error)
        except asyncio.CancelledError:
            self.outcomes.client_left(run)
            raise
        except ConnectionError as error:
            if not run.client.gone:
                # Not the client's connection, then: it waits for an answer, and gets one.
                return await self.refuse(run, GatewayError(Reasons.UPSTREAM_DISCONNECTED, detail=cause(error)))
            self.outcomes.client_left(run)
            return False
        except Exception as error:
            # Never a 500 and never a stack trace to a client; the log says where to look.
            _log.error("request %s: %s", run.record.request_id, where(error))
            return await self.refuse(run, GatewayError(Reasons.INTERNAL))
        finally:
            self.outcomes.finish(run)

    async def serve(self, run: Run, admitted: Admitted) -> bool:
        """Serve a request whose route is known; return whether the connection stays open.

        Raises:
            GatewayError: nothing was sent to the client.
            ConnectionError: the client left.
        """
        run.cors = admitted.route.cors
        if admitted.preflight or admitted.endpoint is not None:
            reply = own_answer(admitted, run.head, run.id)
            if reply is not None:
                run.record.outcome, run.record.status = "answered", reply.status
                return await self._send(run, self.outcomes.rendered(run, reply))
        identity = await self.pipeline.identification.identify(run, admitted)
        if run.head.content_length:
            self.pipeline.check_content(run.head)
        if admitted.forwards_left == 0:
            # Behind the credential: which methods are served is shown only to those who may ask for it.
            run.record.outcome, run.record.status = "answered", 204
            pages = refusal_fields(run.cors, run.head.read) if run.cors is not None else ()
            methods = self.pipeline.allowed_methods(admitted)
            reply = last_recipient(methods, (*pages, *run.answer_fields), run.id)
            return await self._send(run, self.outcomes.rendered(run, reply))
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
        run.record.upstream = upstream.name
        began = self.clock.monotonic() if run.asked_at is None else run.asked_at
        try:
            return await self._exchange(run, admitted, upstream, identity), upstream
        except GatewayError as error:
            blame(upstream, error)
            raise
        finally:
            run.record.upstream_seconds = self.clock.monotonic() - began

    async def _exchange(self, run: Run, admitted: Admitted, upstream: Upstream, identity: Identity | None) -> Reply:
        """Exchange the request with one of the upstream's URLs, again if that is safe."""
        limits = upstream.settings
        fresh = run.retried
        while True:
            origin, lease = await upstream.lease(fresh=fresh)
            try:
                head = self.pipeline.upstream_head(run.head, run.peer, admitted, identity, origin, run.id)
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
                again = may_repeat(lease, run.head.method, content=run.content is not None)
                if fresh or not again or not ended_by_upstream(error):
                    raise
                fresh = True

    async def deliver(self, run: Run, reply: Reply, upstream: Upstream) -> bool:
        """Send a response on to the client, or what is left of it; return whether the connection stays open."""
        client, record = run.client, run.record
        if client.gone:
            reply.abort()
            raise ConnectionResetError("the client left")
        chunked = not reply.bodyless and reply.length is None and run.head.http_11
        delimited = reply.bodyless or reply.length is not None or chunked
        unread = run.content is not None and run.content.unread
        keep_alive = client.keep_alive and delimited and (not unread or reply.reads_on)
        try:
            head = b"" if reply.begun else self._response_head(run, reply, chunked=chunked, keep_alive=keep_alive)
        except BaseException:
            reply.abort()  # nothing else would give up its connection
            raise
        if run.content is not None and may_close_unread(reply.status, run.content.size):
            reply.lease.protocol.force_close()
        idle_timeout = upstream.settings.idle_timeout_seconds
        try:
            if not delimited:
                client.without_end(True)
            if run.in_use is None:
                await relay(reply, head, client.write, chunked=chunked, idle_timeout=idle_timeout)
            else:
                with self.token_watch.watching(run.in_use, run.end_with_credential):
                    await relay(reply, head, client.write, chunked=chunked, idle_timeout=idle_timeout)
        except GatewayError as error:
            blame(upstream, error)
            if not reply.begun or error.reason is Reasons.CLIENT_GONE:
                raise
            if reply.delivered:
                note(record, error)
                record.outcome = "forwarded"  # it is the rest of the request that failed
            else:
                self.outcomes.broke_off(run, error)
            return False
        finally:
            record.bytes_out += reply.relayed
            run.delivered = reply.delivered
            if reply.begun:
                record.status, run.started_reply = reply.status, True
            if reply.delivered and not delimited:
                client.without_end(False)
        if keep_alive and run.content is not None and reply.upstream_left:
            return await run.content.read_rest()  # the client's response says that its connection stays open
        return keep_alive

    def _response_head(self, run: Run, reply: Reply, *, chunked: bool, keep_alive: bool) -> bytes:
        """Return the head of a response as this request's client gets it."""
        added = tuple(run.answer_fields)
        if reply.known is not None and keep_alive and run.head.http_11 and not added and run.cors is None:
            return reply.known.start + reply.known.end(self.outcomes.date)
        fields = reply.fields
        if run.cors is not None:
            added = (*response_fields(run.cors, run.head.read, fields, added), *added)
            fields = without_own(fields)
        return client_head(
            reply.status,
            reply.phrase,
            fields,
            self.pipeline.pseudonym,
            added=added,
            http_11=run.head.http_11,
            keep_alive=keep_alive,
            chunked=chunked,
            date=self.outcomes.date.value,
        )

    async def refuse(self, run: Run, error: GatewayError) -> bool:
        """Answer a refusal or failure; return whether the connection stays open."""
        client = run.client
        if error.reason is Reasons.CLIENT_GONE:
            self.outcomes.client_left(run)
            return False
        reply = self.outcomes.refusal(run, error)
        if run.started_reply or client.gone:
            client.abort()
            return False
        return await self._send(run, reply)

    async def _send(self, run: Run, reply: Rendered) -> bool:
        """Send an answer of the gateway itself; return whether the connection stays open."""
        try:
            await run.client.write(reply.data)
        except ConnectionError:
            self.outcomes.client_left(run)
            return False
        run.record.bytes_out = reply.content
        return reply.keep_alive


class RequestIds:
    """Makes ids for requests that brought none: 128 random bits in hex, many at a time."""

    def __init__(self) -> None:
        self._ready: list[bytes] = []

    def __call__(self) -> bytes:
        if not self._ready:
            text = os.urandom(16 * 256).hex().encode("ascii")
            self._ready = [text[start : start + 32] for start in range(0, len(text), 32)]
        return self._ready.pop()
