"""benchmarks/load.py: what is sent, what is counted, and that a stall cannot hide behind its own silence."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from dataclasses import asdict
from pathlib import Path

import pytest

from benchmarks.load import STARTED, Generator, Outcome, Plan, dump, messages, parse
from benchmarks.process import ROOT
from benchmarks.traffic import Traffic
from tests.benchmarks.service import OK, REFUSED, Answers, service

GET = Traffic(b"GET / HTTP/1.1\r\nHost: a", b"\r\n\r\n")


def run(plan: Plan) -> Outcome:
    return Generator(plan).run()


def recording(seen: list[bytes]) -> Answers:
    """Return a service that keeps what it gets."""

    def answer(request: bytes) -> list[bytes]:
        seen.append(request)
        return [OK]

    return answer


def test_requests_are_the_same_each_time_or_numbered_or_from_a_pool_in_turn(tmp_path: Path) -> None:
    pool = tmp_path / "tokens"
    pool.write_bytes(b"one\ntwo\nthree\nunused\n")
    same, counted = messages(Traffic(b"<", b">")), messages(Traffic(b"<", b">", counted=True, first=41))
    turns = messages(Traffic(b"<", b">", pool=pool, size=3, first=4))
    assert [same(), same()] == [b"<>", b"<>"]
    assert [counted(), counted()] == [b"<00000041>", b"<00000042>"]
    assert [turns() for _ in range(4)] == [b"<two>", b"<three>", b"<one>", b"<two>"]


def test_later_rounds_go_on_where_the_earlier_ones_ended() -> None:
    counted = Traffic(b"", b"", counted=True)
    assert messages(counted.later(3).later(4))() == b"00000007"


def test_a_plan_survives_its_way_to_the_process() -> None:
    plan = Plan(
        Traffic(b"\x00\xff\r\n", b"x", Path("/pool"), Path("/requests"), 3, first=2, refused=True), 80, 4, 1.5, 10.0, 7
    )
    assert parse(dump(plan)) == plan
    assert parse(dump(Plan(GET, 80, 4, 1.5))).traffic.pool is None


def test_closed_it_sends_as_fast_as_answers_come_and_counts_them() -> None:
    with service(lambda _: [OK]) as port:
        outcome = run(Plan(GET, port, 4, 0.2))
    assert outcome.answers > 20
    assert (outcome.refusals, outcome.failures) == (0, {})
    assert outcome.received == outcome.answers * len(OK)
    assert 0.2 <= outcome.seconds < 5
    assert 0 < outcome.latencies["p50"] <= outcome.latencies["p99"] <= outcome.latencies["most"]


def test_a_limit_is_kept_exactly() -> None:
    seen: list[bytes] = []
    with service(recording(seen)) as port:
        outcome = run(Plan(Traffic(b"GET /", b" HTTP/1.1\r\n\r\n", counted=True), port, 8, 30, limit=100))
    assert outcome.answers == 100
    assert sorted(seen) == [b"GET /%08d HTTP/1.1\r\n\r\n" % number for number in range(100)]


def test_refusals_are_counted_apart() -> None:
    with service(lambda _: [REFUSED]) as port:
        outcome = run(Plan(GET, port, 2, 30, limit=10))
    assert (outcome.answers, outcome.refusals, outcome.failures) == (10, 10, {})


def test_large_uploads_arrive_whole() -> None:
    """More than a socket takes at once."""
    body = b"x" * (8 << 20)
    head = b"POST / HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(body)
    seen: list[bytes] = []
    with service(recording(seen)) as port:
        outcome = run(Plan(Traffic(head, body), port, 2, 30, limit=4))
    assert outcome.answers == 4
    assert seen == [head + body] * 4


def test_without_keepalive_each_request_has_its_own_connection() -> None:
    traffic = Traffic(b"GET / HTTP/1.1\r\nConnection: close", b"\r\n\r\n", close=True)
    with service(lambda _: [OK]) as port:
        outcome = run(Plan(traffic, port, 2, 30, limit=20))
    assert (outcome.answers, outcome.failures) == (20, {})


def test_a_connection_that_breaks_is_a_failure_and_is_replaced() -> None:
    number = iter(range(100))
    with service(lambda _: None if next(number) == 2 else [OK]) as port:
        outcome = run(Plan(GET, port, 1, 30, limit=5))
    assert outcome.failures == {"read": 1}
    assert (outcome.failed, outcome.answers) == (1, 4)


def test_open_it_keeps_its_rate() -> None:
    with service(lambda _: [OK]) as port:
        outcome = run(Plan(GET, port, 4, 0.5, rate=100))
    assert (outcome.answers, outcome.failures) == (50, {})
    assert 0.4 < outcome.seconds < 5
    assert "lag_p99" in outcome.latencies


def test_a_stall_counts_for_every_request_that_was_due_in_it() -> None:
    """One connection, one stall of 0.25 s in 0.5 s: half of all requests waited, not just the one that was sent."""
    number = iter(range(10_000))

    def answer(_: bytes) -> list[bytes]:
        if next(number) == 5:
            time.sleep(0.25)
        return [OK]

    with service(answer) as port:
        outcome = run(Plan(GET, port, 1, 0.5, rate=200))
    assert outcome.failures == {}
    assert outcome.answers == 100
    # Those that were due in the stall waited for what was left of it.
    assert outcome.latencies["p99"] > 200
    assert outcome.latencies["p50"] > 1


def test_what_is_never_answered_counts_with_the_time_that_it_waited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.load.GRACE", 0.1)
    ended = threading.Event()

    def answer(_: bytes) -> None:
        ended.wait(30)

    with service(answer) as port:
        outcome = run(Plan(GET, port, 2, 0.2, rate=100))
        ended.set()
    assert outcome.answers == 0
    assert outcome.failures == {"unanswered": 20}
    assert outcome.latencies["most"] >= 290


def test_the_program_reads_a_plan_and_prints_an_outcome() -> None:
    with service(lambda _: [OK]) as port:
        ended = subprocess.run(
            [sys.executable, "-m", "benchmarks.load"],
            cwd=ROOT,
            input=dump(Plan(GET, port, 1, 30, limit=3)),
            capture_output=True,
            text=True,
            check=True,
        )
    first, last = ended.stdout.splitlines()
    assert first == STARTED
    assert set(json.loads(last)) == set(asdict(Outcome()))
    assert json.loads(last)["answers"] == 3
