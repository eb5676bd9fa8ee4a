"""API keys in one worker."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from prometheus_client.core import CounterMetricFamily, Metric

from gateway.features.api_keys.credential import ApiKeyKind
from gateway.features.api_keys.keys import ApiKeys
from gateway.server.seam.feature import Core, Part
from gateway.telemetry.prometheus import Gauge


class ApiKeysPart(Part):
    """The keys in force, kept up with their file."""

    def __init__(self, core: Core) -> None:
        self.keys = ApiKeys(core.settings, core.clock)
        self.credentials = (ApiKeyKind(self.keys),)

    async def start(self) -> None:
        """Keep up with the file."""
        self.keys.start()

    async def stop(self) -> None:
        """Stop keeping up."""
        await self.keys.stop()

    def status(self) -> Mapping[str, Any]:
        """Return what ``/status`` shows."""
        return {"api_keys": self.keys.status()}

    def metrics(self) -> Iterator[Metric]:
        """Return the metrics of one scrape."""
        yield Gauge("gateway_api_keys", "API keys in force.", len(self.keys), merge="min")
        yield CounterMetricFamily(
            "gateway_api_key_reload_failures",
            "Versions of the API key file that could not be used.",
            self.keys.reload_failures,
        )
