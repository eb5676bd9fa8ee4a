"""Tokens for one request each: the guard of routes with ``single_use``.

Spends tokens; remembering them is ``store/one_time_ids.py``'s. A token is spent
before its request is sent on. So a request that may have had an effect is not
repeated with the same token, even if it failed.
"""

from __future__ import annotations

from math import isinf
from typing import NamedTuple

from gateway.clock import Clock
from gateway.errors import GatewayError
from gateway.features.single_use.options import SingleUseRouteOptions
from gateway.features.single_use.reasons import NO_TOKEN_ID, REPLAYED_TOKEN
from gateway.identity import Identity
from gateway.policy.routes import Route
from gateway.server.request.in_progress import Run
from gateway.server.request.request import Admitted
from gateway.server.seam.credential import Shown
from gateway.server.seam.guard import Guard, Now
from gateway.settings.tables.issuers import MAX_LEEWAY
from gateway.settings.tables.root import Settings
from gateway.store.one_time_ids import Once, ReplayStore, digest_of
from gateway.store.used_ids import CLOCK_MARGIN

#: What a used token is remembered under.
ONE_TIME_PURPOSE = "token"


class _Lives(NamedTuple):
    """Bounds on the life of an issuer's tokens, in seconds.

    Attributes:
        leeway: how long they are accepted after ``exp``.
        max_lifetime: from ``iat``, or without one from the first use, to ``exp``; 0 for no limit.
    """

    leeway: float
    max_lifetime: float


class SingleUse(Guard):
    """Admits each token once.

    Args:
        settings: the whole configuration.
        used: remembers the tokens that were used.
        clock: the time.
    """

    def __init__(self, settings: Settings, used: ReplayStore, clock: Clock) -> None:
        self.used = used
        self._wall = clock.wall
        self._lives = {
            issuer.name: _Lives(issuer.leeway_seconds, issuer.max_lifetime_seconds) for issuer in settings.issuers
        }

    def covers(self, route: Route) -> bool:
        """Return whether a route accepts a token for one request only."""
        return SingleUseRouteOptions.of(route.settings).single_use

    def after(self, run: Run, admitted: Admitted, shown: Shown | None, identity: Identity | None) -> Now:
        """Spend the token of a request that may pass.

        Raises:
            GatewayError: ``NO_TOKEN_ID``; when awaited, ``REPLAYED_TOKEN``, and
                ``REPLAY_STORE`` or ``REPLAY_UNDECIDED`` when it is not known and the route does not let it pass.
        """
        if identity is None:
            return None  # the route only observes: there is no token that could be spent
        if identity.token_id is None:
            raise GatewayError(NO_TOKEN_ID, detail="no 'jti'")
        if isinf(identity.expires_at):
            raise GatewayError(NO_TOKEN_ID, detail="the token has no 'exp', so its use cannot be recorded")
        passes = SingleUseRouteOptions.of(admitted.route.settings).single_use_failure == "open"
        return self._spend(self._once(identity, identity.token_id), passes)

    def _once(self, identity: Identity, token_id: str) -> Once:
        """Return the token's id and its times: it is remembered as long as any gateway may accept it (R129, R440)."""
        lives, expires_at = self._lives.get(identity.issuer_name, _Lives(0.0, 0.0)), identity.expires_at
        # Without `iat` the maximum lifetime counts from the first use: no gateway accepted the token before `seen`.
        seen = expires_at - lives.max_lifetime if lives.max_lifetime else 0.0
        return Once(
            digest_of(identity.issuer, token_id),
            max(identity.issued_at, identity.not_before, seen),
            expires_at + lives.leeway,
            expires_at + MAX_LEEWAY + CLOCK_MARGIN,
        )

    async def _spend(self, once: Once, undecided_passes: bool) -> None:
        if not await self.used.use(once, undecided_passes=undecided_passes):
            raise GatewayError(REPLAYED_TOKEN)
