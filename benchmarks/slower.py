"""Against whom this gateway loses: computed from results, for the opening of docs/benchmarks.md.

Compared are rows of one scenario that were measured under the same conditions, this gateway's
with those of gateways that do the same work. Limits (no authentication, no gateway) are not among them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks.model import ANSWERED, BESIDE, BYTES, LAG, OFFERED, P50, RATE, Metric, Row, Scenario
from benchmarks.peers import PEERS
from benchmarks.peers.base import Work
from benchmarks.results import Result
from benchmarks.scenarios import SCENARIOS
from benchmarks.spread import Spread

#: What says how a row was measured, or says the same as the scenario's first metric.
_ASIDE = {metric.key for metric in (ANSWERED, BESIDE, LAG, OFFERED, P50)}

#: What rounds to the same for a reader is not slower.
EVEN = 0.005


@dataclass(frozen=True)
class Slower:
    """One comparison that this gateway loses.

    Attributes:
        own: the row of this gateway, by its name.
        title: of the other row.
        ours, theirs: medians.
        ratio: this gateway's numbers over the other's, within each round.
        is_current: both were measured as the scenario is declared now.
    """

    scenario: str
    own: str
    title: str
    metric: Metric
    ours: float
    theirs: float
    ratio: Spread
    is_current: bool

    @property
    def loss(self) -> float:
        """How many times better the other is."""
        return 1 / self.ratio.median if self.metric.more_is_better else self.ratio.median


def comparable(scenario: Scenario, name: str, row: Row) -> bool:
    """Tell whether a row was measured as its scenario is declared now."""
    contender = scenario.rows.get(name)
    return contender is not None and row.described == contender.described()


def slower(results: Mapping[str, Result]) -> list[Slower]:
    """Return each comparison that this gateway loses, the worst first."""
    found = [
        each
        for scenario in SCENARIOS
        if scenario.name in results
        for each in _of(scenario, results[scenario.name].rows)
        if each.loss > 1 + EVEN
    ]
    return sorted(found, key=lambda each: -each.loss)


def _of(scenario: Scenario, rows: Mapping[str, Row]) -> Iterator[Slower]:
    metrics = [metric for metric in scenario.metrics if metric.key not in _ASIDE]
    if BYTES in metrics:
        metrics.remove(RATE)
    for name, other in _pairs(scenario):
        for metric in metrics:
            ours, theirs = (rows[each].spread(metric) if each in rows else None for each in (name, other))
            if ours is None or theirs is None:
                continue
            current = all(comparable(scenario, each, rows[each]) for each in (name, other))
            yield Slower(
                scenario.name,
                name,
                rows[other].title,
                metric,
                ours.median,
                theirs.median,
                ours.over(theirs),
                current,
            )


def _pairs(scenario: Scenario) -> Iterator[tuple[str, str]]:
    """Yield rows of this gateway as its users run it, each with every row of another one under the same conditions."""
    for name, own in scenario.rows.items():
        for other, contender in scenario.rows.items():
            same = _conditions(scenario, name) == _conditions(scenario, other)
            if own.peer == "gateway" and _is_other(contender.peer) and same:
                yield name, other


def _is_other(peer: str) -> bool:
    return not peer.startswith("gateway") and PEERS[peer].work is Work.ALL


def _conditions(scenario: Scenario, name: str) -> dict[str, Any]:
    described = scenario.rows[name].described()
    return {key: value for key, value in described.items() if key != "peer"}
