"""Revocation in one worker."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import Metric

from gateway.features.revocation.metrics import revocation_metrics
from gateway.features.revocation.sources import build_sources
from gateway.server.seam.feature import Core, Part


class RevocationPart(Part):
    """The sources of revocations, in one worker; the core asks them, starts and stops them."""

    def __init__(self, core: Core) -> None:
        for source in build_sources(core.settings, core.clock, core.redis):
            core.revocations.add_source(source)
        self._revocations = core.revocations

    def metrics(self) -> Iterator[Metric]:
        """Return the metrics of one scrape."""
        return revocation_metrics(self._revocations)
