"""Metadata documents in one worker."""

from __future__ import annotations

from collections.abc import Mapping

from gateway.features.resource_metadata.documents import Resources
from gateway.features.resource_metadata.options import ResourceTables
from gateway.policy.routes import Route
from gateway.server.seam.feature import Core, Part


class ResourceMetadataPart(Part):
    """The documents of protected resources, and the challenges that lead to them."""

    def __init__(self, core: Core) -> None:
        self.resources = Resources(core.settings, core.routes)
        if ResourceTables.of(core.settings).resources:
            self.endpoints = self.resources

    def challenge_parameters(self, route: Route | None) -> Mapping[str, str]:
        """Return where the document of a route's resource is (RFC 9728 section 5.1)."""
        url = None if route is None else self.resources.metadata.get(route.name)
        return {} if url is None else {"": f'resource_metadata="{url}"'}
