"""The metrics of the link to Redis and of what is revoked.

Only the translation lives here, as in ``metrics.py``.
"""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from gateway.jwt.revocations.revocations import Revocations
from gateway.store.redis_link import RedisLink


def redis_metrics(link: RedisLink | None) -> Iterator[Metric]:
    """Return how the link fares; nothing without one."""
    if link is None:
        return
    yield GaugeMetricFamily("gateway_redis_available", "1 while Redis answers.", 1.0 if link.available else 0.0)
    yield CounterMetricFamily("gateway_redis_commands", "Commands sent to Redis.", link.commands)
    yield CounterMetricFamily("gateway_redis_failures", "Commands that failed or took too long.", link.failures)
    yield CounterMetricFamily(
        "gateway_redis_odd_answers", "Answers and stored values of Redis that make no sense.", link.odd_answers
    )
    yield CounterMetricFamily("gateway_redis_refusals", "Commands not sent because Redis was away.", link.refusals)
    yield CounterMetricFamily("gateway_redis_outages", "Times Redis went away.", link.outages)


def revocation_metrics(revocations: Revocations) -> Iterator[Metric]:
    """Return what is known of revocations; nothing where nothing can be revoked."""
    if not revocations.sources:
        return
    yield GaugeMetricFamily(
        "gateway_revocation_known", "1 while it is known what is revoked.", 0.0 if revocations.unknown else 1.0
    )
    yield CounterMetricFamily(
        "gateway_revocation_passed_unknown",
        'Requests that routes with revocation_failure = "open" let pass while that was not known.',
        revocations.passed_unknown,
    )
    names = ("source",)
    age = GaugeMetricFamily("gateway_revocation_age_seconds", "Time since what is revoked was known.", labels=names)
    failures = CounterMetricFamily("gateway_revocation_failures", "Looks at a source that failed.", labels=names)
    applied = CounterMetricFamily("gateway_revocation_applied", "Entries that were read.", labels=names)
    entries = GaugeMetricFamily("gateway_revocation_entries", "Entries in force.", labels=("source", "kind"))
    for source in revocations.sources:
        labels = (source.name,)
        if source.filled:
            age.add_metric(labels, source.age)
        failures.add_metric(labels, source.failures)
        applied.add_metric(labels, source.applied)
        for kind, count in source.table.counts().items():
            entries.add_metric((source.name, kind), count)
    yield from (age, failures, applied, entries)
