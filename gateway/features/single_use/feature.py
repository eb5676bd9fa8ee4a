"""Tokens for one request each.

Only the declaration of the feature lives here: what runs is imported when it is built.
"""

from __future__ import annotations

from gateway.features.single_use.reasons import REASONS
from gateway.server.seam.feature import Core, Feature, Part


class SingleUseFeature(Feature):
    """Tokens for one request each."""

    name = "single_use"
    reasons = REASONS

    def build(self, core: Core) -> Part | None:
        """Make the feature's part of one worker."""
        from gateway.features.single_use.part import SingleUsePart  # noqa: PLC0415

        return SingleUsePart(core)
