"""The counters of several workers as one page.

Merges the metrics of workers: what is counted is added up, and what is a state
is added, or the worst of the workers is shown. The danger is a counter that
goes down, which Prometheus takes for a restart of everything: what a worker had
counted when it ended stays in the sum.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from prometheus_client.core import Metric

from gateway.telemetry.prometheus import MERGES, Gauge, Merge, merge_rule

#: Metric families as they go over a channel.
Wire = list[dict[str, Any]]


def to_wire(families: Iterable[Metric]) -> Wire:
    """Return metric families as plain values."""
    return [
        {
            "name": family.name,
            "type": family.type,
            "help": family.documentation,
            "merge": merge_rule(family),
            "samples": [[sample.name, sample.labels, sample.value] for sample in family.samples],
        }
        for family in families
    ]


class _Family(NamedTuple):
    """A family that is being merged, its samples by name and labels."""

    kind: str
    text: str
    merge: Merge
    samples: dict[tuple[str, tuple[tuple[str, str], ...]], float]


class Merged:
    """Metric families of several workers, merged sample by sample."""

    def __init__(self) -> None:
        self._families: dict[str, _Family] = {}

    def add(self, wire: Wire, *, gauges: bool = True) -> None:
        """Add one worker's families.

        Args:
            gauges: False for a worker whose state is unknown or gone: only what it has counted is added.
        """
        for family in wire:
            is_gauge = family["type"] == "gauge"
            if is_gauge and not gauges:
                continue
            made = _Family(family["type"], family["help"], family["merge"], {})
            merge, samples = MERGES[family["merge"]], self._families.setdefault(family["name"], made).samples
            for name, labels, value in family["samples"]:
                key = (name, tuple(labels.items()))
                samples[key] = merge(samples[key], value) if key in samples else value

    def to_wire(self) -> Wire:
        """Return the sums as plain values, to be added to others."""
        return to_wire(self.families())

    def families(self) -> Iterator[Metric]:
        """Return the sums as metric families."""
        for name, (kind, text, merge, samples) in self._families.items():
            family = Gauge(name, text, labels=(), merge=merge) if kind == "gauge" else Metric(name, text, kind)
            for (sample, labels), value in samples.items():
                family.add_sample(sample, dict(labels), value)
            yield family
