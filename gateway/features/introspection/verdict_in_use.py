"""The verdict on an introspected token that a long response or a WebSocket depends on, and whether it is still valid.

Checks the verdict; introspection requests are ``introspector.py``'s. The danger is a stream that outlives its token: so
a token whose verdict is too old is introspected again while the stream goes on. When the issuer cannot be asked, the
stream ends ``GRACE_SECONDS`` later.
"""

from __future__ import annotations

import asyncio
from typing import Any, Protocol

from gateway.clock import Clock
from gateway.errors import Reason
from gateway.features.introspection.reasons import INACTIVE_TOKEN, INTROSPECTION_FAILED
from gateway.features.introspection.verdict_cache import Verdict, VerdictMemory
from gateway.identity import Identity
from gateway.jwt.claims.issuer_policy import IssuerPolicy
from gateway.jwt.claims.rules import is_current

#: For how many seconds a response or WebSocket goes on when its token's verdict is too old and the issuer's server
#: cannot be asked.
GRACE_SECONDS = 60.0


class Asker(Protocol):
    """What knows the verdicts on one issuer's tokens, and requests new ones."""

    @property
    def clock(self) -> Clock: ...

    @property
    def memory(self) -> VerdictMemory: ...

    @property
    def policy(self) -> IssuerPolicy: ...

    def ask_again(self, token: bytes, digest: bytes) -> asyncio.Task[Verdict | None] | None:
        """Return the introspection of a token that was good; None for lack of a slot."""
        ...


class HeldVerdict:
    """The verdict on one token, kept up to date.

    Args:
        asker: introspects the tokens of its issuer.
        token, digest: the token and its SHA-256.
        verdict: the last one.
        identity: the caller's.

    Attributes:
        identity: as given.
    """

    __slots__ = ("_asker", "_digest", "_flight", "_token", "_verdict", "identity")

    def __init__(self, asker: Asker, token: bytes, digest: bytes, verdict: Verdict, identity: Identity) -> None:
        self._asker = asker
        self._token = token
        self._digest = digest
        self._verdict = verdict
        self.identity = identity
        self._flight: asyncio.Task[Verdict | None] | None = None

    def ended(self) -> Reason | None:
        """Return why the token is no longer good; None while it is. A new verdict is requested when it is too old."""
        asker = self._asker
        verdict = self._verdict = self._newest()
        identity, now = verdict.identity, asker.clock.monotonic()
        if identity is None:
            return verdict.reason
        if _rights(identity) != _rights(self.identity):
            return INACTIVE_TOKEN
        reason = is_current(identity.expires_at, identity.not_before, asker.policy.leeway, asker.clock.wall())
        if reason is not None or now < verdict.fresh_until:
            return reason
        if self._flight is None:
            self._flight = asker.ask_again(self._token, self._digest)
        return INTROSPECTION_FAILED if now > verdict.fresh_until + GRACE_SECONDS else None

    def _newest(self) -> Verdict:
        verdict = self._verdict
        if self._flight is not None and self._flight.done():
            answered = None if self._flight.cancelled() else self._flight.result()
            verdict, self._flight = answered or verdict, None
        remembered = self._asker.memory.last(self._digest)
        return verdict if remembered is None or remembered.fresh_until <= verdict.fresh_until else remembered


def _rights(identity: Identity) -> tuple[Any, ...]:
    return identity.subject, identity.scopes, dict(identity.claims)
