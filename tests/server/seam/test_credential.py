"""Kinds of credentials beside each other: whose a credential is, and that no other server gets to see it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from gateway.errors import GatewayError, Reason, Reasons
from gateway.http1.target import parse_target
from gateway.identity import Identity
from gateway.jwt.revocations.revocations import Revocations
from gateway.policy.routes import Route, RouteTable
from gateway.server.authentication.credentials import Credentials
from gateway.server.request.facts import scan
from gateway.server.request.in_use import InUse
from gateway.server.request.request import Admitted
from gateway.server.seam.credential import CredentialKind, Shown, Verifier
from gateway.settings.tables.routes import RouteSettings
from gateway.telemetry.counters import Record
from tests.support.clock import FakeClock

ALICE = Identity("as", "https://as.test/", "alice", (), {}, b"", float("inf"), float("-inf"), None)
MALFORMED = Reason("malformed_ticket", Reasons.MALFORMED_AUTHORIZATION.kind)


class Toy:
    """A kind that takes and owns what begins with some bytes.

    Attributes:
        asked: what was looked up or resolved.
    """

    lookups = 0

    def __init__(
        self,
        name: str,
        takes: bytes = b"",
        *,
        field: bytes = b"",
        owns: bytes | None = None,
        is_remote: bool = False,
        knows_revocations: bool = False,
        sheds: Callable[[bytes], bool] | None = None,
        overrides: bool = False,
    ) -> None:
        self.name, self.title = name, f"a {name}"
        self.challenge = "Toy" if field else ""
        self.malformed = MALFORMED
        self.is_remote, self.knows_revocations = is_remote, knows_revocations
        self.asked: list[bytes] = []
        self.reason: Reason | None = None
        self._takes, self._field, self._owns, self._sheds, self._overrides = takes, field, owns, sheds, overrides

    def field(self, route: Route) -> bytes:
        return self._field

    def verifier(self, shown: Shown, route: Route) -> Verifier | None:
        return self if shown.value.startswith(self._takes) else None

    def owns(self, value: bytes) -> bool:
        return self._owns is not None and value.startswith(self._owns)

    def overrides(self, route: Route) -> bool:
        return self._overrides

    def sheds(self, route: Route) -> Callable[[bytes], bool] | None:
        return self._sheds

    def lookup(self, shown: Shown, record: Record) -> Identity | None:
        self.asked.append(shown.value)
        return ALICE._replace(credential=self.name)

    async def resolve(self, shown: Shown) -> Identity:
        self.asked.append(shown.value)
        return ALICE._replace(credential=self.name)

    def in_use(self, shown: Shown) -> InUse:
        return self

    @property
    def identity(self) -> Identity:
        return ALICE

    def ended(self) -> Reason | None:
        return self.reason


ALL: dict[str, Any] = {"credentials": ["jwt", "opaque", "api_key"]}


def made(*kinds: CredentialKind, **options: Any) -> tuple[Credentials, Route]:
    """Return the choice among kinds, and a route; it takes all kinds unless ``options`` say otherwise."""
    settings = RouteSettings.model_validate({"path": "/", "upstream": "u", **ALL, **options})
    (route,) = RouteTable([settings]).routes
    return Credentials(kinds, [route], Revocations((), FakeClock())), route


def judged(credentials: Credentials, shown: Shown, route: Route) -> str | Reason:
    try:
        return credentials.judge(shown, route)[0].name
    except GatewayError as error:
        return error.reason


async def test_bearer_tokens_are_offered_in_the_order_of_the_kinds() -> None:
    """The first one that takes it judges it."""
    for order in (1, -1):
        kinds = [Toy("opaque", b"t"), Toy("jwt", b"t")][::order]
        credentials, route = made(*kinds)
        assert judged(credentials, Shown(b"token"), route) == kinds[0].name
        assert await credentials.resolve(Shown(b"token"), route) == ALICE._replace(credential=kinds[0].name)
        assert [kind.asked for kind in kinds] == [[b"token"], []]
        assert judged(credentials, Shown(b"other"), route) is Reasons.CREDENTIAL_NOT_ACCEPTED


def test_a_kind_that_the_route_does_not_take_is_not_asked() -> None:
    opaque, jwt = Toy("opaque"), Toy("jwt")
    credentials, route = made(opaque, jwt, credentials=["jwt"])
    assert judged(credentials, Shown(b"token"), route) == "jwt"
    credentials, route = made(opaque, jwt, auth="public")
    assert judged(credentials, Shown(b"token"), route) is Reasons.CREDENTIAL_NOT_ACCEPTED
    assert credentials.of(route).bearer == ()


@pytest.mark.parametrize("takes_both", [True, False])
@pytest.mark.rule("R437")
async def test_a_remote_kind_is_not_given_what_another_kind_owns(takes_both: bool) -> None:
    """Also on a route that does not take that kind; a server that gets to see it could use it."""
    keys = Toy("api_key", field=b"x-key", owns=b"key-")
    remote = Toy("opaque", is_remote=True)
    credentials, route = made(remote, keys, credentials=["opaque", *(["api_key"] if takes_both else [])])
    key = Shown(b"key-1")
    with pytest.raises(GatewayError) as caught:
        credentials.lookup(key, route, Record(0.0))
    assert (caught.value.reason, caught.value.detail) == (
        Reasons.CREDENTIAL_NOT_ACCEPTED,
        "a api_key, sent as a bearer token",
    )
    for refused in (credentials.resolve(key, route),):
        with pytest.raises(GatewayError):
            await refused
    with pytest.raises(GatewayError):
        credentials.in_use(key, route)
    assert remote.asked == []
    assert credentials.lookup(Shown(b"token"), route, Record(0.0)) is not None
    assert remote.asked == [b"token"]


def test_a_kind_of_this_gateway_may_look_at_what_another_one_owns_and_a_remote_one_at_its_own() -> None:
    """Nothing leaves the gateway by the one, and nothing that was not meant for it by the other."""
    keys = Toy("api_key", field=b"x-key", owns=b"key-")
    credentials, route = made(Toy("jwt"), keys)
    assert judged(credentials, Shown(b"key-1"), route) == "jwt"
    credentials, route = made(Toy("opaque", owns=b"key-", is_remote=True))
    assert judged(credentials, Shown(b"key-1"), route) == "opaque"


def test_a_credential_in_a_field_is_the_kinds_that_has_the_field_and_no_others() -> None:
    keys, jwt = Toy("api_key", b"key-", field=b"x-key"), Toy("jwt")
    credentials, route = made(jwt, keys)
    assert credentials.fields == {b"x-key"}
    assert judged(credentials, Shown(b"key-1", "", b"x-key"), route) == "api_key"
    assert judged(credentials, Shown(b"token", "", b"x-key"), route) is Reasons.CREDENTIAL_NOT_ACCEPTED
    assert judged(credentials, Shown(b"key-1"), route) == "jwt"


@pytest.mark.rule("R105")
def test_fields_of_two_kinds_at_once_are_two_credentials() -> None:
    """Each kind has a field of its own; an empty one is refused for the kind's own reason."""
    credentials, route = made(Toy("api_key", field=b"x-key"), Toy("opaque", field=b"x-ticket"), Toy("jwt"))

    def found(*fields: tuple[bytes, bytes]) -> Shown | Reason:
        facts = scan(fields, credentials.fields)
        try:
            return credentials.find(Admitted(route, parse_target("GET", b"/"), "", facts), b"")
        except GatewayError as error:
            return error.reason

    assert found((b"X-Ticket", b"t")) == Shown(b"t", "", b"x-ticket")
    assert found((b"X-Key", b"k")) == Shown(b"k", "", b"x-key")
    assert found((b"X-Key", b"k"), (b"X-Ticket", b"t")) is Reasons.SEVERAL_CREDENTIALS
    assert found((b"X-Ticket", b"")) is MALFORMED
    assert found((b"X-Ticket", b"t"), (b"Authorization", b"Bearer a")) is Reasons.SEVERAL_CREDENTIALS


class Revoked:
    """Stands for what is revoked: everything, once it is said."""

    def __init__(self) -> None:
        self.everything = False

    def covers(self, identity: Identity) -> bool:
        return self.everything

    def demand(self, identity: Identity) -> None:
        if self.everything:
            raise GatewayError(Reasons.REVOKED)


@pytest.mark.parametrize("knows", [True, False])
@pytest.mark.rule("R130")
def test_what_is_revoked_is_asked_by_the_kind_itself_or_for_it(knows: bool) -> None:
    """At each request and while it is in use; never twice."""
    kind, revoked = Toy("jwt", knows_revocations=knows), Revoked()
    (route,) = RouteTable([RouteSettings(path="/", upstream="u")]).routes
    credentials = Credentials([kind], [route], revoked)  # type: ignore[arg-type]
    in_use = credentials.in_use(Shown(b"t"), route)
    assert (in_use.ended(), in_use.identity) == (None, ALICE)
    revoked.everything = True
    assert in_use.ended() is (None if knows else Reasons.REVOKED)
    kind.reason = Reasons.EXPIRED
    assert in_use.ended() is Reasons.EXPIRED


def test_what_sheds_and_overrides_is_known_by_route() -> None:
    def full(token: bytes) -> bool:
        return token == b"x"

    opaque, jwt = Toy("opaque", sheds=full, overrides=True), Toy("jwt")
    credentials, route = made(opaque, jwt)
    assert credentials.sheds(route) is full
    assert credentials.overridden(route)
    credentials, route = made(opaque, jwt, credentials=["jwt"])
    assert not credentials.sheds(route)(b"x")
    assert not credentials.overridden(route)
    assert credentials.judged_as("jwt", Shown(b"x"), route)
    assert not credentials.judged_as("opaque", Shown(b"x"), route)


def test_two_kinds_have_neither_one_name_nor_one_field_on_a_route() -> None:
    """One of them would never be asked, and the other would judge its credentials."""
    with pytest.raises(ValueError, match="several kinds of credentials have one name: jwt"):
        made(Toy("jwt", b"mine"), Toy("jwt"))
    keys, tickets = Toy("api_key", field=b"x-key"), Toy("opaque", field=b"x-key")
    with pytest.raises(ValueError, match="several kinds of credentials have one field on the route /: x-key"):
        made(keys, tickets)
    made(keys, tickets, credentials=["api_key"])
