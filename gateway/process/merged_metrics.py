"""The counters of several workers as one page.

Only the arithmetic lives here: what is counted is added up, and what is a
state is added, or the worst of the workers is shown. The danger is a counter
that goes down, which Prometheus takes for a restart of everything: what a
worker had counted when it ended stays in the sum.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from prometheus_client.core import Metric

#: Metric families as they go over a channel.
Wire = list[dict[str, Any]]

#: How the gauges of two workers become one.
GAUGES: dict[str, Callable[[float, float], float]] = {
    "gateway_open_connections": operator.add,
    "gateway_lingering_connections": operator.add,
    "gateway_open_tunnels": operator.add,
    "gateway_running_requests": operator.add,
    "gateway_deferred_requests": operator.add,
    "gateway_loop_lag_seconds": max,
    "gateway_token_cache_entries": operator.add,
    "gateway_token_cache_bytes": operator.add,
    "gateway_api_keys": min,
    "gateway_rate_limit_callers": operator.add,
    "gateway_abuse_refused": operator.add,
    "gateway_redis_available": min,
    "gateway_revocation_known": min,
    "gateway_revocation_age_seconds": max,
    "gateway_revocation_entries": max,
    "gateway_tenants": max,
    "gateway_introspections_in_flight": operator.add,
    "gateway_introspections_waiting": operator.add,
    "gateway_introspection_cache_entries": operator.add,
    "gateway_replay_entries": operator.add,
    "gateway_jwks_usable": min,
    "gateway_jwks_age_seconds": max,
    "gateway_jwks_keys": min,
    "gateway_jwks_rejected_keys": max,
    "gateway_upstream_connections_in_use": operator.add,
    "gateway_upstream_connections_idle": operator.add,
    "gateway_upstream_waiting": operator.add,
    "gateway_upstream_healthy": min,
}


def to_wire(families: Iterable[Metric]) -> Wire:
    """Return metric families as plain values."""
    return [
        {
            "name": family.name,
            "type": family.type,
            "help": family.documentation,
            "samples": [[sample.name, sample.labels, sample.value] for sample in family.samples],
        }
        for family in families
    ]


class Merged:
    """Metric families of several workers, merged sample by sample."""

    def __init__(self) -> None:
        self._families: dict[str, tuple[str, str, dict[tuple[str, tuple[tuple[str, str], ...]], float]]] = {}

    def add(self, wire: Wire, *, gauges: bool = True) -> None:
        """Add one worker's families.

        Args:
            gauges: False for a worker whose state is unknown or gone: only what it has counted is added.
        """
        for family in wire:
            is_gauge = family["type"] == "gauge"
            if is_gauge and not gauges:
                continue
            merge = GAUGES.get(family["name"], operator.add) if is_gauge else operator.add
            _, _, samples = self._families.setdefault(family["name"], (family["type"], family["help"], {}))
            for name, labels, value in family["samples"]:
                key = (name, tuple(labels.items()))
                samples[key] = merge(samples[key], value) if key in samples else value

    def to_wire(self) -> Wire:
        """Return the sums as plain values, to be added to others."""
        return to_wire(self.families())

    def families(self) -> Iterator[Metric]:
        """Return the sums as metric families."""
        for name, (kind, text, samples) in self._families.items():
            family = Metric(name, text, kind)
            for (sample, labels), value in samples.items():
                family.add_sample(sample, dict(labels), value)
            yield family
