"""Finds what looks like abuse, and refuses it for a while.

Only the declaration of the feature lives here: what runs is imported when it is built.
"""

from __future__ import annotations

from gateway.features.abuse_watch.reasons import REASONS
from gateway.server.seam.feature import Core, Feature, Part


class AbuseWatchFeature(Feature):
    """Finds what looks like abuse, and refuses it for a while."""

    name = "abuse_watch"
    reasons = REASONS

    def build(self, core: Core) -> Part | None:
        """Make the feature's part of one worker."""
        from gateway.features.abuse_watch.part import AbuseWatchPart  # noqa: PLC0415

        return AbuseWatchPart(core)
