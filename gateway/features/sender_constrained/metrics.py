"""The metrics of bound tokens and of tokens for one request.

Only the translation lives here; see ``metrics.py``.
"""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from gateway.features.sender_constrained.proof import Proofs
from gateway.features.single_use.guard import SingleUse


def sender_metrics(proofs: Proofs, single_use: SingleUse) -> Iterator[Metric]:
    """Return the metrics of one scrape."""
    outcomes = CounterMetricFamily(
        "gateway_proofs",
        "Bound tokens whose sender was asked for a proof, by kind of proof and outcome.",
        labels=("kind", "outcome"),
    )
    for labels, count in proofs.outcomes.items():
        outcomes.add_metric(labels, count)
    entries = GaugeMetricFamily(
        "gateway_replay_entries", "Proofs and tokens that this process remembers as used.", labels=("kind",)
    )
    replays = CounterMetricFamily(
        "gateway_replays", "Proofs and tokens for one request that came again.", labels=("kind",)
    )
    undecided = CounterMetricFamily(
        "gateway_replay_store_failures",
        "Proofs and tokens for which it could not be determined whether they were used.",
        labels=("kind",),
    )
    for kind, used in (("proof", proofs.used), ("token", single_use.used)):
        entries.add_metric((kind,), used.entries)
        replays.add_metric((kind,), used.replays)
        undecided.add_metric((kind,), used.undecided)
    passed = CounterMetricFamily(
        "gateway_single_use_passed_undecided",
        'Tokens that routes with single_use_failure = "open" let pass although they may have been used.',
        single_use.used.passed,
    )
    yield from (outcomes, entries, replays, undecided, passed)
