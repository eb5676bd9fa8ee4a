"""Introspection in one worker."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric

from gateway.features.introspection.choice import OpaqueTokens, build_introspectors
from gateway.features.introspection.credential import OpaqueKind
from gateway.features.introspection.introspector import Introspector
from gateway.server.seam.feature import Core, Part
from gateway.telemetry.counters import cumulative
from gateway.telemetry.prometheus import Gauge

_BY_ISSUER = ("issuer",)


class IntrospectionPart(Part):
    """The issuers that introspect tokens, in one worker."""

    def __init__(self, core: Core) -> None:
        self.introspectors = build_introspectors(core.settings, core.clock, core.redis, core.resolver)
        choice = OpaqueTokens(core.settings, self.introspectors, core.routes)
        self.credentials = (OpaqueKind(choice, self.introspectors),)

    async def stop(self) -> None:
        """End every introspection request."""
        for introspector in self.introspectors.values():
            await introspector.stop()

    def status(self) -> Mapping[str, Any]:
        """Return what ``/status`` shows."""
        return {"introspection": {name: one.status() for name, one in self.introspectors.items()}}

    def metrics(self) -> Iterator[Metric]:
        """Return the metrics of one scrape."""
        return _metrics(self.introspectors)


def _metrics(introspectors: Mapping[str, Introspector]) -> Iterator[Metric]:
    """Return the metrics of all issuers that introspect tokens."""
    calls = CounterMetricFamily(
        "gateway_introspections", "Introspection requests that ended.", labels=("issuer", "outcome")
    )
    duration = HistogramMetricFamily(
        "gateway_introspection_duration_seconds",
        "Duration of introspection requests, waiting for a slot included.",
        labels=_BY_ISSUER,
    )
    hits = CounterMetricFamily(
        "gateway_introspection_cache_hits",
        "Opaque tokens answered from the cache.",
        labels=("issuer", "verdict"),
    )
    shared = CounterMetricFamily(
        "gateway_introspection_shared_lookups",
        "Look-ups in the answers that gateways share.",
        labels=("issuer", "outcome"),
    )
    busy = CounterMetricFamily(
        "gateway_introspections_refused",
        "Introspection requests refused for lack of a slot or budget.",
        labels=_BY_ISSUER,
    )
    running = Gauge("gateway_introspections_in_flight", "Introspection requests in progress.", labels=_BY_ISSUER)
    waiting = Gauge("gateway_introspections_waiting", "Introspection requests waiting for a slot.", labels=_BY_ISSUER)
    entries = Gauge("gateway_introspection_cache_entries", "Active opaque tokens in the cache.", labels=_BY_ISSUER)
    for name, asker in introspectors.items():
        for outcome, count in asker.outcomes.items():
            calls.add_metric((name, outcome), count)
        duration.add_metric((name,), buckets=cumulative(asker.duration), sum_value=asker.duration.total)
        hits.add_metric((name, "good"), asker.memory.hits)
        hits.add_metric((name, "bad"), asker.memory.bad_hits)
        if asker.shared is not None:
            for outcome in ("hits", "misses", "failures"):
                shared.add_metric((name, outcome), getattr(asker.shared, outcome))
        busy.add_metric((name,), asker.gate.refusals)
        running.add_metric((name,), asker.in_flight)
        waiting.add_metric((name,), asker.waiting)
        entries.add_metric((name,), len(asker.memory))
    yield from (calls, duration, hits, shared, busy, running, waiting, entries)
