"""What a scenario is made of: contenders, what is measured, and the goals that it is held against."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from benchmarks.peers.base import Setup
from benchmarks.spread import Spread
from benchmarks.traffic import Sends

Kind = Literal["rate", "latency", "memory", "footprint", "startup"]


@dataclass(frozen=True)
class Metric:
    """One measured quantity.

    Attributes:
        key: its name in result files.
        title: its name and unit for readers.
        more_is_better: False for what should be small.
    """

    key: str
    title: str
    more_is_better: bool = True
    digits: int = 0


RATE = Metric("requests_per_second", "requests/s")
BYTES = Metric("megabytes_per_second", "MB/s")
P50 = Metric("p50_ms", "p50, ms", more_is_better=False, digits=2)
P99 = Metric("p99_ms", "p99, ms", more_is_better=False, digits=2)
OFFERED = Metric("offered_per_second", "offered requests/s")
ANSWERED = Metric("answered_per_second", "answered requests/s")
LAG = Metric("generator_lag_p99_ms", "late by the generator itself, p99, ms", more_is_better=False, digits=2)
BESIDE = Metric("beside_per_second", "answered beside it/s")
RESIDENT = Metric("resident_mib", "resident memory, MiB", more_is_better=False, digits=1)
PER_CONNECTION = Metric("kib_per_connection", "a kept connection, KiB", more_is_better=False, digits=2)
PER_TOKEN = Metric("kib_per_token", "a token in the cache, KiB", more_is_better=False, digits=2)
READY = Metric("ready_seconds", "start to first answer, s", more_is_better=False, digits=2)

METRICS = {
    metric.key: metric
    for metric in (
        RATE,
        BYTES,
        P50,
        P99,
        OFFERED,
        ANSWERED,
        LAG,
        BESIDE,
        RESIDENT,
        PER_CONNECTION,
        PER_TOKEN,
        READY,
    )
}


@dataclass(frozen=True)
class Contender:
    """One row of a scenario.

    Attributes:
        peer: a key of ``PEERS``.
        title: of the row; empty = the peer's own.
        beside: what is offered at ``beside_rate`` requests a second at the same time, over ``beside_connections``.
        beside_unread: it is offered to a socket that is not read: what making the load costs by itself.
    """

    peer: str
    sends: Sends = field(default_factory=Sends)
    setup: Setup = field(default_factory=Setup)
    title: str = ""
    connections: int = 32
    beside: Sends | None = None
    beside_rate: float = 0.0
    beside_connections: int = 8
    beside_unread: bool = False

    def described(self) -> dict[str, Any]:
        """Return what decides what is measured, for result files: whatever is not as usual, and always the log."""
        described: dict[str, Any] = {"access_log": self.setup.log}
        for part in (self, self.setup, self.sends):
            described |= _unusual(part)
        if self.beside is not None:
            described |= {f"beside_{name}": value for name, value in _unusual(self.beside).items()}
        return described


def _unusual(part: Contender | Setup | Sends) -> dict[str, Any]:
    """Return the plain fields of a declaration that are not as by default."""
    usual = {} if isinstance(part, Contender) else {each.name: each.default for each in fields(part)}
    left_out = {"title", "sends", "setup", "beside", "log"}
    named = {each.name: getattr(part, each.name) for each in fields(part) if each.name not in left_out}
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in named.items()
        if name not in usual or value != usual[name]
    }


@dataclass(frozen=True)
class Goal:
    """A number that must be reached, and one that is aimed at.

    Attributes:
        of: the row that is judged.
        to: the row that it is divided by; empty = the number itself.
        must, aim: bounds: at least, or at most for a metric that should be small; None = not set.
    """

    of: str
    to: str
    must: float | None
    aim: float | None = None
    metric: Metric = RATE

    def reached(self, value: float, bound: float) -> bool:
        """Tell whether a value is on the right side of a bound."""
        return value >= bound if self.metric.more_is_better else value <= bound


@dataclass(frozen=True)
class Scenario:
    """A question, who is asked, and what the answer should be.

    Attributes:
        name: on the command line and in result files.
        title: for readers.
        about: what is sent, in a sentence or two.
        rows: by row name; goals use these names.
        metrics: the first one is the scenario's main quantity.
        optional: it runs only when it is named.
    """

    name: str
    title: str
    about: str
    rows: Mapping[str, Contender]
    kind: Kind = "rate"
    metrics: tuple[Metric, ...] = (RATE,)
    goals: tuple[Goal, ...] = ()
    optional: bool = False


#: How the reason of a row begins that has no numbers because its answers were not what they must be.
WRONG = "wrong answers: "


@dataclass
class Row:
    """What was measured of one contender.

    Attributes:
        rounds: numbers by metric, one a round.
        failures: requests that failed on the way, in all rounds.
        skipped: why nothing was measured.
        described: what was measured; empty in files from before it was kept, when no side wrote an access log.
    """

    title: str
    rounds: dict[str, list[float]] = field(default_factory=dict)
    failures: int = 0
    skipped: str = ""
    described: dict[str, Any] = field(default_factory=dict)

    @property
    def is_wrong(self) -> bool:
        """Whether it ran, and its answers were not what they must be."""
        return self.skipped.startswith(WRONG)

    def spoil(self, why: object) -> None:
        """Drop what was measured: a row with wrong answers has no rate."""
        self.skipped = WRONG + str(why).removeprefix(f"{self.title}: ")
        self.rounds.clear()

    def add(self, numbers: Mapping[str, float]) -> None:
        """Add one round."""
        for name, number in numbers.items():
            self.rounds.setdefault(name, []).append(number)

    def spread(self, metric: Metric) -> Spread | None:
        """Return the spread of one metric, or None if it was not measured."""
        numbers = self.rounds.get(metric.key)
        return Spread(tuple(numbers)) if numbers else None


def judged(goal: Goal, rows: Mapping[str, Row]) -> Spread | None:
    """Return what a goal is about, round by round; None when a side of it was not measured."""
    found = [rows[name].spread(goal.metric) if name in rows else None for name in (goal.of, goal.to) if name]
    if None in found:
        return None
    measured: Sequence[Spread] = [spread for spread in found if spread is not None]
    return measured[0].over(measured[1]) if goal.to else measured[0]


#: The row of load and service alone, where a scenario has it.
CEILING = "direct"

#: A row above this share of it says less of its gateway than of the load.
CEILING_SHARE = 0.8


def limited(rows: Mapping[str, Row]) -> list[tuple[str, float]]:
    """Return the rows whose rate is near what load and service reach by themselves, with their share of it."""
    ceiling = rows[CEILING].spread(RATE) if CEILING in rows else None
    if ceiling is None:
        return []
    rates = {row.title: row.spread(RATE) for name, row in rows.items() if name != CEILING}
    shares = {title: rate.over(ceiling).median for title, rate in rates.items() if rate is not None}
    return [(title, share) for title, share in shares.items() if share > CEILING_SHARE]
