"""The access log's lines and the counters behind the metrics page."""

from __future__ import annotations

import io
import json
import random
from collections.abc import Callable
from typing import Any, Literal

import pytest

from gateway.identity import Identity
from gateway.telemetry import counters as telemetry
from gateway.telemetry.counters import BUCKETS, AccessLog, Histogram, Record, Telemetry, method_class
from tests.support.clock import FakeClock

HOSTILE = "a\r\n\x00\x1b[2J\x7f\x85\x9b\u2028\u2029\ud800\"\\' =end"


def make_identity(subject: str | None) -> Identity:
    return Identity(
        issuer_name="main",
        issuer="https://idp.test/",
        subject=subject,
        scopes=(),
        claims={},
        lines=b"",
        expires_at=0,
        not_before=0,
        token_id=None,
    )


def record(**values: Any) -> Record:
    return Record(**{"started": 0.0, "client": "192.0.2.1", "method": "GET", "path": "/a", "status": 200, **values})


def line_of(form: Literal["json", "text", "off"], **values: Any) -> str:
    out = io.StringIO()
    AccessLog(form, out, FakeClock()).write(record(**values), 0.0123456)
    return out.getvalue()


@pytest.mark.rule("R389")
def test_json_line_tells_what_is_known_and_nothing_else() -> None:
    """Request id, status, times, cache hit, issuer; fields without a value are left out."""
    plain = json.loads(line_of("json", request_id="r1", route="/a"))
    assert plain == {
        "time": "2027-01-15T08:00:00.000+00:00",
        "request_id": "r1",
        "client": "192.0.2.1",
        "method": "GET",
        "path": "/a",
        "route": "/a",
        "status": 200,
        "outcome": "forwarded",
        "duration_ms": 12.346,
        "bytes_in": 0,
        "bytes_out": 0,
    }
    full = json.loads(
        line_of(
            "json",
            reason="expired",
            detail="d",
            observed="o",
            identity=make_identity("alice"),
            cache_hit=False,
            upstream="orders",
            upstream_seconds=0.25,
            bytes_in=3,
            bytes_out=5,
        )
    )
    extra = {name: full[name] for name in full if name not in plain or full[name] != plain[name]}
    assert extra.pop("subject_hash")
    assert extra == {
        "request_id": "",
        "route": "",
        "reason": "expired",
        "detail": "d",
        "observed": "o",
        "credential": "jwt",
        "issuer": "main",
        "cache_hit": False,
        "upstream": "orders",
        "upstream_ms": 250.0,
        "bytes_in": 3,
        "bytes_out": 5,
    }


@pytest.mark.parametrize("form", ["json", "text"])
@pytest.mark.rule("R196", "R389")
def test_subject_is_only_a_hash_and_the_same_for_the_same_subject(form: Literal["json", "text"]) -> None:
    """The caller cannot be read, but two lines of one caller can be recognised as such."""
    lines = [line_of(form, identity=make_identity(subject)) for subject in ("alice@example", "alice@example", "bob")]
    assert lines[0] == lines[1] != lines[2]
    assert "alice" not in lines[0]
    assert "subject_hash" not in line_of(form, identity=make_identity(None))


@pytest.mark.parametrize(
    ("method", "shown"),
    [
        ("GET", "GET"),
        ("M-SEARCH", "M-SEARCH"),
        ("", ""),
        ("get", "(other)"),
        ("eyJhb", "(other)"),
        ("A" * 17, "(other)"),
    ],
)
@pytest.mark.rule("R196", "R197")
def test_only_what_looks_like_a_method_is_shown_as_one(method: str, shown: str) -> None:
    """A client may put a secret in its place, and any token is a method to HTTP."""
    assert json.loads(line_of("json", method=method))["method"] == shown


@pytest.mark.parametrize("form", ["json", "text"])
@pytest.mark.parametrize("name", ["path", "detail", "request_id", "client", "route"])
@pytest.mark.rule("R197")
def test_hostile_text_stays_one_line_of_printable_ascii(form: Literal["json", "text"], name: str) -> None:
    """Line ends of any kind, terminal sequences and quotes are escaped; a lone surrogate is no fault."""
    line = line_of(form, **{name: HOSTILE})
    assert line.endswith("\n")
    assert line[:-1].isascii()
    assert line[:-1].isprintable()
    assert len(line.splitlines()) == 1
    if form == "json":
        assert json.loads(line)[name] == HOSTILE
    else:
        value, _ = json.JSONDecoder().raw_decode(line[line.index(f"{name}=") + len(name) + 1 :])
        assert value == HOSTILE


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("/plain/path", "/plain/path"),
        ("", '""'),
        ("a b", '"a b"'),
        ("a=b", '"a=b"'),
        ('say "hi"', '"say \\"hi\\""'),
        ("back\\slash", '"back\\\\slash"'),
        ("café", '"caf\\u00e9"'),
    ],
)
@pytest.mark.rule("R197")
def test_text_line_quotes_what_could_be_taken_for_another_field(value: str, written: str) -> None:
    """Name=value pairs can be separated whatever a value holds."""
    assert f" path={written} route=" in line_of("text", path=value)


@pytest.mark.rule("R389")
def test_text_line_writes_numbers_and_flags_as_they_are() -> None:
    line = line_of("text", cache_hit=True, upstream_seconds=0.5)
    assert " status=200 " in line
    assert " cache_hit=true upstream_ms=500.0 bytes_in=0 " in line


def test_off_writes_nothing() -> None:
    """Contract: access_log = "off"."""
    assert line_of("off", path="/x") == ""


class HeldThread:
    """Keeps the jobs that the log hands over until the test lets them run."""

    def __init__(self) -> None:
        self.jobs: list[tuple[Callable[[], None], Callable[[], None]]] = []

    def run(self, work: Callable[[], None], done: Callable[[], None]) -> None:
        self.jobs.append((work, done))

    def work(self) -> Callable[[], None]:
        """Run the oldest job's blocking part; return the part that runs on the loop."""
        work, done = self.jobs.pop(0)
        work()
        return done


def log_with(out: Any, thread: HeldThread) -> AccessLog:
    return AccessLog("json", out, FakeClock(), thread.run)


def paths(text: str) -> list[str]:
    return [json.loads(line)["path"] for line in text.splitlines()]


def test_lines_that_come_during_a_write_follow_it_in_order_and_in_one_piece() -> None:
    """One write at a time: what is collected meanwhile is the next one."""
    out, thread = io.StringIO(), HeldThread()
    log = log_with(out, thread)
    log.write(record(path="/0"), 0)
    assert len(thread.jobs) == 1
    for number in range(1, 4):
        log.write(record(path=f"/{number}"), 0)
    assert len(thread.jobs) == 1
    done = thread.work()
    log.write(record(path="/4"), 0)
    assert (len(thread.jobs), paths(out.getvalue())) == (0, ["/0"])
    done()
    assert len(thread.jobs) == 1
    thread.work()()
    assert paths(out.getvalue()) == ["/0", "/1", "/2", "/3", "/4"]
    assert not thread.jobs
    log.write(record(path="/5"), 0)
    thread.work()()
    assert paths(out.getvalue())[-1] == "/5"


def test_no_line_is_lost_or_doubled_in_any_order_of_events() -> None:
    """Model test: writes and both halves of a hand-over in random order give every line once, in order."""
    for seed in range(200):
        choice = random.Random(seed)
        out, thread = io.StringIO(), HeldThread()
        log = log_with(out, thread)
        done: Callable[[], None] | None = None
        for number in range(40):
            log.write(record(path=f"/{number}"), 0)
            for _ in range(choice.randrange(3)):
                if done is not None:
                    finished, done = done, None
                    finished()
                elif thread.jobs:
                    done = thread.work()
        while done is not None or thread.jobs:
            if done is not None:
                done()
            done = thread.work() if thread.jobs else None
        assert paths(out.getvalue()) == [f"/{number}" for number in range(40)]


def test_stuck_reader_costs_bounded_memory_and_later_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    """CWE-770: MAX_BUFFERED counts what is being written too; drops are counted; afterwards all is as before."""
    monkeypatch.setattr(telemetry, "MAX_BUFFERED", 1000)
    out, thread = io.StringIO(), HeldThread()
    log = log_with(out, thread)
    for number in range(100):
        log.write(record(path=f"/{number}"), 0)
    kept = 100 - log.dropped
    assert log.dropped > 80
    done = thread.work()
    first = out.getvalue()
    log.write(record(path="/during"), 0)
    dropped = log.dropped
    done()
    while thread.jobs:
        thread.work()()
    assert paths(out.getvalue())[:kept] == [f"/{number}" for number in range(kept)]
    assert len(out.getvalue()) <= 1000 + len(first)
    log.write(record(path="/after"), 0)
    thread.work()()
    assert paths(out.getvalue())[-1] == "/after"
    assert log.dropped == dropped


class BrokenOut(io.StringIO):
    """An output whose reader is gone."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error

    def flush(self) -> None:
        raise self.error


@pytest.mark.parametrize("error", [BrokenPipeError(), OSError(28, "no space"), ValueError("I/O on closed file")])
@pytest.mark.parametrize("threaded", [False, True])
def test_output_that_fails_costs_lines_never_requests(error: Exception, threaded: bool) -> None:
    """A closed or full output is no fault of a request: the lines are counted as dropped."""
    out, thread = BrokenOut(error), HeldThread()
    log = AccessLog("json", out, FakeClock(), thread.run if threaded else None)
    for _ in range(3):
        log.write(record(), 0)
    while thread.jobs:
        thread.work()()
    assert log.dropped == 3


def test_closed_output_is_survived() -> None:
    """The same with a real closed file."""
    out = io.StringIO()
    out.close()
    log = AccessLog("json", out, FakeClock())
    log.write(record(), 0)
    assert log.dropped == 1


@pytest.mark.rule("R198", "R389")
def test_outcome_is_counted_once_with_bounded_labels() -> None:
    """One request is one of each, and only refusals and observations count as such."""
    counters = Telemetry(AccessLog("off", io.StringIO(), FakeClock()))
    counters.finish(record(route="/a", started=1.0), 1.002)
    refused = record(route="/a", status=401, outcome="refused", reason="expired", verify_seconds=0.0, method="PATCH")
    counters.finish(refused, 5.0)
    observed = record(route="/b", observed="no_credential", upstream_seconds=70.0, method="BREW")
    counters.finish(observed, 0.0)
    assert counters.requests == {
        ("/a", "read", 200, "forwarded"): 1,
        ("/a", "write", 401, "refused"): 1,
        ("/b", "other", 200, "forwarded"): 1,
    }
    assert counters.refusals == {"expired": 1}
    assert counters.observed == {("/b", "no_credential"): 1}
    assert sum(counters.whole.counts) == 3
    assert counters.whole.total == pytest.approx(5.002)
    assert (sum(counters.upstream.counts), counters.upstream.counts[-1]) == (1, 1)
    assert sum(counters.verification.counts) == counters.verification.counts[0] == 1


@pytest.mark.parametrize("index", range(len(BUCKETS)))
def test_bucket_holds_its_upper_bound(index: int) -> None:
    """A duration equal to a bound counts below it (Prometheus: le); the next larger one counts above."""
    histogram = Histogram()
    histogram.observe(BUCKETS[index])
    histogram.observe(BUCKETS[index] * 1.0000001)
    assert histogram.counts[index : index + 2] == [1, 1]
    assert sum(histogram.counts) == 2


def test_buckets_rise() -> None:
    """The histogram's search relies on it."""
    assert list(BUCKETS) == sorted(set(BUCKETS))


@pytest.mark.rule("R198")
def test_method_class_is_one_of_three() -> None:
    """Case counts, as in RFC 9110 section 9.1."""
    given = ("GET", "HEAD", "OPTIONS", "QUERY", "POST", "PUT", "PATCH", "DELETE", "get", "PROPFIND", "")
    assert [method_class(method) for method in given] == ["read"] * 4 + ["write"] * 4 + ["other"] * 3
