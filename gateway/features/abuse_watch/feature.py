"""Finds what looks like abuse, and refuses it for a while.

Only the declaration of the feature lives here; nothing else of its folder is imported by the core.
"""

from __future__ import annotations

from gateway.features.abuse_watch.reasons import REASONS
from gateway.server.seam.feature import Feature


class AbuseWatchFeature(Feature):
    """Finds what looks like abuse, and refuses it for a while."""

    name = "abuse_watch"
    reasons = REASONS
