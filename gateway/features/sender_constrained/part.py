"""Bound tokens in one worker."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from prometheus_client.core import CounterMetricFamily, Metric

from gateway.features.sender_constrained.proof import MIN_WINDOW_SECONDS, PROOF_PURPOSE, make_proofs
from gateway.policy.routes import Route
from gateway.server.seam.feature import Core, Part


class SenderConstrainedPart(Part):
    """The proofs that senders of bound tokens give, in one worker."""

    def __init__(self, core: Core) -> None:
        used = core.used_ids(PROOF_PURPOSE, max(core.settings.dpop.max_age_seconds, MIN_WINDOW_SECONDS))
        self.proofs = make_proofs(core.settings, core.clock, used, core.secret)
        self.guards = (self.proofs,)
        self._algorithms = " ".join(core.settings.dpop.algorithms)

    def challenge_parameters(self, route: Route | None) -> Mapping[str, str]:
        """Return what proofs may be signed with (RFC 9449 section 7.1)."""
        return {"DPoP": f'algs="{self._algorithms}"'}

    def metrics(self) -> Iterator[Metric]:
        """Return the metrics of one scrape."""
        outcomes = CounterMetricFamily(
            "gateway_proofs",
            "Bound tokens whose sender was asked for a proof, by kind of proof and outcome.",
            labels=("kind", "outcome"),
        )
        for labels, count in self.proofs.outcomes.items():
            outcomes.add_metric(labels, count)
        yield outcomes
