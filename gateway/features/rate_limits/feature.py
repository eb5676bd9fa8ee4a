"""How many requests each caller may send.

Only the declaration of the feature lives here: what runs is imported when it is built.
"""

from __future__ import annotations

from gateway.features.rate_limits.reasons import REASONS
from gateway.server.seam.feature import Core, Feature, Part


class RateLimitsFeature(Feature):
    """How many requests each caller may send."""

    name = "rate_limits"
    reasons = REASONS

    def build(self, core: Core) -> Part | None:
        """Make the feature's part of one worker."""
        from gateway.features.rate_limits.part import RateLimitsPart  # noqa: PLC0415

        return RateLimitsPart(core)
