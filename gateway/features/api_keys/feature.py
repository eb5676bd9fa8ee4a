"""API keys as credentials.

Only the declaration of the feature lives here: what runs is imported when it is built.
"""

from __future__ import annotations

from gateway.features.api_keys.reasons import REASONS
from gateway.server.seam.feature import Core, Feature, Part


class ApiKeysFeature(Feature):
    """API keys as credentials."""

    name = "api_keys"
    reasons = REASONS

    def build(self, core: Core) -> Part | None:
        """Make the feature's part of one worker."""
        from gateway.features.api_keys.part import ApiKeysPart  # noqa: PLC0415

        return ApiKeysPart(core)
