"""The counters behind the metrics page."""

from __future__ import annotations

import io
from typing import Any

import pytest

from gateway.telemetry.access_log import AccessLog
from gateway.telemetry.counters import BUCKETS, Histogram, Telemetry, method_class
from gateway.telemetry.record import Record
from tests.support.clock import FakeClock


def record(**values: Any) -> Record:
    return Record(**{"started": 0.0, "client": "192.0.2.1", "method": "GET", "path": "/a", "status": 200, **values})


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
