"""Gauges that say how those of several workers become one.

This file has the metric family and its rules for merging: a counter is always
summed, and a gauge is a state, so its declaration says what the state of all
workers together is.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping
from typing import Literal

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

Merge = Literal["sum", "min", "max"]

#: What each rule does with the values of two workers.
MERGES: Mapping[str, Callable[[float, float], float]] = {"sum": operator.add, "min": min, "max": max}


class Gauge(GaugeMetricFamily):
    """A gauge of one worker.

    Args:
        name, text: of the metric.
        value: the one value of a gauge without labels.
        labels: the names of labels, for values that are added.
        merge: how the values of several workers become one.
    """

    def __init__(
        self, name: str, text: str, value: float | None = None, *, labels: Iterable[str] = (), merge: Merge = "sum"
    ) -> None:
        super().__init__(name, text, value, labels=None if value is not None else tuple(labels))
        self.merge = merge


def merge_rule(family: Metric) -> Merge:
    """Return how the values of a family are merged: a gauge's own rule, and the sum for everything that is counted."""
    return family.merge if isinstance(family, Gauge) else "sum"


def counter(name: str, text: str, label: str, counts: Mapping[str, float]) -> Metric:
    """Return a counter with one label."""
    family = CounterMetricFamily(name, text, labels=(label,))
    for value, count in counts.items():
        family.add_metric((value,), count)
    return family
