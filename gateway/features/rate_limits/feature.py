"""How many requests each caller may send.

Only the declaration of the feature lives here; nothing else of its folder is imported by the core.
"""

from __future__ import annotations

from gateway.features.rate_limits.reasons import REASONS
from gateway.server.seam.feature import Feature


class RateLimitsFeature(Feature):
    """How many requests each caller may send."""

    name = "rate_limits"
    reasons = REASONS
