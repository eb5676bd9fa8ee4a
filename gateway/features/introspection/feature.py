"""Tokens that their issuer is asked about (RFC 7662).

Only the declaration of the feature lives here: what runs is imported when it is built.
"""

from __future__ import annotations

from gateway.features.introspection.reasons import REASONS
from gateway.server.seam.feature import Core, Feature, Part


class IntrospectionFeature(Feature):
    """Tokens that their issuer is asked about (RFC 7662)."""

    name = "introspection"
    reasons = REASONS

    def build(self, core: Core) -> Part | None:
        """Make the feature's part of one worker."""
        from gateway.features.introspection.part import IntrospectionPart  # noqa: PLC0415

        return IntrospectionPart(core)
