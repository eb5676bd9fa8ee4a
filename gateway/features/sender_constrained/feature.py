"""Tokens bound to a key (RFC 9449) or to a client certificate (RFC 8705).

Only the declaration of the feature lives here: what runs is imported when it is built.
"""

from __future__ import annotations

from gateway.features.sender_constrained.reasons import REASONS
from gateway.server.seam.feature import Core, Feature, Part


class SenderConstrainedFeature(Feature):
    """Tokens bound to a key (RFC 9449) or to a client certificate (RFC 8705)."""

    name = "sender_constrained"
    reasons = REASONS

    def build(self, core: Core) -> Part | None:
        """Make the feature's part of one worker."""
        from gateway.features.sender_constrained.part import SenderConstrainedPart  # noqa: PLC0415

        return SenderConstrainedPart(core)
