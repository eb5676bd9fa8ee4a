"""Introspection in one worker."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from prometheus_client.core import Metric

from gateway.features.introspection.choice import OpaqueTokens, build_introspectors
from gateway.features.introspection.credential import OpaqueKind
from gateway.features.introspection.metrics import introspection_metrics
from gateway.server.seam.feature import Core, Part


class IntrospectionPart(Part):
    """The issuers that are asked about tokens."""

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
        return introspection_metrics(self.introspectors)
