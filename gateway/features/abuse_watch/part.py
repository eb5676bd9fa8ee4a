"""Abuse detection in one worker."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from prometheus_client.core import Metric

from gateway.features.abuse_watch.options import WatchTables
from gateway.features.abuse_watch.watch import AbuseWatch
from gateway.server.seam.feature import Core, Part
from gateway.telemetry.prometheus import Gauge, counter


class AbuseWatchPart(Part):
    """What looks like abuse, in one worker."""

    def __init__(self, core: Core) -> None:
        self.observer = self.watch = AbuseWatch(WatchTables.of(core.settings).watch, core.clock)
        self.guards = (self.watch,)

    def status(self) -> Mapping[str, Any]:
        """Return what ``/status`` shows."""
        return {"watch": self.watch.status()}

    def metrics(self) -> Iterator[Metric]:
        """Return the metrics of one scrape."""
        text = "Abuse flags, by the option that raised them."
        yield counter("gateway_abuse_flags", text, "kind", self.watch.flags)
        text = "Addresses, tokens and subjects that are refused now."
        refused = Gauge("gateway_abuse_refused", text, labels=("what",))
        for what, count in self.watch.status()["refused"].items():
            refused.add_metric((what,), count)
        yield refused
