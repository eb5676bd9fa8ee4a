"""The cost of a line of the access log alone: ``python -m benchmarks.access_log``.

What ``Telemetry.finish`` takes for a request, with each form of the log, less what it takes without one. Each request
has a path and an id of its own; callers and addresses come again. The output keeps nothing, so the figure has all that
the gateway does for a line, and nothing of the system. The aim is 3 µs.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from typing import Literal, TextIO, cast

from gateway.clock import SystemClock
from gateway.identity import Identity
from gateway.telemetry.access_log import AccessLog
from gateway.telemetry.counters import Telemetry
from gateway.telemetry.record import Record

REQUESTS, ROUNDS, CALLERS, ADDRESSES = 10_000, 15, 1_000, 200

Form = Literal["json", "text", "off"]


class _Nowhere:
    """An output that takes everything and keeps nothing."""

    def write(self, text: str) -> int:
        return len(text)

    def flush(self) -> None:
        pass


def _never(seconds: float, call: Callable[[], None]) -> None:
    """Let no timer end: lines are written when they are many."""


def records(count: int) -> Iterator[Record]:
    """Return finished requests of many callers."""
    callers = [
        Identity("main", "https://idp.test/", f"user-{number}", ("read",), {}, b"", 2e9, 0.0, None)
        for number in range(CALLERS)
    ]
    for number in range(count):
        record = Record(
            0.0, f"192.0.2.{number % ADDRESSES}", f"{number:032x}", "GET", f"/orders/{number}", "/orders", 200
        )
        record.identity, record.cache_hit = callers[number % CALLERS], True
        record.upstream, record.upstream_seconds, record.bytes_out = "orders", 0.001 + number * 1e-7, 123
        yield record


def microseconds(form: Form, count: int = REQUESTS) -> float:
    """Return the processor time of one finished request, in microseconds."""
    log = AccessLog(form, cast(TextIO, _Nowhere()), SystemClock(), later=_never)
    telemetry, finished = Telemetry(log), list(records(count))
    began = time.process_time()
    for record in finished:
        telemetry.finish(record, 0.002)
    return (time.process_time() - began) / count * 1e6


def main() -> None:
    """Measure all forms in turn, and print the medians."""
    forms: tuple[Form, ...] = ("off", "json", "text")
    rounds = [{form: microseconds(form) for form in forms} for _ in range(ROUNDS)]
    for form in forms[1:]:
        more = statistics.median(one[form] - one["off"] for one in rounds)
        print(f"{form}: {more:.2f} µs a request more than without a log")


if __name__ == "__main__":
    main()
