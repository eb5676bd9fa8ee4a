"""JWTs as a kind of credential: the core's own, and every other bearer token's last resort.

Translates between the two; what a JWT is worth is ``jwt/authenticator.py``'s.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from gateway.clock import Clock
from gateway.errors import Reason, Reasons
from gateway.identity import Identity
from gateway.jwt.authenticator import Authenticator
from gateway.jwt.cache import CachedToken
from gateway.policy.routes import Route
from gateway.server.seam.credential import Shown, Verifier
from gateway.telemetry.counters import Record


class JwtKind:
    """Tokens that are verified by their issuer's keys.

    Args:
        authenticator: verifies them.
        clock: how long that takes.
    """

    name = "jwt"
    title = "a bearer token"
    challenge = ""
    malformed = Reasons.MALFORMED_AUTHORIZATION
    is_remote = False
    knows_revocations = True

    def __init__(self, authenticator: Authenticator, clock: Clock) -> None:
        self._authenticator = authenticator
        self._monotonic = clock.monotonic

    @property
    def lookups(self) -> int:
        """How many tokens were looked up in the cache."""
        cache = self._authenticator.cache
        return cache.hits + cache.misses

    def field(self, route: Route) -> bytes:
        """Return nothing: they are bearer tokens."""
        return b""

    def verifier(self, shown: Shown, route: Route) -> Verifier:
        """Judge every token that no other kind takes: one that is not a JWT is refused as such."""
        return self

    def owns(self, value: bytes) -> bool:
        """Return False: a JWT that is introspected goes to the issuer that it names."""
        return False

    def lookup(self, shown: Shown, record: Record) -> Identity | None:
        """Return the identity that a token proves, from the cache or by a key that is known already.

        Raises:
            GatewayError: 401 or 503.
        """
        identity = self._authenticator.cached(shown.value)
        record.cache_hit = identity is not None
        if identity is None:
            began = self._monotonic()
            try:
                identity = self._authenticator.verify_now(shown.value)
            finally:
                record.verify_seconds = self._monotonic() - began
        return identity

    async def resolve(self, shown: Shown) -> Identity:
        """Return the identity that a token proves, waiting for its issuer's keys.

        Raises:
            GatewayError: 401 or 503.
        """
        return await self._authenticator.authenticate(shown.value)

    def in_use(self, shown: Shown) -> TokenInUse:
        """Return what the verdict on a token that was good rests on.

        Raises:
            GatewayError: it was forgotten, and would not be given again.
        """
        return TokenInUse(self._authenticator, self._authenticator.hold(shown.value))

    def overrides(self, route: Route) -> bool:
        """Return False: what this kind verified is its own."""
        return False

    def sheds(self, route: Route) -> Callable[[bytes], bool] | None:
        """Return None: no JWT is refused unread."""
        return None


class TokenInUse(NamedTuple):
    """A verified token that a long response or a WebSocket goes on with."""

    authenticator: Authenticator
    token: CachedToken

    @property
    def identity(self) -> Identity:
        """The caller's identity."""
        return self.token.identity

    def ended(self) -> Reason | None:
        """Return why it is no longer good: expired, revoked, its key withdrawn, keys too old; None while it is."""
        return self.authenticator.still_good(self.token)
