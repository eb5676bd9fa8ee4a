"""What a kind of credential may be: how it is found, looked up, and followed while it is in use.

This file has the core's side. A JWT is one kind, and the core's own; API keys
and introspected tokens are features. The danger of this file is a credential
that two kinds could judge: so the kinds of a route are asked in one order, and
one that would show a credential to another server is not given what belongs to
a kind of this gateway.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

from gateway.errors import Reason
from gateway.identity import Identity
from gateway.policy.routes import Route
from gateway.server.request.in_use import InUse
from gateway.telemetry.counters import Record


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


class Verifier(Protocol):
    """Verifies credentials of one kind."""

    def lookup(self, shown: Shown, record: Record) -> Identity | None:
        """Return the identity that it proves, without waiting; None: call ``resolve``.

        Raises:
            GatewayError: 401 or 503.
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
    """

    name: str
    title: str
    challenge: str
    malformed: Reason
    is_remote: bool
    knows_revocations: bool

    @property
    def lookups(self) -> int: ...

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

    def sheds(self, route: Route) -> Callable[[bytes], bool] | None:
        """Return what tells whether a bearer token that is no JWT is refused on a route, unread, because there are too
        many; None for a kind that never does that."""
        ...
