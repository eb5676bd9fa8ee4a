"""Tokens that their issuer is asked about (RFC 7662).

Only the declaration of the feature lives here; nothing else of its folder is imported by the core.
"""

from __future__ import annotations

from gateway.features.introspection.reasons import REASONS
from gateway.server.seam.feature import Feature


class IntrospectionFeature(Feature):
    """Tokens that their issuer is asked about (RFC 7662)."""

    name = "introspection"
    reasons = REASONS
