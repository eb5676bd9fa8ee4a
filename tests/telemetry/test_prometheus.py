"""Metrics that say how those of several workers become one."""

from __future__ import annotations

import pytest
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily

from gateway.telemetry.prometheus import MERGES, Gauge, Merge, counter, merge_rule


@pytest.mark.parametrize(("rule", "value"), [("sum", 7.0), ("min", 2.0), ("max", 5.0)])
def test_each_rule_makes_one_of_two(rule: Merge, value: float) -> None:
    assert MERGES[rule](2.0, 5.0) == MERGES[rule](5.0, 2.0) == value
    assert merge_rule(Gauge("a", "A.", 1.0, merge=rule)) == rule


def test_what_is_counted_is_always_added_up() -> None:
    for family in (CounterMetricFamily("a", "A."), HistogramMetricFamily("a", "A."), counter("a", "A.", "b", {})):
        assert merge_rule(family) == "sum"
    assert merge_rule(Gauge("a", "A.")) == "sum"


def test_a_gauge_has_one_value_or_one_for_each_set_of_labels() -> None:
    assert [(sample.name, sample.labels, sample.value) for sample in Gauge("a", "A.", 0.0).samples] == [("a", {}, 0.0)]
    labelled = Gauge("a", "A.", labels=("one", "two"), merge="max")
    assert labelled.samples == []
    labelled.add_metric(("x", "y"), 3)
    assert [(sample.labels, sample.value) for sample in labelled.samples] == [({"one": "x", "two": "y"}, 3)]
    assert (labelled.type, labelled.documentation) == ("gauge", "A.")


def test_a_counter_has_one_label() -> None:
    family = counter("a", "A.", "kind", {"x": 1, "y": 2})
    found = [(sample.name, sample.labels, sample.value) for sample in family.samples]
    assert found == [("a_total", {"kind": "x"}, 1), ("a_total", {"kind": "y"}, 2)]
