"""How each kind of scenario is measured; rounds go round the rows: A B C A B C, never A A B B.

What slows the machine down for a while then meets all rows, and ratios are
taken within a round.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

from benchmarks.drive import LoadError, Target
from benchmarks.footprint import per_connection, per_token
from benchmarks.load import Outcome, messages
from benchmarks.mixed import VISITS
from benchmarks.model import (
    ANSWERED,
    BESIDE,
    BYTES,
    LAG,
    OFFERED,
    P50,
    P99,
    PER_CONNECTION,
    PER_TOKEN,
    RATE,
    READY,
    RESIDENT,
    Contender,
    Row,
    Scenario,
)
from benchmarks.peers import PEERS
from benchmarks.peers.base import Setup
from benchmarks.prove import prove_mixed
from benchmarks.stage import Stage, Subject
from benchmarks.tokens import material
from benchmarks.traffic import build

#: What the progress of a run looks like: one line.
Say = Callable[[str], None]

#: Seconds of load before the first round; pools, caches and JITs are warm then.
WARM_UP = 2.0

#: So many connections get a second more of it: the slowest peer on a slow machine must have opened them all.
CONNECTED_A_SECOND = 500


@dataclass(frozen=True)
class Options:
    """How long a run takes.

    Attributes:
        rounds: how often each row is measured.
        seconds: of load in each round.
        scale: makes pools of tokens, and caches with them, smaller, for a first try.
    """

    rounds: int = 5
    seconds: float = 3.0
    scale: float = 1.0

    def fitted(self, setup: Setup) -> Setup:
        """Return a setup whose cache stands to the pools of tokens as it does without a scale."""
        return replace(setup, cache_size=max(1, int(setup.cache_size * self.scale)))


class Lane:
    """One row while it is measured: its gateway, and where its traffic has come to.

    Attributes:
        beside: what came back of the traffic beside it, after a round.
    """

    def __init__(self, contender: Contender, subject: Subject, stage: Stage, options: Options) -> None:
        keys = material(contender.setup.algorithm, stage.cache)
        self.contender, self.subject, self._options = contender, subject, options
        self._driver = stage.driver_for(contender.setup)
        self._traffic = build(contender.sends, keys, options.scale)
        self.beside: list[Outcome] = []
        self._beside = build(contender.beside, keys, options.scale) if contender.beside else None

    def prove(self) -> None:
        """See that real traffic gets its answers, if this row sends it.

        Raises:
            ProofError: an answer is not the one to its request.
        """
        peer = PEERS[self.contender.peer]
        if self.contender.sends.mixed:
            prove_mixed(peer.title, self.subject.target, messages(self._traffic), self.contender.setup, peer.work)

    def closed(self, seconds: float) -> Outcome:
        """Send as fast as the answers come, beside what the contender has beside it."""
        target, connections = self.subject.target, self.contender.connections
        with contextlib.ExitStack() as around:
            if self._beside is not None:
                count, rate = self.contender.beside_connections, self.contender.beside_rate
                to = around.enter_context(_unread(count)) if self.contender.beside_unread else target
                self.beside = around.enter_context(self._driver.beside(self._beside, to, count, seconds, rate))
                self._beside = self._beside.later(int(rate * (seconds + 1)))
            around.enter_context(self._named())
            outcome = self._driver.closed(self._traffic, target, connections, seconds)
        self._sent(outcome)
        return outcome

    def offered(self, seconds: float, rate: float) -> Outcome:
        """Send at a fixed rate."""
        target, connections = self.subject.target, self.contender.connections
        with self._named():
            outcome = self._driver.offered(self._traffic, target, connections, seconds, rate)
        self._sent(outcome)
        return outcome

    def warm_up(self, seconds: float) -> None:
        """Send for a while, and first what a cache is to hold."""
        if self.contender.sends.credential == "rotating" or self.contender.sends.mixed:
            self.send_all()
        self.closed(seconds)

    def send_all(self) -> Outcome:
        """Send each token of the pool once."""
        tokens = self._traffic.size // (VISITS if self.contender.sends.mixed else 1)
        target, connections = self.subject.target, self.contender.connections
        with self._named():
            outcome = self._driver.send(self._traffic, target, connections, tokens)
        self.subject.empty_log()
        return outcome

    @contextlib.contextmanager
    def _named(self) -> Iterator[None]:
        """Say whose answers were wrong if they were."""
        try:
            yield
        except LoadError as error:
            raise LoadError(f"{self.contender.title or PEERS[self.contender.peer].title}: {error}") from error

    def _sent(self, outcome: Outcome) -> None:
        self.subject.empty_log()
        self._traffic = self._traffic.later(outcome.answers + outcome.failed + self.contender.connections)


@contextlib.contextmanager
def _unread(connections: int) -> Iterator[Target]:
    """Take so many connections, and read nothing of what comes over them."""
    with socket.create_server(("127.0.0.1", 0), backlog=connections) as deaf:
        yield Target(deaf.getsockname()[1], unread=True)


def impossible(contender: Contender, stage: Stage, options: Options) -> str:
    """Return why a contender cannot run here, or nothing."""
    peer = PEERS[contender.peer]
    if contender.setup.tls and not stage.driver.takes_wrk(options.seconds):
        return "load over TLS needs wrk, and rounds of whole seconds"
    return peer.missing() or peer.offers(contender.setup) or ""


def rows_of(scenario: Scenario, stage: Stage, options: Options) -> dict[str, Row]:
    """Return empty rows; those that cannot run say why."""
    return {
        name: Row(
            contender.title or PEERS[contender.peer].title,
            skipped=impossible(contender, stage, options),
            described=contender.described(),
        )
        for name, contender in scenario.rows.items()
    }


@contextlib.contextmanager
def lanes(scenario: Scenario, rows: Mapping[str, Row], stage: Stage, options: Options) -> Iterator[dict[str, Lane]]:
    """Start every gateway of a scenario once, whatever the number of its rows, and warm each row up."""
    with contextlib.ExitStack() as running:
        subjects: dict[tuple[str, Setup], Subject] = {}
        opened: dict[str, Lane] = {}
        for name, contender in scenario.rows.items():
            if rows[name].skipped:
                continue
            key = (contender.peer, options.fitted(contender.setup))
            if key not in subjects:
                subjects[key] = running.enter_context(stage.running(PEERS[key[0]], key[1]))
            opened[name] = Lane(contender, subjects[key], stage, options)
        for name, lane in list(opened.items()):
            lane.prove()
            with spoiling(rows[name], opened, name):
                lane.warm_up(min(WARM_UP, options.seconds) + lane.contender.connections // CONNECTED_A_SECOND)
        yield opened


@contextlib.contextmanager
def spoiling(row: Row, opened: dict[str, Lane], name: str) -> Iterator[None]:
    """Take a row with wrong answers out; the others are measured all the same."""
    try:
        yield
    except LoadError as error:
        row.spoil(error)
        del opened[name]


def measure_rate(scenario: Scenario, stage: Stage, options: Options, say: Say) -> dict[str, Row]:
    """Measure the highest rate of each row."""
    rows = rows_of(scenario, stage, options)
    with lanes(scenario, rows, stage, options) as opened:
        for number in range(options.rounds):
            for name, lane in list(opened.items()):
                outcome = None
                with spoiling(rows[name], opened, name):
                    outcome = lane.closed(options.seconds)
                if outcome is None:
                    continue
                numbers = {
                    RATE.key: outcome.answers / outcome.seconds,
                    BYTES.key: outcome.received / outcome.seconds / 1e6,
                }
                for beside in lane.beside:
                    numbers[BESIDE.key] = beside.answers / beside.seconds
                _add(rows[name], outcome, numbers)
                say(f"{scenario.name} {number + 1}/{options.rounds} {rows[name].title}: {numbers[RATE.key]:,.0f}/s")
    return rows


def measure_latency(scenario: Scenario, stage: Stage, options: Options, say: Say) -> dict[str, Row]:
    """Measure latencies of each row at half of the first row's highest rate.

    Raises:
        LoadError: the first row cannot run.
    """
    rows = rows_of(scenario, stage, options)
    with lanes(scenario, rows, stage, options) as opened:
        first = opened.get(next(iter(scenario.rows)))
        if first is None:
            raise LoadError("the row whose maximum sets the rate cannot run")
        highest = sorted(
            outcome.answers / outcome.seconds for outcome in (first.closed(options.seconds) for _ in range(3))
        )[1]
        for number in range(options.rounds):
            for name, lane in list(opened.items()):
                outcome = None
                with spoiling(rows[name], opened, name):
                    outcome = lane.offered(options.seconds, highest / 2)
                if outcome is None:
                    continue
                numbers = {
                    P50.key: outcome.latencies["p50"],
                    P99.key: outcome.latencies["p99"],
                    LAG.key: outcome.latencies["lag_p99"],
                    OFFERED.key: highest / 2,
                    ANSWERED.key: outcome.answers / outcome.seconds,
                }
                _add(rows[name], outcome, numbers)
                say(f"{scenario.name} {number + 1}/{options.rounds} {rows[name].title}: p99 {numbers[P99.key]:.2f} ms")
    return rows


def measure_memory(scenario: Scenario, stage: Stage, options: Options, say: Say) -> dict[str, Row]:
    """Measure resident memory of a fresh process after each of its tokens came once."""
    rows = rows_of(scenario, stage, options)
    for number in range(min(options.rounds, 3)):
        for name, contender in scenario.rows.items():
            if rows[name].skipped:
                continue
            with stage.running(PEERS[contender.peer], options.fitted(contender.setup)) as subject:
                outcome = Lane(contender, subject, stage, options).send_all()
                mib = subject.process.resident_bytes() / (1 << 20)
            _add(rows[name], outcome, {RESIDENT.key: mib})
            say(f"{scenario.name} {number + 1} {rows[name].title}: {mib:.1f} MiB")
    return rows


def measure_footprint(scenario: Scenario, stage: Stage, options: Options, say: Say) -> dict[str, Row]:
    """Measure what one more kept connection, and one more token in the cache, add to a process."""
    rows = rows_of(scenario, stage, options)
    for number in range(min(options.rounds, 3)):
        for name, contender in scenario.rows.items():
            if rows[name].skipped:
                continue
            peer, setup = PEERS[contender.peer], options.fitted(contender.setup)
            keys = material(setup.algorithm, stage.cache)
            with stage.running(peer, setup) as subject:
                connection = per_connection(subject, build(contender.sends, keys, options.scale), options.scale)
            with stage.running(peer, setup) as subject:
                token = per_token(subject, stage.driver_for(setup), keys, options.scale)
            rows[name].add({PER_CONNECTION.key: connection, PER_TOKEN.key: token})
            say(f"{scenario.name} {number + 1} {rows[name].title}: {connection:.2f} and {token:.2f} KiB")
    return rows


def measure_startup(scenario: Scenario, stage: Stage, options: Options, say: Say) -> dict[str, Row]:
    """Measure the time from the start of a process to its first answer to a good token."""
    rows = rows_of(scenario, stage, options)
    for number in range(options.rounds):
        for name, contender in scenario.rows.items():
            if rows[name].skipped:
                continue
            with stage.running(PEERS[contender.peer], options.fitted(contender.setup)) as subject:
                rows[name].add({READY.key: subject.ready_seconds})
            say(f"{scenario.name} {number + 1}/{options.rounds} {rows[name].title}: {subject.ready_seconds:.2f} s")
    return rows


def _add(row: Row, outcome: Outcome, numbers: Mapping[str, float]) -> None:
    row.add(numbers)
    row.failures += outcome.failed


MEASURES: dict[str, Callable[[Scenario, Stage, Options, Say], dict[str, Row]]] = {
    "rate": measure_rate,
    "latency": measure_latency,
    "memory": measure_memory,
    "footprint": measure_footprint,
    "startup": measure_startup,
}
