"""What the gateway counts: requests by outcome, refusals by reason, durations by bucket.

Plain integers that the request path adds to, once for each finished request, whose line goes to the access log
(``access_log.py``). The metrics page that shows them is ``server/admin/collector.py``. The danger is a counter's label
that holds what a client chose freely (a subject, a kid, a raw path): none may.
"""

from __future__ import annotations

import itertools
from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass, field

from gateway.telemetry.access_log import AccessLog
from gateway.telemetry.record import Record

#: Upper bounds of the duration histograms, in seconds.
BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)

_CLASSES = {
    **dict.fromkeys(("GET", "HEAD", "OPTIONS", "QUERY"), "read"),
    **dict.fromkeys(("POST", "PUT", "PATCH", "DELETE"), "write"),
}


def method_class(method: str) -> str:
    """Return ``read``, ``write`` or ``other``: a bounded label for any method."""
    return _CLASSES.get(method, "other")


class Histogram:
    """Counts of durations by bucket, as plain integers."""

    __slots__ = ("counts", "total")

    def __init__(self) -> None:
        self.counts = [0] * (len(BUCKETS) + 1)
        self.total = 0.0

    def observe(self, seconds: float) -> None:
        """Count one duration."""
        self.counts[bisect_left(BUCKETS, seconds)] += 1
        self.total += seconds


def cumulative(histogram: Histogram) -> list[tuple[str, float]]:
    """Return the counts as Prometheus has them: by upper bound, each with all that is below."""
    return list(zip((*map(str, BUCKETS), "+Inf"), itertools.accumulate(histogram.counts), strict=True))


@dataclass(slots=True)
class Telemetry:
    """Every counter of the request path, and the access log that it feeds."""

    access_log: AccessLog
    requests: Counter[tuple[str, str, int, str]] = field(default_factory=Counter)
    refusals: Counter[str] = field(default_factory=Counter)
    observed: Counter[tuple[str, str]] = field(default_factory=Counter)
    whole: Histogram = field(default_factory=Histogram)
    upstream: Histogram = field(default_factory=Histogram)
    verification: Histogram = field(default_factory=Histogram)
    tunnel_ends: Counter[str] = field(default_factory=Counter)
    tunnels: int = 0
    connections: int = 0
    lingering: int = 0
    connections_refused: int = 0
    not_http: Counter[str] = field(default_factory=Counter)
    handshake_failures: Counter[str] = field(default_factory=Counter)
    running: int = 0
    deferred: int = 0
    loop_lag: float = 0.0
    tls_reload_failures: int = 0

    def finish(self, record: Record, now: float) -> None:
        """Count the outcome of a request, once, and write its line."""
        seconds, upstream_seconds = now - record.started, record.upstream_seconds
        self.requests[record.route, _CLASSES.get(record.method, "other"), record.status, record.outcome] += 1
        if record.reason:
            self.refusals[record.reason] += 1
        if record.observed:
            self.observed[record.route, record.observed] += 1
        if record.tunnel_end:
            self.tunnel_ends[record.tunnel_end] += 1
        else:
            self.whole.observe(seconds)
        if upstream_seconds is not None:
            self.upstream.observe(upstream_seconds)
        if record.verify_seconds is not None:
            self.verification.observe(record.verify_seconds)
        if self.access_log.enabled:
            self.access_log.write(record, seconds)
