"""How requests end, by the rules that both lanes call: each end is noted, logged and counted once."""

from __future__ import annotations

import io
import json
from types import SimpleNamespace
from typing import Any, cast

import pytest

from gateway.errors import GatewayError, Reason, Reasons
from gateway.http1.trusted_proxies import Peer
from gateway.server.request.challenges import ANY_ROUTE
from gateway.server.request.in_progress import Run
from gateway.server.request.outcome import (
    CLIENT_CLOSED_REQUEST,
    REPEATABLE,
    Outcomes,
    Refusal,
    blame,
    may_repeat,
    note,
    outcome_of,
)
from gateway.server.request.request import RequestHead
from gateway.telemetry.counters import AccessLog, Record, Telemetry
from tests.support.clock import FakeClock


class Ends:
    """``Outcomes`` of a gateway that logs into memory, and what it tells."""

    def __init__(self, most: int = 0) -> None:
        self.clock = FakeClock()
        self.out = io.StringIO()
        self.telemetry = Telemetry(AccessLog("json", self.out, self.clock))
        self.refused: list[Record] = []
        tokens = SimpleNamespace(realm="r", invalid_token_status=401)
        settings = cast(Any, SimpleNamespace(tokens=tokens, server=SimpleNamespace(max_concurrent_requests=most)))
        codes = frozenset(reason.code for reason in Reasons.all())
        self.outcomes = Outcomes(settings, {"": ANY_ROUTE}, self.refused.append, codes, self.telemetry, self.clock)

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out.getvalue().splitlines()]


class Client(SimpleNamespace):
    """The client's side: what it learns about broken responses."""

    keep_alive, gone, draining, stalled = True, False, False, False

    def break_off(self, *, unread: bool) -> None:
        self.broken_off = unread


def new_run(ends: Ends, method: str = "GET", **client: Any) -> Run:
    head = RequestHead(method, b"/", True, (), Peer(b"192.0.2.1", False, 8080))
    record = Record(ends.clock.monotonic(), request_id="abc", method=method, route="r")
    return Run(cast(Any, Client(**client)), head, record, b"abc")


def lease(*, reused: bool = True, heard: bool = False) -> Any:
    return SimpleNamespace(reused=reused, protocol=SimpleNamespace(heard=heard))


@pytest.mark.parametrize(
    ("reused", "heard", "content", "method", "again"),
    [
        (True, False, False, "GET", True),
        (True, False, False, "DELETE", True),
        (False, False, False, "GET", False),
        (True, True, False, "GET", False),
        (True, False, True, "PUT", False),
        (True, False, False, "POST", False),
    ],
)
@pytest.mark.rule("R310")
def test_request_is_sent_again_only_if_nothing_can_have_come_of_it(
    reused: bool, heard: bool, content: bool, method: str, again: bool
) -> None:
    assert may_repeat(lease(reused=reused, heard=heard), method, content=content) is again


@pytest.mark.rule("R310")
def test_only_idempotent_methods_are_sent_again() -> None:
    assert REPEATABLE.isdisjoint({"POST", "PATCH", "CONNECT", "TRACE"})
    assert {"GET", "HEAD", "PUT", "DELETE", "OPTIONS"} == REPEATABLE


@pytest.mark.parametrize(
    ("reason", "failed"),
    [
        (Reasons.NO_CREDENTIAL, False),
        (Reasons.MISSING_SCOPE, False),
        (Reasons.UPSTREAM_TIMEOUT, True),
        (Reasons.OVERLOADED, True),
    ],
)
def test_failure_of_an_upstream_is_not_called_a_refusal(reason: Reason, failed: bool) -> None:
    found: list[Reason] = []
    blame(cast(Any, SimpleNamespace(failed=found.append)), GatewayError(reason))
    assert (outcome_of(GatewayError(reason)), bool(found)) == ("failed" if failed else "refused", failed)


def test_note_leaves_the_status_that_the_client_has_got() -> None:
    record = Record(0.0, status=200)
    note(record, GatewayError(Reasons.UPSTREAM_DISCONNECTED, detail="d"))
    assert (record.status, record.reason, record.detail, record.outcome) == (
        *(200, "upstream_disconnected", "d", "failed"),
    )


def test_request_beyond_the_limit_is_refused_and_counts_until_its_end() -> None:
    ends = Ends(most=1)
    first, second = new_run(ends), new_run(ends)
    ends.outcomes.enter(first)
    with pytest.raises(GatewayError) as caught:
        ends.outcomes.enter(second)
    assert caught.value.reason is Reasons.OVERLOADED
    assert ends.telemetry.running == 2
    ends.outcomes.finish(second)
    ends.outcomes.leave(first)
    ends.outcomes.finish(first)
    assert ends.telemetry.running == 0
    ends.outcomes.enter(second)


def test_finished_request_is_counted_and_logged_once_and_a_refusal_is_looked_at() -> None:
    ends = Ends()
    served, refused = new_run(ends), new_run(ends)
    refused.content = cast(Any, SimpleNamespace(size=7, unread=False))
    ends.outcomes.account(refused.record, GatewayError(Reasons.NO_CREDENTIAL))
    for run in (served, refused):
        ends.outcomes.finish(run)
    assert [line["outcome"] for line in ends.lines()] == ["forwarded", "refused"]
    assert [line["bytes_in"] for line in ends.lines()] == [0, 7]
    assert sum(ends.telemetry.requests.values()) == 2
    assert ends.refused == [refused.record]


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_refusal_tells_what_the_request_added_and_counts_what_is_sent(method: str) -> None:
    ends = Ends()
    run = new_run(ends, method)
    run.answer_fields.append((b"X-Added", b"1"))
    reply = ends.outcomes.refusal(run, GatewayError(Reasons.NO_ROUTE))
    head, _, content = reply.data.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 404 ")
    assert b"\r\nX-Added: 1\r\n" in head
    assert (len(content), reply.keep_alive, run.record.status) == (reply.content, True, 404)
    assert bool(content) is (method == "GET")


@pytest.mark.parametrize(("kept", "unread", "stays"), [(True, False, True), (False, False, False), (True, True, False)])
def test_connection_stays_if_the_client_keeps_it_and_nothing_is_unread(kept: bool, unread: bool, stays: bool) -> None:
    ends = Ends()
    run = new_run(ends, keep_alive=kept)
    run.content = cast(Any, SimpleNamespace(size=0, unread=unread))
    reply = ends.outcomes.refusal(run, GatewayError(Reasons.NO_CREDENTIAL))
    assert reply.keep_alive is stays
    assert (b"\r\nConnection: close\r\n" in reply.data) is not stays


def test_bytes_that_are_no_request_end_their_connection() -> None:
    ends = Ends()
    record = Record(0.0)
    reply = ends.outcomes.refusal_of_connection(record, GatewayError(Reasons.MALFORMED_HTTP), head_only=False)
    assert b"\r\nConnection: close\r\n" in reply.data
    assert (record.status, record.outcome, reply.keep_alive) == (400, "refused", False)


@pytest.mark.parametrize("request_id", [b"1", b"a-long-long-id"])
def test_refusal_that_is_not_logged_is_written_for_its_own_request(request_id: bytes) -> None:
    """Its length is that of its own id."""
    ends = Ends()
    sent: list[bytes] = []
    ends.outcomes.give_refusal(Refusal(GatewayError(Reasons.NO_ROUTE), "r", "GET"), request_id, sent.append, 0.5)
    head, _, content = sent[0].partition(b"\r\n\r\n")
    assert b"\r\nContent-Length: %d\r\n" % len(content) in head
    assert json.loads(content)["request_id"].encode() == request_id
    assert ends.telemetry.refusals == {"no_route": 1}
    assert list(ends.telemetry.requests) == [("r", "read", 404, "refused")]
    assert ends.lines() == []


@pytest.mark.parametrize("unread", [None, False, True])
@pytest.mark.rule("R286")
def test_response_that_breaks_off_keeps_its_status(unread: bool | None) -> None:
    """A second answer would be taken for a part of the first."""
    ends = Ends()
    run = new_run(ends)
    run.record.status = 200
    if unread is not None:
        run.content = cast(Any, SimpleNamespace(size=0, unread=unread))
    ends.outcomes.broke_off(run, GatewayError(Reasons.UPSTREAM_DISCONNECTED))
    assert cast(Any, run.client).broken_off is bool(unread)
    assert (run.record.status, run.record.outcome) == (200, "failed")


@pytest.mark.parametrize(
    ("draining", "stalled", "cut_off", "outcome", "reason"),
    [
        (False, False, None, "client_gone", "client_gone"),
        (False, True, None, "client_gone", "client_stalled"),
        (True, False, None, "failed", "drained"),
        (True, True, None, "failed", "drained"),
        (False, False, Reasons.EXPIRED, "refused", "expired"),
    ],
)
def test_end_with_the_connection_has_its_reason(
    draining: bool, stalled: bool, cut_off: Reason | None, outcome: str, reason: str
) -> None:
    ends = Ends()
    run = new_run(ends, draining=draining, stalled=stalled)
    run.cut_off = cut_off
    ends.outcomes.client_left(run)
    assert (run.record.outcome, run.record.reason) == (outcome, cut_off.code if cut_off else reason)


@pytest.mark.parametrize("status", [0, 200])
def test_client_that_left_during_a_response_keeps_its_status(status: int) -> None:
    ends = Ends()
    run = new_run(ends)
    run.record.status = status
    ends.outcomes.client_left(run)
    assert run.record.status == (status or CLIENT_CLOSED_REQUEST)


@pytest.mark.parametrize("fails", [True, False])
def test_time_of_an_upstream_is_noted_and_its_failure_counted(fails: bool) -> None:
    ends = Ends()
    run, found = new_run(ends), cast(list[Reason], [])
    upstream = cast(Any, SimpleNamespace(failed=found.append))
    began = ends.clock.monotonic()
    try:
        with ends.outcomes.asking(run, upstream, began):
            ends.clock.jump(2)
            if fails:
                raise GatewayError(Reasons.UPSTREAM_TIMEOUT)
    except GatewayError:
        assert fails
    assert run.record.upstream_seconds == 2
    assert found == ([Reasons.UPSTREAM_TIMEOUT] if fails else [])
