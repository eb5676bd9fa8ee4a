"""Documents about protected resources (RFC 9728).

Only the declaration of the feature lives here; nothing else of its folder is imported by the core.
"""

from __future__ import annotations

from gateway.features.resource_metadata.reasons import REASONS
from gateway.server.seam.feature import Feature


class ResourceMetadataFeature(Feature):
    """Documents about protected resources (RFC 9728)."""

    name = "resource_metadata"
    reasons = REASONS
