"""What a kind of credential may be: how it is found, looked up, and followed while it is in use.

This file has the core's side. A JWT is one kind, and the core's own; API keys
and introspected tokens are features. The danger of this file is a credential
that two kinds could judge: so the kinds of a route are asked in one order, and
one that would show a credential to another server is not given what belongs to
a kind of this gateway.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import NamedTuple, Protocol

from gateway.errors import GatewayError, Reason
from gateway.identity import Identity
from gateway.policy.routes import Route
from gateway.server.request.in_use import InUse
from gateway.telemetry.record import Record


class Shown(NamedTuple):
    """A credential as it was sent.

    Attributes:
        value: byte for byte.
        scheme: ``Bearer`` or ``DPoP``; empty for one in a field of its own.
        field: the name of that field, in lower case.
    """

    value: bytes
    scheme: str = "Bearer"
    field: bytes = b""


class Soon(Enum):
    """The answer of a look-up that does not wait, and is not done."""

    SOON = "soon"


SOON = Soon.SOON

#: What became of a credential: who shows it, the refusal, or None where only ``Verifier.resolve`` can say.
Outcome = Identity | GatewayError | None


class Verifier(Protocol):
    """Verifies credentials of one kind."""

    def lookup(
        self, shown: Shown, record: Record, soon: Callable[[Outcome], None] | None = None
    ) -> Identity | Soon | None:
        """Return who shows it without waiting; None: call ``resolve``.

        Args:
            record: notes what it took.
            soon: where it is given, ``SOON`` may be the answer: it is called with the outcome, once, soon but not now.

        Raises:
            GatewayError: 401 or 503; ``soon`` is not called.
        """
        ...

    async def resolve(self, shown: Shown) -> Identity:
        """Return the identity that it proves, waiting for what verifies it.

        Raises:
            GatewayError: 401 or 503.
        """
        ...

    def in_use(self, shown: Shown) -> InUse:
        """Return what the verdict on one that was good a moment ago rests on.

        Raises:
            GatewayError: it is no longer good.
        """
        ...


class CredentialKind(Protocol):
    """One kind of credential.

    Attributes:
        name: in the configuration's word, as ``routes.credentials`` has it.
        title: for people, with its article.
        challenge: the scheme of its challenge, for a kind with a field of its own; empty for bearer tokens, whose
            challenges the core writes (RFC 6750 section 3).
        malformed: why a value is refused that cannot be one.
        is_remote: judging one may show it to another server.
        knows_revocations: a lookup already asks what is revoked.
        lookups: how many were looked up, good or not.
        every_token: what judges every bearer token on every route, for a kind that has one judge for all; else None.
        recall: returns who shows the token with a SHA-256, if it is remembered, counted as a look-up then; else None.
    """

    name: str
    title: str
    challenge: str
    malformed: Reason
    is_remote: bool
    knows_revocations: bool

    @property
    def lookups(self) -> int: ...

    @property
    def every_token(self) -> Verifier | None: ...

    @property
    def recall(self) -> Callable[[bytes], Identity | None] | None: ...

    def field(self, route: Route) -> bytes:
        """Return the request field in lower case that holds one on a route; empty: it is a bearer token."""
        ...

    def verifier(self, shown: Shown, route: Route) -> Verifier | None:
        """Return what judges a credential on a route; None: it is not for this kind."""
        ...

    def owns(self, value: bytes) -> bool:
        """Return whether this is one of the kind's own, wherever it stands, which no other server may see."""
        ...

    def overrides(self, route: Route) -> bool:
        """Return whether a token that another kind has verified may be this kind's to judge on a route."""
        ...
