"""The bundled load generator: ``python -m benchmarks.load`` reads a plan on standard input and prints an outcome.

It runs either closed (each connection sends its next request when it has its
answer: the highest rate that the other side reaches) or open (requests are due
at fixed times, whatever the other side does). Open, a latency counts from the
time when the request was due, not from when a connection was free for it: a
gateway that stalls cannot hide that by slowing its own load down (coordinated
omission). What was never answered counts with the time that it waited.

Only the generator lives here; what the bytes mean is in ``traffic.py``.
"""

from __future__ import annotations

import gc
import json
import selectors
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import mixed
from benchmarks.client import READ, WRITE, Connection
from benchmarks.spread import percentile
from benchmarks.traffic import DIGITS, Traffic

#: The first line that the program prints: connections are open, requests follow.
STARTED = "started"

#: Seconds after the end for answers that are still on their way.
GRACE = 1.0

#: Seconds between two looks at the clock while no connection is free.
BUSY_PATIENCE = 0.002


@dataclass(frozen=True)
class Plan:
    """One run of the generator.

    Attributes:
        seconds: how long requests are sent.
        rate: requests a second that are due; 0 = closed.
        limit: stop after so many requests; 0 = none.
    """

    traffic: Traffic
    port: int
    connections: int
    seconds: float
    rate: float = 0.0
    limit: int = 0


@dataclass
class Outcome:
    """What came back.

    Attributes:
        answers: complete responses.
        refusals: those of them with a status above 399.
        failures: what went wrong on connections, by kind.
        received: bytes of the responses.
        seconds: how long it took.
        latencies: milliseconds: p50, p99, most; when open also how late the generator itself was (lag_p99).
    """

    answers: int = 0
    refusals: int = 0
    received: int = 0
    seconds: float = 0.0
    failures: dict[str, int] = field(default_factory=dict)
    latencies: dict[str, float] = field(default_factory=dict)

    @property
    def failed(self) -> int:
        return sum(self.failures.values())


def messages(traffic: Traffic) -> Callable[[], bytes]:
    """Return a function that gives the next request."""
    if traffic.requests is not None:
        return mixed.numbered(traffic.requests, traffic.first, DIGITS)
    before, after = traffic.before, traffic.after
    if traffic.counted:
        numbers = iter(range(traffic.first, 10**DIGITS))
        return lambda: b"%b%0*d%b" % (before, DIGITS, next(numbers), after)
    if traffic.pool is None:
        message = before + after
        return lambda: message
    return _around(traffic, before, after).__next__


def _around(traffic: Traffic, before: bytes, after: bytes) -> Iterator[bytes]:
    assert traffic.pool is not None
    with traffic.pool.open("rb") as lines:
        tokens = [line.rstrip(b"\n") for _, line in zip(range(traffic.size), lines, strict=False)]
    number = traffic.first % len(tokens)
    while True:
        yield before + tokens[number] + after
        number = (number + 1) % len(tokens)


class Generator:
    """One run, in one thread; connections are opened when it is made."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._next = messages(plan.traffic)
        # epoll rounds its patience up to milliseconds, which is an age between two open requests; select does not.
        self._selector: selectors.BaseSelector = (
            selectors.SelectSelector() if plan.rate else selectors.DefaultSelector()
        )
        self._failures: Counter[str] = Counter()
        self._outcome = Outcome()
        self._latencies: list[float] = []
        self._lags: list[float] = []
        self._sent = 0
        self._waiting: deque[float] = deque()
        self._idle = [Connection(plan.port, self._selector) for _ in range(plan.connections)]
        self._busy: set[Connection] = set()

    def run(self) -> Outcome:
        """Send everything and return what came back."""
        gc.disable()
        started = time.perf_counter()
        try:
            if self._plan.rate:
                self._open(started)
            else:
                self._closed(started)
            ended = time.perf_counter()
            if self._plan.rate:
                self._drain(ended + GRACE)
        finally:
            gc.enable()
        return self._finish(started, ended)

    def _closed(self, started: float) -> None:
        end, limit = started + self._plan.seconds, self._plan.limit
        while (now := time.perf_counter()) < end:
            while self._idle and not (limit and self._sent >= limit):
                self._send(self._idle.pop(), now)
            if limit and not self._busy:
                break
            self._receive(min(0.1, end - now))

    def _open(self, started: float) -> None:
        dues = [started + number / self._plan.rate for number in range(round(self._plan.rate * self._plan.seconds))]
        dues.reverse()
        while dues:
            now = time.perf_counter()
            free = bool(self._idle)
            while dues and dues[-1] <= now:
                due = dues.pop()
                self._waiting.append(due)
                if free:  # else it is the other side that is late
                    self._lags.append(now - due)
            self._send_waiting()
            if self._idle:
                self._receive(max(0.0, dues[-1] - time.perf_counter()) if dues else 0.0)
            else:
                # Whatever falls due cannot be sent: to wake up for it would take time from what shares the core.
                self._receive(BUSY_PATIENCE)

    def _drain(self, end: float) -> None:
        """Send what was due and is still unsent, and wait for what is unanswered."""
        while (self._waiting or self._busy) and time.perf_counter() < end:
            self._send_waiting()
            self._receive(0.01)

    def _send_waiting(self) -> None:
        while self._waiting and self._idle:
            self._send(self._idle.pop(), self._waiting.popleft())

    def _send(self, connection: Connection, due: float) -> None:
        try:
            connection.send(self._next(), due)
        except OSError:
            self._fail(connection, "send")
            return
        self._sent += 1
        self._busy.add(connection)

    def _receive(self, patience: float) -> None:
        for key, events in self._selector.select(patience):
            connection: Connection = key.data
            try:
                if events & WRITE:
                    connection.send_rest()
                if not events & READ or not connection.receive():
                    continue
            except OSError:
                self._fail(connection, "read" if connection in self._busy else "closed while idle")
                continue
            self._answered(connection)

    def _answered(self, connection: Connection) -> None:
        outcome = self._outcome
        outcome.answers += 1
        outcome.received += connection.received
        outcome.refusals += connection.status > 399
        self._latencies.append(time.perf_counter() - connection.due)
        self._busy.discard(connection)
        if self._plan.traffic.close or connection.ends:
            self._replace(connection)
        else:
            self._idle.append(connection)

    def _fail(self, connection: Connection, kind: str) -> None:
        """Count a failure; only that of a request that was sent is one of the gateway's."""
        if connection in self._busy or kind == "send":
            self._failures[kind] += 1
            self._latencies.append(time.perf_counter() - connection.due)
        self._busy.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        self._replace(connection)

    def _replace(self, connection: Connection) -> None:
        connection.close()
        try:
            self._idle.append(Connection(self._plan.port, self._selector))
        except OSError:
            self._failures["connect"] += 1

    def _finish(self, started: float, ended: float) -> Outcome:
        outcome, now = self._outcome, time.perf_counter()
        if self._plan.rate:
            unanswered = [*self._waiting, *(connection.due for connection in self._busy)]
            if unanswered:
                self._failures["unanswered"] += len(unanswered)
                self._latencies += [now - due for due in unanswered]
        for connection in (*self._busy, *self._idle):
            connection.close()
        self._selector.close()
        outcome.seconds = ended - started
        outcome.failures = dict(self._failures)
        outcome.latencies = _summary(self._latencies, self._lags)
        return outcome


def _summary(latencies: list[float], lags: list[float]) -> dict[str, float]:
    summary = {}
    if latencies:
        latencies.sort()
        summary = {"p50": percentile(latencies, 0.5), "p99": percentile(latencies, 0.99), "most": latencies[-1]}
    if lags:
        summary["lag_p99"] = percentile(sorted(lags), 0.99)
    return {name: value * 1e3 for name, value in summary.items()}


def dump(plan: Plan) -> str:
    """Return a plan as JSON; bytes as Latin-1 text."""
    content = asdict(plan)
    traffic = content["traffic"]
    traffic["before"], traffic["after"] = (traffic[name].decode("latin-1") for name in ("before", "after"))
    traffic |= {name: str(traffic[name] or "") for name in ("pool", "requests")}
    return json.dumps(content)


def parse(text: str) -> Plan:
    """Undo ``dump``."""
    content: dict[str, Any] = json.loads(text)
    traffic = content.pop("traffic")
    traffic["before"], traffic["after"] = (traffic[name].encode("latin-1") for name in ("before", "after"))
    traffic |= {name: Path(traffic[name]) if traffic[name] else None for name in ("pool", "requests")}
    return Plan(Traffic(**traffic), **content)


if __name__ == "__main__":
    generator = Generator(parse(sys.stdin.read()))
    print(STARTED, flush=True)
    print(json.dumps(asdict(generator.run())))
