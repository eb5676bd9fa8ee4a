"""Rate limits in one worker."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from prometheus_client.core import CounterMetricFamily, Metric

from gateway.features.rate_limits.guard import RateLimitGuard
from gateway.server.seam.feature import Core, Part
from gateway.telemetry.prometheus import Gauge


class RateLimitsPart(Part):
    """The counting of requests, in one worker."""

    def __init__(self, core: Core) -> None:
        self.guard = RateLimitGuard(core.settings, core.clock, core.redis)
        self.guards = (self.guard,)

    def status(self) -> Mapping[str, Any]:
        """Return what ``/status`` shows."""
        return {"rate_limits": self.guard.status()}

    def metrics(self) -> Iterator[Metric]:
        """Return the metrics of one scrape."""
        guard = self.guard
        requests = CounterMetricFamily(
            "gateway_rate_limit_requests",
            "Requests checked against a rate limit, by route, limit, and whether it let them through.",
            labels=("route", "limit", "verdict"),
        )
        for labels, count in guard.counts.items():
            requests.add_metric(labels, count)
        yield requests
        yield CounterMetricFamily(
            "gateway_rate_limit_fallbacks",
            "Requests decided by a worker's own buckets because Redis was unavailable.",
            guard.fallbacks,
        )
        yield Gauge(
            "gateway_rate_limit_callers", "Callers whose requests are counted now.", sum(map(len, guard.buckets))
        )
        yield CounterMetricFamily(
            "gateway_rate_limit_forgotten",
            "Callers forgotten too early, because there were more than limits.max_callers.",
            sum(buckets.forgotten for buckets in guard.buckets),
        )
