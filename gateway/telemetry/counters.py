"""What the gateway tells its operators: counters, durations, the access log.

Collects them: plain integers that the request path adds to, and one line for each finished request. The metrics page
that shows them is ``server/admin/collector.py``. Nothing in this file may hold a token, and no counter's label may
hold what a client chose freely (a subject, a kid, a raw path).
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import json
import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal, TextIO

import orjson

from gateway.clock import Clock
from gateway.identity import Identity

#: Upper bounds of the duration histograms, in seconds.
BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)

#: Log text kept in memory while standard output is blocked; beyond it lines are dropped and counted.
MAX_BUFFERED = 8 * 1024 * 1024

_READS = frozenset({"GET", "HEAD", "OPTIONS", "QUERY"})
_WRITES = frozenset({"POST", "PUT", "PATCH", "DELETE"})


def method_class(method: str) -> str:
    """Return ``read``, ``write`` or ``other``: a bounded label for any method."""
    if method in _READS:
        return "read"
    return "write" if method in _WRITES else "other"


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
class Record:
    """What is known of one request; filled on its way, counted and logged once.

    Times are monotonic seconds. ``reason`` is the code of a refusal or failure
    and empty for a forwarded request; ``observed`` the code of the refusal
    that a route with ``observe = true`` let pass. ``tunnel_end`` says how a
    WebSocket ended; bytes are those of its frames.
    """

    started: float
    client: str = ""
    request_id: str = ""
    method: str = ""
    path: str = ""
    route: str = ""
    status: int = 0
    outcome: Literal["forwarded", "answered", "refused", "failed", "client_gone"] = "forwarded"
    reason: str = ""
    detail: str = ""
    observed: str = ""
    identity: Identity | None = None
    cache_hit: bool | None = None
    verify_seconds: float | None = None
    upstream: str = ""
    upstream_seconds: float | None = None
    bytes_in: int = 0
    bytes_out: int = 0
    tunnel_end: str = ""


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

    def finish_plain(self, counter: tuple[str, str, int, str], seconds: float) -> None:
        """Count a forwarded request that is not access-logged, whose response came in one piece."""
        self.requests[counter] += 1
        bucket, whole, upstream = bisect_left(BUCKETS, seconds), self.whole, self.upstream
        whole.counts[bucket] += 1
        whole.total += seconds
        upstream.counts[bucket] += 1
        upstream.total += seconds

    def finish_verified(self, counter: tuple[str, str, int, str], seconds: float, verifying: float) -> None:
        """Count such a request whose token was verified first, before the ``seconds`` that its upstream took."""
        self.requests[counter] += 1
        self.whole.observe(seconds + verifying)
        self.upstream.observe(seconds)
        self.verification.observe(verifying)

    def finish_refused(self, counter: tuple[str, str, int, str], reason: str, seconds: float) -> None:
        """Count a refused request that is not access-logged."""
        self.requests[counter] += 1
        self.refusals[reason] += 1
        self.whole.observe(seconds)

    def finish(self, record: Record, now: float) -> None:
        """Count the outcome of a request, once, and write its line."""
        seconds = now - record.started
        self.requests[record.route, method_class(record.method), record.status, record.outcome] += 1
        if record.reason:
            self.refusals[record.reason] += 1
        if record.observed:
            self.observed[record.route, record.observed] += 1
        if record.tunnel_end:
            self.tunnel_ends[record.tunnel_end] += 1
        else:
            self.whole.observe(seconds)
        if record.upstream_seconds is not None:
            self.upstream.observe(record.upstream_seconds)
        if record.verify_seconds is not None:
            self.verification.observe(record.verify_seconds)
        self.access_log.write(record, seconds)


class AccessLog:
    """One line a request, written without ever making a request wait.

    Lines are collected and handed to a thread in one write at a time; while
    the reader of standard output is stuck, up to ``MAX_BUFFERED`` characters
    wait, and later lines are dropped and counted. The collection is touched
    by the loop's thread only: the other one gets a finished text.

    Args:
        form: ``json``, ``text`` or ``off``.
        out: where the lines go.
        clock: the time in each line.
        run: hands a blocking call to a thread; its callback runs on the loop afterwards.
    """

    def __init__(
        self,
        form: Literal["json", "text", "off"],
        out: TextIO,
        clock: Clock,
        run: Callable[[Callable[[], None], Callable[[], None]], None] | None = None,
    ) -> None:
        self.dropped = 0
        #: Whether anything is written at all.
        self.enabled = form != "off"
        self._form = form
        self._out = out
        self._clock = clock
        self._run = run
        self._lines: list[str] = []
        self._size = 0  # of the lines, those that are being written included
        self._lost = 0
        self._writing = False

    def write(self, record: Record, seconds: float) -> None:
        """Add the line of a finished request."""
        if not self.enabled:
            return
        if self._size > MAX_BUFFERED:
            self.dropped += 1
            return
        fields = _fields(record, seconds, self._clock.wall())
        line = (_json(fields) if self._form == "json" else _text(fields)) + "\n"
        self._lines.append(line)
        self._size += len(line)
        if not self._writing:
            self._hand_over()

    def _hand_over(self) -> None:
        """Write every collected line in one go."""
        lines, self._lines = self._lines, []
        text = "".join(lines)
        work = functools.partial(self._put, text, len(lines))
        done = functools.partial(self._written, len(text))
        self._writing = True
        if self._run is None:
            work()
            done()
        else:
            self._run(work, done)

    def _put(self, text: str, count: int) -> None:
        try:
            self._out.write(text)
            self._out.flush()
        except (OSError, ValueError):
            # The reader of standard output is gone. Requests are still served.
            self._lost = count

    def _written(self, size: int) -> None:
        self._writing = False
        self._size -= size
        self.dropped += self._lost
        self._lost = 0
        if self._lines:
            self._hand_over()


# What methods look like. Anything else that a client put in their place may be a secret gone astray.
_is_method = re.compile(r"[A-Z][A-Z-]{0,15}|").fullmatch


def _fields(record: Record, seconds: float, wall: float) -> dict[str, str | int | float | bool]:
    fields: dict[str, str | int | float | bool] = {
        "time": datetime.fromtimestamp(wall, UTC).isoformat(timespec="milliseconds"),
        "request_id": record.request_id,
        "client": record.client,
        "method": record.method if _is_method(record.method) else "(other)",
        "path": record.path,
        "route": record.route,
        "status": record.status,
        "outcome": record.outcome,
        "duration_ms": round(seconds * 1000, 3),
    }
    if reason := record.reason or record.tunnel_end:
        fields["reason"] = reason
    if record.detail:
        fields["detail"] = record.detail
    if record.observed:
        fields["observed"] = record.observed
    if record.identity is not None:
        fields["credential"] = record.identity.credential
        if record.identity.issuer_name:
            fields["issuer"] = record.identity.issuer_name
        if record.identity.tenant is not None:
            fields["tenant"] = record.identity.tenant
        if record.identity.subject is not None:
            fields["subject_hash"] = hashlib.sha256(record.identity.subject.encode()).hexdigest()[:16]
    if record.cache_hit is not None:
        fields["cache_hit"] = record.cache_hit
    if record.upstream:
        fields["upstream"] = record.upstream
    if record.upstream_seconds is not None:
        fields["upstream_ms"] = round(record.upstream_seconds * 1000, 3)
    fields["bytes_in"] = record.bytes_in
    fields["bytes_out"] = record.bytes_out
    return fields


def _json(value: object) -> str:
    """Write JSON in printable ASCII: what terminals and log readers act on is escaped, from any source (CWE-117)."""
    try:
        text = orjson.dumps(value).decode()
        if text.isascii() and "\x7f" not in text:
            return text
    except TypeError:  # a lone surrogate
        pass
    return json.dumps(value, separators=(",", ":")).replace("\x7f", "\\u007f")


def _text(fields: dict[str, str | int | float | bool]) -> str:
    """Write ``name=value`` pairs; values with anything but plain characters are quoted as JSON."""
    return " ".join(
        f"{name}={value if isinstance(value, str) and _plain(value) else _json(value)}"
        for name, value in fields.items()
    )


def _plain(value: str) -> bool:
    return bool(value) and value.isascii() and value.isprintable() and not set(value) & {" ", '"', "=", "\\"}
