"""Where revoked credentials are read from, and how they are revoked.

Only the declaration of the feature lives here; nothing else of its folder is imported by the core.
"""

from __future__ import annotations

from gateway.server.seam.feature import Feature


class RevocationFeature(Feature):
    """Where revoked credentials are read from, and how they are revoked."""

    name = "revocation"
