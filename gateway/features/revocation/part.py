"""Revocation in one worker."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, Metric

from gateway.features.revocation.sources import build_sources
from gateway.jwt.revocations.revocations import Revocations
from gateway.server.seam.feature import Core, Part
from gateway.telemetry.prometheus import Gauge


class RevocationPart(Part):
    """The sources of revocations, in one worker; the core asks them, starts and stops them."""

    def __init__(self, core: Core) -> None:
        for source in build_sources(core.settings, core.clock, core.redis):
            core.revocations.add_source(source)
        self._revocations = core.revocations

    def metrics(self) -> Iterator[Metric]:
        """Return the metrics of one scrape."""
        return _metrics(self._revocations)


def _metrics(revocations: Revocations) -> Iterator[Metric]:
    """Return the metrics of revocations; none where nothing can be revoked."""
    if not revocations.sources:
        return
    known = 0.0 if revocations.unknown else 1.0
    yield Gauge("gateway_revocation_known", "1 while the revocation list is current.", known, merge="min")
    yield CounterMetricFamily(
        "gateway_revocation_passed_unknown",
        'Requests that routes with revocation_failure = "open" let pass while the revocation list was unavailable.',
        revocations.passed_unknown,
    )
    names = ("source",)
    age = Gauge("gateway_revocation_age_seconds", "Age of the revocation list.", labels=names, merge="max")
    failures = CounterMetricFamily("gateway_revocation_failures", "Failed reads of a revocation source.", labels=names)
    applied = CounterMetricFamily("gateway_revocation_applied", "Entries that were read.", labels=names)
    entries = Gauge("gateway_revocation_entries", "Entries in force.", labels=("source", "kind"), merge="max")
    for source in revocations.sources:
        labels = (source.name,)
        if source.filled:
            age.add_metric(labels, source.age)
        failures.add_metric(labels, source.failures)
        applied.add_metric(labels, source.applied)
        for kind, count in source.table.counts().items():
            entries.add_metric((source.name, kind), count)
    yield from (age, failures, applied, entries)
