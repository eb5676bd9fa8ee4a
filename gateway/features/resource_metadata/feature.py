"""Documents about protected resources (RFC 9728).

Declares the feature; what runs is imported when the feature is built.
"""

from __future__ import annotations

from collections.abc import Iterator

from gateway.features.resource_metadata.checks import resource_problems, resource_warnings
from gateway.features.resource_metadata.options import ResourceRouteOptions, ResourceTables
from gateway.features.resource_metadata.reasons import REASONS
from gateway.server.seam.feature import Core, Feature, Part
from gateway.settings.problems import Problem, Sound
from gateway.settings.tables.root import Settings


class ResourceMetadataFeature(Feature):
    """Documents about protected resources (RFC 9728)."""

    name = "resource_metadata"
    reasons = REASONS
    tables = ResourceTables
    options = {"routes": ResourceRouteOptions}
    express = frozenset({"resource"})  # it only changes what challenges say

    def check(self, settings: Settings, sound: Sound) -> Iterator[Problem]:
        return resource_problems(settings, sound)

    def warnings(self, settings: Settings) -> Iterator[Problem]:
        return resource_warnings(settings)

    def build(self, core: Core) -> Part | None:
        """Make the feature's part of one worker."""
        from gateway.features.resource_metadata.part import ResourceMetadataPart  # noqa: PLC0415 - only a worker needs it

        return ResourceMetadataPart(core)
