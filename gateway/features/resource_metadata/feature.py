"""Documents about protected resources (RFC 9728).

Only the declaration of the feature lives here: what runs is imported when it is built.
"""

from __future__ import annotations

from gateway.features.resource_metadata.reasons import REASONS
from gateway.server.seam.feature import Core, Feature, Part


class ResourceMetadataFeature(Feature):
    """Documents about protected resources (RFC 9728)."""

    name = "resource_metadata"
    reasons = REASONS

    def build(self, core: Core) -> Part | None:
        """Make the feature's part of one worker."""
        from gateway.features.resource_metadata.part import ResourceMetadataPart  # noqa: PLC0415

        return ResourceMetadataPart(core)
