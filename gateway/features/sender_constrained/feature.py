"""Tokens bound to a key (RFC 9449) or to a client certificate (RFC 8705).

Only the declaration of the feature lives here; nothing else of its folder is imported by the core.
"""

from __future__ import annotations

from gateway.features.sender_constrained.reasons import REASONS
from gateway.server.seam.feature import Feature


class SenderConstrainedFeature(Feature):
    """Tokens bound to a key (RFC 9449) or to a client certificate (RFC 8705)."""

    name = "sender_constrained"
    reasons = REASONS
