"""The choice of a request's one credential among the kinds that its route takes, and who shows it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import GatewayError, Reason, Reasons
from gateway.features.api_keys.credential import ApiKeyKind
from gateway.features.api_keys.keys import ApiKeys
from gateway.features.api_keys.options import ApiKey
from gateway.features.api_keys.reasons import EXPIRED_API_KEY, UNKNOWN_API_KEY
from gateway.http1.target import parse_target
from gateway.jwt.authenticator import Authenticator
from gateway.jwt.revocations.revocations import Revocations
from gateway.policy.routes import Route, RouteTable
from gateway.server.authentication.credentials import Credentials
from gateway.server.authentication.jwt_kind import JwtKind
from gateway.server.request.facts import scan
from gateway.server.request.request import Admitted
from gateway.server.seam.credential import CredentialKind, Shown
from gateway.settings.tables.upstreams import UpstreamSettings
from gateway.telemetry.counters import Record
from tests.support.clock import FakeClock
from tests.support.composed import Route as RouteSettings
from tests.support.composed import Settings
from tests.support.gateways.authenticating import Rig, rig_with_idp
from tests.support.tokens.api_keys import KEY, entry
from tests.support.tokens.minting import SigningKey
from tests.support.tokens.verifying import make_settings

CLOCK = FakeClock()
KINDS: list[CredentialKind] = [
    ApiKeyKind(ApiKeys(make_settings(), CLOCK)),
    JwtKind(Authenticator(make_settings(), {}, CLOCK), CLOCK),
]
REVOCATIONS = Revocations((), CLOCK)
TARGET = parse_target("GET", b"/")
NAMES = frozenset({b"x-api-key", b"partner-key"})
TOKEN = b"a.b.c"
BEARER, FIELD = (b"Authorization", b"Bearer " + TOKEN), (b"X-Api-Key", KEY)
BOTH = {"credentials": ["jwt", "api_key"]}
OFFERED = (b"Sec-WebSocket-Protocol", b"bearer, " + TOKEN)


def route(**options: Any) -> Route:
    return RouteTable([RouteSettings.model_validate({"path": "/", "upstream": "u", **options})]).routes[0]


def as_key(value: bytes) -> Shown:
    return Shown(value, "", b"x-api-key")


def shown(
    options: dict[str, Any], *pairs: tuple[bytes, bytes], query: bytes = b"", websocket: bool = False
) -> Shown | Reason:
    """Return the credential, or why it is not found."""
    asked = route(**options)
    admitted = Admitted(asked, TARGET, "", scan(pairs, NAMES), websocket=websocket)
    try:
        return Credentials(KINDS, [asked], REVOCATIONS).find(admitted, query)
    except GatewayError as error:
        return error.reason


def value(found: Shown | Reason) -> bytes | Reason:
    return found if isinstance(found, Reason) else found.value


CHOICES = [
    pytest.param({}, (BEARER, FIELD), TOKEN, id="tokens-only: an ordinary field"),
    pytest.param({}, (FIELD,), Reasons.NO_CREDENTIAL, id="tokens-only: no credential"),
    pytest.param(BOTH, (BEARER,), TOKEN, id="either: token"),
    pytest.param(BOTH, (FIELD,), KEY, id="either: key"),
    pytest.param(BOTH, (FIELD, BEARER), Reasons.SEVERAL_CREDENTIALS, id="either: both"),
    pytest.param(BOTH, (FIELD, FIELD), Reasons.SEVERAL_CREDENTIALS, id="either: two keys"),
    pytest.param(BOTH, (), Reasons.NO_CREDENTIAL, id="either: none"),
    pytest.param(BOTH, ((b"Authorization", b"Basic x"),), Reasons.OTHER_SCHEME, id="either: other scheme"),
    pytest.param(BOTH, ((b"partner-key", KEY), BEARER), TOKEN, id="either: another route's field"),
    pytest.param({"credentials": ["api_key"]}, (BEARER,), Reasons.NO_CREDENTIAL, id="keys-only: token"),
    pytest.param({"credentials": ["api_key"]}, (), Reasons.NO_CREDENTIAL, id="keys-only: none"),
    pytest.param({"credentials": ["api_key"]}, (FIELD,), KEY, id="keys-only: key"),
    pytest.param({**BOTH, "api_key_header": "Partner-Key"}, ((b"PARTNER-KEY", KEY), FIELD), KEY, id="other name"),
]


@pytest.mark.parametrize(("options", "pairs", "found"), CHOICES)
@pytest.mark.rule("R102", "R103", "R104", "R105", "C20", "C21")
def test_route_says_which_kinds_count(
    options: dict[str, Any], pairs: tuple[tuple[bytes, bytes], ...], found: bytes | Reason
) -> None:
    given_back = shown(options, *pairs)
    assert value(given_back) == found
    field = str(options.get("api_key_header", "x-api-key")).lower().encode()
    if not isinstance(given_back, Reason):
        assert (given_back.scheme, given_back.field) == (("", field) if found == KEY else ("Bearer", b""))


@pytest.mark.rule("R100", "R106")
def test_token_in_the_query_is_no_credential_where_keys_are_taken_either() -> None:
    assert shown({"credentials": ["api_key"]}, query=b"access_token=x") is Reasons.NO_CREDENTIAL


@pytest.mark.rule("R105")
def test_token_among_the_subprotocols_is_a_second_credential() -> None:
    """Beside a key as beside a header; and only where the route takes it from there."""
    offers = {**BOTH, "websocket_protocol_token": True}
    assert value(shown(offers, OFFERED, websocket=True)) == TOKEN
    assert shown(offers, OFFERED, FIELD, websocket=True) is Reasons.SEVERAL_CREDENTIALS
    assert value(shown(offers, OFFERED, FIELD)) == KEY
    assert value(shown(BOTH, OFFERED, FIELD, websocket=True)) == KEY


_PAIRS = st.lists(
    st.sampled_from([BEARER, FIELD, (b"x-api-key", b""), (b"Partner-Key", b"x"), (b"authorization", b"")]), max_size=4
)


@given(st.sampled_from([{}, BOTH, {"credentials": ["api_key"]}]), _PAIRS, st.sampled_from([b"", b"access_token=x"]))
@pytest.mark.rule("R105", "C21")
def test_no_request_with_two_credentials_gets_through(
    options: dict[str, Any], pairs: list[tuple[bytes, bytes]], query: bytes
) -> None:
    """Of those that the route looks at."""
    found = shown(options, *pairs, query=query)
    names = [name.lower() for name, _ in pairs]
    keys = names.count(b"x-api-key") if "api_key" in options.get("credentials", ()) else 0
    if not isinstance(found, Reason):
        assert keys + names.count(b"authorization") + bool(query) == 1
        assert bool(found.field) == bool(keys)


@pytest.fixture
async def both_kinds() -> AsyncIterator[tuple[Credentials, Route, Rig, SigningKey]]:
    """Tokens and keys, a route that takes both, and what tokens are made with."""
    key = SigningKey.ec("a")
    async with rig_with_idp(key) as (rig, _):
        settings = Settings(
            api_keys=[ApiKey.model_validate(entry(expires="2027-01-15T08:00:10Z"))],
            upstreams=[UpstreamSettings(name="u", urls=["http://127.0.0.1:1"])],
            routes=[RouteSettings(path="/", upstream="u", credentials=["jwt", "api_key"])],
        )
        routes = RouteTable(settings.routes).routes
        kinds: list[CredentialKind] = [ApiKeyKind(ApiKeys(settings, rig.clock)), JwtKind(rig.authenticator, rig.clock)]
        yield Credentials(kinds, routes, rig.authenticator.revocations), routes[0], rig, key


BothKinds = tuple[Credentials, Route, Rig, SigningKey]


@pytest.mark.rule("C65")
async def test_callers_are_known_by_the_kind_of_their_credential(both_kinds: BothKinds) -> None:
    """A key never counts as a token, nor the other way round."""
    credentials, route, rig, key = both_kinds
    token = rig.mint(key, exp=rig.clock.wall() + 100)
    of_key, of_token = Record(0.0), Record(0.0)
    partner = credentials.lookup(as_key(KEY), route, of_key)
    alice = credentials.lookup(Shown(token), route, of_token)
    assert partner is not None
    assert alice is not None
    assert (partner.subject, partner.credential, of_key.cache_hit) == ("partner", "api_key", None)
    assert (alice.subject, alice.credential, of_token.cache_hit) == ("alice", "jwt", False)
    assert of_token.verify_seconds is not None
    for wrong, reason in ((Shown(KEY), Reasons.NOT_A_JWS), (as_key(token), UNKNOWN_API_KEY)):
        with pytest.raises(GatewayError) as caught:
            credentials.lookup(wrong, route, Record(0.0))
        assert caught.value.reason is reason


@pytest.mark.rule("C65")
async def test_verdicts_in_use_end_as_their_kind_says(both_kinds: BothKinds) -> None:
    credentials, route, rig, key = both_kinds
    token = rig.mint(key, exp=rig.clock.wall() + 100)
    for shown in (as_key(KEY), Shown(token)):
        assert credentials.lookup(shown, route, Record(0.0)) is not None
    in_use = [credentials.in_use(as_key(KEY), route), credentials.in_use(Shown(token), route)]
    assert [one.identity.credential for one in in_use] == ["api_key", "jwt"]
    assert [one.ended() for one in in_use] == [None, None]
    rig.clock.step_wall(50)
    assert [one.ended() for one in in_use] == [EXPIRED_API_KEY, None]
    rig.clock.step_wall(100)
    assert in_use[1].ended() is Reasons.EXPIRED
