"""Tokens for one request each: the guard of routes with ``single_use``.

Only the spending of a token lives here; remembering it is ``tokens/replay.py``'s.
It is spent before its request is sent on: whatever becomes of that, a request
that may have had an effect is not repeated with the same token.
"""

from __future__ import annotations

from collections.abc import Awaitable
from math import isinf

from gateway.clock import Clock
from gateway.errors import GatewayError, Reason
from gateway.identity import Identity
from gateway.policy.routes import Route
from gateway.server.request import Admitted
from gateway.server.run import Run
from gateway.settings.schema import Settings
from gateway.tokens.replay import ReplayStore, digest_of

#: What a used token is remembered under.
PURPOSE = "token"


class SingleUse:
    """Admits each token once.

    Args:
        settings: the whole configuration.
        used: remembers the tokens that were used.
        clock: the time.
    """

    def __init__(self, settings: Settings, used: ReplayStore, clock: Clock) -> None:
        self.used = used
        self._wall = clock.wall
        self._leeway = {issuer.name: issuer.leeway_seconds for issuer in settings.issuers}

    def covers(self, route: Route) -> bool:
        """Return whether a route wants tokens for one request."""
        return route.settings.single_use

    def before(self, run: Run, admitted: Admitted) -> Awaitable[None] | None:
        """Have nothing to say about a request whose token is not known yet."""
        return None

    def after(
        self, run: Run, admitted: Admitted, shown: bytes | None, identity: Identity | None
    ) -> Awaitable[None] | None:
        """Spend the token of a request that may pass.

        Raises:
            GatewayError: ``NO_TOKEN_ID``; when awaited, ``REPLAYED_TOKEN``, and
                ``REPLAY_STORE`` when it cannot be told.
        """
        if identity is None:
            return None  # the route only observes: there is no token that could be spent
        if identity.token_id is None:
            raise GatewayError(Reason.NO_TOKEN_ID, detail="no 'jti'")
        if isinf(identity.expires_at):
            raise GatewayError(Reason.NO_TOKEN_ID, detail="no 'exp': nobody could remember it for ever")
        return self._spend(identity.issuer, identity.token_id, self._seconds(identity))

    def refused(self, run: Run, admitted: Admitted, error: GatewayError) -> None:
        """Have nothing to do with a token that was refused: it is not spent."""

    def _seconds(self, identity: Identity) -> float:
        """Return for how long the token could be used again (R129)."""
        return identity.expires_at + self._leeway.get(identity.issuer_name, 0.0) - self._wall()

    async def _spend(self, issuer: str, token_id: str, seconds: float) -> None:
        if not await self.used.use(digest_of(issuer, token_id), seconds):
            raise GatewayError(Reason.REPLAYED_TOKEN)
