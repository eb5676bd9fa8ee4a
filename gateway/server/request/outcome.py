"""How requests end, by rules that both lanes call: answered, refused, broken off, left, counted once.

This file has what is noted, answered and counted at the end of a request, and whether a
request may be sent a second time. How the bytes get to the client is the lanes' business.
The danger of this file is an end that it does not know: each way out of a request passes
``Outcomes.finish`` exactly once.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Literal, NamedTuple

from gateway.clock import Clock
from gateway.errors import BAD_GATEWAY, GATEWAY_TIMEOUT, UNAVAILABLE, GatewayError, Reason, Reasons
from gateway.http1.date_field import DateField
from gateway.paced_log import PacedLog
from gateway.policy.cors import refusal_fields
from gateway.server.request.challenges import RouteChallenges
from gateway.server.request.error_answers import Answer, RefusalForm, answer, refusal_form, render
from gateway.server.request.in_progress import Run
from gateway.settings.tables.root import Settings
from gateway.tasks import where
from gateway.telemetry.counters import Telemetry
from gateway.telemetry.record import Record
from gateway.upstream.pool.upstream import Upstream
from gateway.upstream.pool.upstream_url import Lease

_log = logging.getLogger("gateway")

#: Methods of requests that may be sent again (RFC 9110 section 9.2.2): idempotent ones.
REPEATABLE = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE"})

#: The kinds of reasons that are no refusal: the gateway or an upstream could not do what was asked.
FAILURES = (BAD_GATEWAY, GATEWAY_TIMEOUT, UNAVAILABLE)

#: Kinds of refusals whose form is remembered: reasons and routes are few, seconds of Retry-After may be many.
MAX_FORMS = 1024

#: What the access log shows as the status of a request whose client left before the answer.
CLIENT_CLOSED_REQUEST = 499


class Rendered(NamedTuple):
    """An answer of the gateway itself as its client gets it.

    Attributes:
        data: all of its bytes.
        content: how many of them are content.
        keep_alive: the connection stays open.
    """

    data: bytes
    content: int
    keep_alive: bool


def may_repeat(lease: Lease, method: str, *, content: bool) -> bool:
    """Return whether a request may be sent again when its connection was closed (RFC 9112 section 9.3.1).

    The upstream may have closed that as an idle one: it had served before, and nothing of a response came.

    Args:
        lease: the connection that was closed.
        method: the request's.
        content: the request has content.
    """
    return lease.reused and not lease.protocol.heard and not content and method in REPEATABLE


def blame(upstream: Upstream, error: GatewayError) -> None:
    """Count a failure against the upstream, if it is one."""
    if error.reason.kind in FAILURES:
        upstream.failed(error.reason)


def outcome_of(error: GatewayError) -> Literal["failed", "refused"]:
    """Return what an error makes of a request."""
    return "failed" if error.reason.kind in FAILURES else "refused"


def note(record: Record, error: GatewayError) -> None:
    """Note why a request was refused or failed; not the status, which its client may have got already.

    Where the error was raised is forgotten: functions through which it went have it as an argument, and would keep it,
    themselves and the request until the garbage collector looks, which refusals alone would have do so all the time.
    """
    error.__traceback__ = None
    record.reason = error.reason.code
    record.detail = error.detail
    record.outcome = outcome_of(error)


class Outcomes:
    """The ends of requests under one configuration.

    Args:
        settings: the whole configuration.
        challenges: what challenges say, by the route's name; with the empty name, on any other.
        finished: looks at requests that were refused, or that failed, for one of the reasons with these codes.
        telemetry: where requests are counted.
        clock: the time.

    Attributes:
        date: the field ``Date`` of answers.
    """

    def __init__(
        self,
        settings: Settings,
        challenges: Mapping[str, RouteChallenges],
        finished: Callable[[Record], None],
        codes: frozenset[str],
        telemetry: Telemetry,
        clock: Clock,
    ) -> None:
        self.date = DateField(clock.wall)
        self._tokens, self._most = settings.tokens, settings.server.max_concurrent_requests
        self._challenges = challenges
        self._finished, self._codes = finished, codes
        self._telemetry = telemetry
        self._monotonic = clock.monotonic
        self._paced = PacedLog(_log, clock.monotonic)
        self._forms: dict[tuple[Reason, str, str, int | None, str], RefusalForm] = {}

    # --- counting ---

    def enter(self, run: Run) -> None:
        """Count a request that begins; ``finish`` ends it.

        Raises:
            GatewayError: as many as may be are served already.
        """
        run.entered = True
        self._telemetry.running += 1
        if 0 < self._most < self._telemetry.running:
            raise GatewayError(Reasons.OVERLOADED)

    def leave(self, run: Run) -> None:
        """Count a request no longer among those that are being served."""
        if run.entered:
            run.entered = False
            self._telemetry.running -= 1

    @contextlib.contextmanager
    def asking(self, run: Run, upstream: Upstream, began: float) -> Iterator[None]:
        """Note how long the upstream takes for its response, and whether that fails.

        Args:
            began: monotonic seconds at which it was first asked.
        """
        try:
            yield
        except GatewayError as error:
            blame(upstream, error)
            raise
        finally:
            run.record.upstream_seconds = self._monotonic() - began

    def finish(self, run: Run) -> None:
        """Count the request and write its line."""
        self.leave(run)
        if run.content is not None:
            run.record.bytes_in = run.content.size
        self._telemetry.finish(run.record, self._monotonic())
        if (run.record.reason or run.record.observed) in self._codes:
            self.let_look(self._finished, run.record)

    def let_look(self, look: Callable[..., None], *given: object) -> None:
        """Let an observer look at what was refused. If that fails, it is logged, and the request ends all the same."""
        try:
            look(*given)
        except Exception as error:
            self._paced.write(logging.ERROR, "observer", "a refusal could not be looked at: %s", where(error))

    # --- ends without an answer ---

    def client_left(self, run: Run) -> None:
        """Note that the request ended because its client left, or because the drain's time was over."""
        record = run.record
        if record.tunnel_end or run.delivered:
            return  # its end is noted already: what its client sends behind the answer is no part of it
        if run.cut_off is not None:
            record.outcome, record.reason = "refused", run.cut_off.code
            return
        record.outcome = "failed" if run.client.draining else "client_gone"
        reason = Reasons.CLIENT_STALLED if run.client.stalled else Reasons.CLIENT_GONE
        record.reason = (Reasons.DRAINED if run.client.draining else reason).code
        record.status = record.status or CLIENT_CLOSED_REQUEST

    def broke_off(self, run: Run, error: GatewayError) -> None:
        """Note why a response is not whole, and break its connection: its head is out already (R286)."""
        note(run.record, error)
        run.client.break_off(unread=run.content is not None and run.content.unread)

    # --- answers of the gateway itself ---

    def account(self, record: Record, error: GatewayError) -> Answer:
        """Note a refusal or failure in the record and return its answer."""
        reply = answer(error, self._tokens, record.request_id, self._challenges_on(record.route))
        record.status = reply.status
        note(record, error)
        return reply

    def refusal(self, run: Run, error: GatewayError) -> Rendered:
        """Note a refusal or failure and return its answer, with the headers that this request's answers get besides."""
        record = run.record
        if run.cors is None and not run.answer_fields:
            form = self._form(error, record.route)
            record.status = form.status
            note(record, error)
            keep_alive = self._keeps_alive(run, close=form.close)
            http_11, head_only = run.head.http_11, run.head.method == "HEAD"
            data, content = form.render(
                run.id, http_11=http_11, keep_alive=keep_alive, head_only=head_only, date=self.date.value
            )
            return Rendered(data, content, keep_alive)
        reply = self.account(record, error)
        added = tuple(run.answer_fields)
        pages = refusal_fields(run.cors, run.head.read, added) if run.cors is not None else ()
        return self.rendered(run, replace(reply, headers=(*reply.headers, *pages, *added)))

    def rendered(self, run: Run, reply: Answer) -> Rendered:
        """Return an answer as bytes."""
        keep_alive = self._keeps_alive(run, close=reply.close)
        return self._render(reply, http_11=run.head.http_11, keep_alive=keep_alive, head_only=run.head.method == "HEAD")

    def refusal_of_connection(self, record: Record, error: GatewayError, *, head_only: bool) -> Rendered:
        """Note why a connection is refused whose bytes are no request, and return the answer, behind which it ends."""
        return self._render(self.account(record, error), http_11=True, keep_alive=False, head_only=head_only)

    def _challenges_on(self, route: str) -> RouteChallenges:
        return self._challenges.get(route) or self._challenges[""]

    def _form(self, error: GatewayError, route: str) -> RefusalForm:
        """Return what answers to this refusal on this route have in common; made once."""
        key = (error.reason, error.scheme, error.scope, error.retry_after, route)
        form = self._forms.get(key)
        if form is None:
            if len(self._forms) >= MAX_FORMS:
                self._forms.clear()
            form = self._forms[key] = refusal_form(error, self._tokens, self._challenges_on(route))
        return form

    @staticmethod
    def _keeps_alive(run: Run, *, close: bool) -> bool:
        """Return whether the connection outlives an answer of the gateway's own; never content that was not read."""
        return run.client.keep_alive and not (close or (run.content is not None and run.content.unread))

    def _render(self, reply: Answer, *, http_11: bool, keep_alive: bool, head_only: bool) -> Rendered:
        data = render(reply, http_11=http_11, keep_alive=keep_alive, head_only=head_only, date=self.date.value)
        return Rendered(data, 0 if head_only else len(reply.body), keep_alive)
