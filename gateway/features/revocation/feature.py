"""Where revoked credentials are read from, and how they are revoked.

Only the declaration of the feature lives here: what runs is imported when it is built.
"""

from __future__ import annotations

from collections.abc import Sequence

from aiohttp import web

from gateway.clock import Clock
from gateway.server.seam.feature import Core, Feature, Part
from gateway.settings.tables.root import Settings


class RevocationFeature(Feature):
    """Where revoked credentials are read from, and how they are revoked."""

    name = "revocation"

    def build(self, core: Core) -> Part | None:
        """Make the feature's part of one worker."""
        from gateway.features.revocation.part import RevocationPart  # noqa: PLC0415

        return RevocationPart(core)

    def pages(self, settings: Settings, clock: Clock) -> Sequence[web.RouteDef]:
        """Return the call that revokes, where a secret for it is configured."""
        from gateway.features.revocation.admin_call import revoke_call  # noqa: PLC0415

        return revoke_call(settings, clock)
