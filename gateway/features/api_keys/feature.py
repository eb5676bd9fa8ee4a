"""API keys as credentials.

Only the declaration of the feature lives here; nothing else of its folder is imported by the core.
"""

from __future__ import annotations

from gateway.features.api_keys.reasons import REASONS
from gateway.server.seam.feature import Feature


class ApiKeysFeature(Feature):
    """API keys as credentials."""

    name = "api_keys"
    reasons = REASONS
