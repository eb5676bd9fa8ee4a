"""Tokens that their issuer is asked about, as a kind of credential.

Only the translation lives here; which issuer is asked is ``choice.py``'s.
"""

from __future__ import annotations

from collections.abc import Mapping

from gateway.errors import Reasons
from gateway.features.introspection.choice import OpaqueTokens
from gateway.features.introspection.introspector import Introspector
from gateway.policy.routes import Route
from gateway.server.seam.credential import Shown, Verifier


class OpaqueKind:
    """Introspected tokens, under one configuration.

    Args:
        choice: which issuer is asked about a token.
        introspectors: those that are asked, by the issuer's name.
    """

    name = "opaque"
    title = "a bearer token"
    challenge = ""
    malformed = Reasons.MALFORMED_AUTHORIZATION
    is_remote = True
    knows_revocations = False
    every_token = None
    recall = None

    def __init__(self, choice: OpaqueTokens, introspectors: Mapping[str, Introspector]) -> None:
        self._choice = choice
        self._introspectors = introspectors

    @property
    def lookups(self) -> int:
        """How many tokens were looked up."""
        return sum(introspector.lookups for introspector in self._introspectors.values())

    def field(self, route: Route) -> bytes:
        """Return nothing: they are bearer tokens."""
        return b""

    def verifier(self, shown: Shown, route: Route) -> Verifier | None:
        """Return the issuer that is asked; None when none is."""
        return self._choice.asker(route, shown.value)

    def owns(self, value: bytes) -> bool:
        """Return False: such a token is its issuer's."""
        return False

    def overrides(self, route: Route) -> bool:
        """Return whether issuers want to be asked about their JWTs on a route, too."""
        return self._choice.asks_about_jwts(route)
