"""The metrics of what is revoked.

Only the translation lives here.
"""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, Metric

from gateway.jwt.revocations.revocations import Revocations
from gateway.telemetry.prometheus import Gauge


def revocation_metrics(revocations: Revocations) -> Iterator[Metric]:
    """Return what is known of revocations; nothing where nothing can be revoked."""
    if not revocations.sources:
        return
    known = 0.0 if revocations.unknown else 1.0
    yield Gauge("gateway_revocation_known", "1 while it is known what is revoked.", known, merge="min")
    yield CounterMetricFamily(
        "gateway_revocation_passed_unknown",
        'Requests that routes with revocation_failure = "open" let pass while that was not known.',
        revocations.passed_unknown,
    )
    names = ("source",)
    age = Gauge("gateway_revocation_age_seconds", "Time since what is revoked was known.", labels=names, merge="max")
    failures = CounterMetricFamily("gateway_revocation_failures", "Looks at a source that failed.", labels=names)
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
