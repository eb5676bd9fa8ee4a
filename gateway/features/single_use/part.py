"""Tokens for one request in one worker."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, Metric

from gateway.features.single_use.guard import ONE_TIME_PURPOSE, SingleUse
from gateway.server.seam.feature import Core, Part


class SingleUsePart(Part):
    """Tokens that were used, in one worker."""

    def __init__(self, core: Core) -> None:
        used = core.used_ids(ONE_TIME_PURPOSE)
        self.single_use = SingleUse(core.settings, used, core.clock)
        self.guards = (self.single_use,)

    def metrics(self) -> Iterator[Metric]:
        """Return the metrics of one scrape."""
        yield CounterMetricFamily(
            "gateway_single_use_passed_undecided",
            'Tokens that routes with single_use_failure = "open" let pass although they may have been used.',
            self.single_use.used.passed,
        )
