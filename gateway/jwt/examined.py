"""A token on its way through the checks: examined, and not yet believed.

Only the declaration lives here.
"""

from __future__ import annotations

from typing import NamedTuple

from gateway.jwt.claims.issuer_policy import IssuerPolicy, Unverified
from gateway.jwt.issuers.refresher import IssuerKeys


class Examined(NamedTuple):
    """A token of which everything is right but perhaps its signature.

    Attributes:
        digest: its SHA-256.
    """

    digest: bytes
    unverified: Unverified
    policy: IssuerPolicy
    issuer: IssuerKeys
