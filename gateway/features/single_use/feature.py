"""Tokens for one request each.

Only the declaration of the feature lives here; nothing else of its folder is imported by the core.
"""

from __future__ import annotations

from gateway.features.single_use.reasons import REASONS
from gateway.server.seam.feature import Feature


class SingleUseFeature(Feature):
    """Tokens for one request each."""

    name = "single_use"
    reasons = REASONS
