"""Introspected tokens as a kind of credential.

Adapts introspection to the interface of credentials; which issuer is asked is ``choice.py``'s.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from gateway.errors import Reasons
from gateway.features.introspection.choice import OpaqueTokens
from gateway.features.introspection.introspector import Introspector
from gateway.policy.routes import Route
from gateway.server.seam.credential import Shown, Verifier


class OpaqueKind:
    """Introspected tokens, under one configuration.

    Args:
        choice: decides which issuer introspects a token.
        introspectors: by the issuer's name.
    """

    name = "opaque"
    title = "a bearer token"
    challenge = ""
    malformed = Reasons.MALFORMED_AUTHORIZATION
    is_remote = True
    knows_revocations = False

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
        """Return what introspects the token; None when no issuer does."""
        return self._choice.asker(route, shown.value)

    def owns(self, value: bytes) -> bool:
        """Return False: only the issuer knows its opaque tokens."""
        return False

    def overrides(self, route: Route) -> bool:
        """Return whether some JWTs are introspected on a route, too."""
        return self._choice.asks_about_jwts(route)

    def sheds(self, route: Route) -> Callable[[bytes], bool] | None:
        """Return a function that says whether a token is refused for lack of a slot or budget."""
        return self._choice.sheds(route)
