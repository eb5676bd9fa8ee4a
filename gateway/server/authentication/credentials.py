"""The one credential of a request, among the kinds that its route takes, and the identity that it proves.

Chooses between the kinds: where each may stand is ``credential_places.py``'s,
and what it is worth the kind's own. The danger of this file is a credential
that is shown to another server although it could be judged here: so a kind that
asks elsewhere is not given what another kind owns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from gateway.errors import GatewayError, Reason, Reasons
from gateway.http1.websocket import offered_token
from gateway.identity import Identity
from gateway.jwt.revocations.revocations import Revocations
from gateway.policy.routes import Route
from gateway.server.authentication.credential_places import bearer_token, field_credential
from gateway.server.request.facts import Facts
from gateway.server.request.in_use import InUse
from gateway.server.request.request import Admitted
from gateway.server.seam.credential import CredentialKind, Shown, Verifier
from gateway.server.seam.feature import duplicates
from gateway.settings.feature_faults import FeatureError
from gateway.telemetry.counters import Record


class RouteKinds(NamedTuple):
    """The kinds of credentials that a route takes.

    Attributes:
        bearer: kinds of tokens, in the order in which one is offered to them.
        fields: the other kinds, by the field that each has on this route.
    """

    bearer: tuple[CredentialKind, ...]
    fields: Mapping[bytes, CredentialKind]


_NONE = RouteKinds((), {})


class Credentials:
    """The kinds of credentials under one configuration.

    Args:
        kinds: all of them, in the order in which bearer tokens are offered.
        routes: those that can be asked for.
        revocations: what is revoked.

    Raises:
        FeatureError: two kinds have one name, or one field on a route: one of them would never be asked.

    Attributes:
        kinds: by name.
        fields: every request field that holds a credential on some route.
        revocations: as given.
    """

    def __init__(self, kinds: Iterable[CredentialKind], routes: Iterable[Route], revocations: Revocations) -> None:
        given = tuple(kinds)
        self.kinds = {kind.name: kind for kind in given}
        if again := duplicates(kind.name for kind in given):
            raise FeatureError(f"several kinds of credentials have one name: {', '.join(again)}")
        self.revocations = revocations
        self._of: dict[Route, RouteKinds] = {}
        for route in routes:
            if route.auth != "public":
                self._of[route] = _kinds_of(route, self.kinds.values())
        self.fields = frozenset(field for found in self._of.values() for field in found.fields)

    def of(self, route: Route) -> RouteKinds:
        """Return the kinds that a route takes; none on a public one."""
        return self._of.get(route, _NONE)

    def find(self, admitted: Admitted, query: bytes) -> Shown:
        """Return the one credential that a request shows.

        A field that holds one on another route only is an ordinary one.

        Args:
            admitted: the request.
            query: the raw query, without its "?".

        Raises:
            GatewayError: 400 or 401.
        """
        kinds, facts = self.of(admitted.route), admitted.facts
        authorization = _authorization(admitted.route, facts, websocket=admitted.websocket)
        shown = [(name, value) for name, value in facts.keys if name in kinds.fields]
        if shown:
            field = shown[0][0]
            malformed = kinds.fields[field].malformed
            return field_credential(field, [value for _, value in shown], authorization, query, malformed)
        if not kinds.bearer:
            raise GatewayError(Reasons.NO_CREDENTIAL)
        return bearer_token(authorization, query)

    def lookup(self, shown: Shown, route: Route, record: Record) -> Identity | None:
        """Return the identity that a credential proves on a route, without waiting; None: call ``resolve``.

        Raises:
            GatewayError: 401 or 503.
        """
        return self.judge(shown, route)[1].lookup(shown, record)

    async def resolve(self, shown: Shown, route: Route) -> Identity:
        """Return the identity that a credential proves which ``lookup`` does not know.

        Raises:
            GatewayError: 401 or 503.
        """
        return await self.judge(shown, route)[1].resolve(shown)

    def in_use(self, shown: Shown, route: Route) -> InUse:
        """Return what the verdict on a credential that was good rests on, for a long response or a WebSocket.

        Raises:
            GatewayError: it is no longer good.
        """
        kind, verifier = self.judge(shown, route)
        found = verifier.in_use(shown)
        return found if kind.knows_revocations else _Revocable(found, self.revocations)

    def judge(self, shown: Shown, route: Route) -> tuple[CredentialKind, Verifier]:
        """Return the kind of a credential on a route, and what verifies it.

        Raises:
            GatewayError: ``CREDENTIAL_NOT_ACCEPTED``: no kind takes it; also for a token that in truth is a credential
                of another kind, whatever the route takes: it counts in its own field only, and no other server may see
                it.
        """
        kinds = self.of(route)
        for kind in (kinds.fields[shown.field],) if shown.field else kinds.bearer:
            if (verifier := kind.verifier(shown, route)) is not None:
                if kind.is_remote and (owner := self._owner(shown.value, kind)):
                    raise GatewayError(Reasons.CREDENTIAL_NOT_ACCEPTED, detail=f"{owner.title}, sent as a bearer token")
                return kind, verifier
        raise GatewayError(Reasons.CREDENTIAL_NOT_ACCEPTED, detail="no issuer of the route introspects this token")

    def _owner(self, value: bytes, asking: CredentialKind) -> CredentialKind | None:
        return next((kind for kind in self.kinds.values() if kind is not asking and kind.owns(value)), None)

    def overridden(self, route: Route) -> bool:
        """Return whether a token that was verified as a JWT may be for another kind to judge on a route."""
        return any(kind.overrides(route) for kind in self.of(route).bearer)

    def judged_as(self, name: str, shown: Shown, route: Route) -> bool:
        """Return whether a credential on a route is for the kind of this name to judge."""
        try:
            return self.judge(shown, route)[0].name == name
        except GatewayError:
            return False

    def sheds(self, route: Route) -> Callable[[bytes], bool]:
        """Return what tells, of a token that is no JWT, whether it is refused on a route because there are too many."""
        found = [shed for kind in self.of(route).bearer if (shed := kind.sheds(route)) is not None]
        return found[0] if found else _never


@dataclass(frozen=True, slots=True)
class _Revocable:
    """A credential in use whose own kind does not ask what is revoked."""

    found: InUse
    revocations: Revocations

    @property
    def identity(self) -> Identity:
        return self.found.identity

    def ended(self) -> Reason | None:
        reason = self.found.ended()
        return Reasons.REVOKED if reason is None and self.revocations.covers(self.found.identity) else reason


def _kinds_of(route: Route, kinds: Iterable[CredentialKind]) -> RouteKinds:
    taken = [(kind.field(route), kind) for kind in kinds if kind.name in route.credentials]
    if again := duplicates(field.decode("latin-1") for field, _ in taken if field):
        raise FeatureError(f"several kinds of credentials have one field on the route {route.name}: {', '.join(again)}")
    bearer = tuple(kind for field, kind in taken if not field)
    return RouteKinds(bearer, {field: kind for field, kind in taken if field})


def _never(_token: bytes) -> bool:
    return False


def _authorization(route: Route, facts: Facts, *, websocket: bool) -> Sequence[bytes]:
    """Return every token of the request, as values of Authorization.

    Raises:
        GatewayError: the one among the subprotocols is malformed.
    """
    if websocket and route.websocket_protocol_token:
        token = offered_token(facts.protocols)
        return facts.authorization if token is None else [*facts.authorization, b"Bearer " + token]
    return facts.authorization
