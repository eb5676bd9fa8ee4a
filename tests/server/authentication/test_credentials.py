"""The choice of a request's one credential among the kinds that its route takes, and who shows it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import GatewayError, Reason, Reasons
from gateway.features.api_keys.keys import ApiKeys
from gateway.features.api_keys.options import ApiKey
from gateway.features.api_keys.reasons import EXPIRED_API_KEY, UNKNOWN_API_KEY
from gateway.features.introspection.choice import OpaqueTokens
from gateway.policy.routes import Route, RouteTable
from gateway.server.authentication.credential_places import PresentedKey
from gateway.server.authentication.credentials import Callers, credential
from gateway.server.request.facts import scan
from gateway.settings.tables import root as schema
from gateway.telemetry.counters import Record
from tests.support.clock import FakeClock
from tests.support.keys import KEY, entry
from tests.support.minting import SigningKey
from tests.support.rig import rig_with_idp

NAMES = frozenset({b"x-api-key", b"partner-key"})
TOKEN = b"a.b.c"
BEARER, FIELD = (b"Authorization", b"Bearer " + TOKEN), (b"X-Api-Key", KEY)
BOTH = {"credentials": ["jwt", "api_key"]}
OFFERED = (b"Sec-WebSocket-Protocol", b"bearer, " + TOKEN)


def route(**options: Any) -> Route:
    return RouteTable([schema.Route.model_validate({"path": "/", "upstream": "u", **options})]).routes[0]


def shown(
    options: dict[str, Any], *pairs: tuple[bytes, bytes], query: bytes = b"", websocket: bool = False
) -> bytes | Reason:
    """Return the credential, or why there is none."""
    try:
        return credential(route(**options), scan(pairs, NAMES), query, websocket=websocket)
    except GatewayError as error:
        return error.reason


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
    pytest.param({"credentials": ["api_key"]}, (FIELD,), KEY, id="keys-only: key"),
    pytest.param({**BOTH, "api_key_header": "Partner-Key"}, ((b"PARTNER-KEY", KEY), FIELD), KEY, id="other name"),
]


@pytest.mark.parametrize(("options", "pairs", "found"), CHOICES)
def test_route_says_which_kinds_count(
    options: dict[str, Any], pairs: tuple[tuple[bytes, bytes], ...], found: bytes | Reason
) -> None:
    """R102-R105, C20, C21."""
    given_back = shown(options, *pairs)
    assert given_back == found
    assert isinstance(given_back, PresentedKey) == (found == KEY)


def test_token_among_the_subprotocols_is_a_second_credential() -> None:
    """R105: beside a key as beside a header; and only where the route takes it from there."""
    offers = {**BOTH, "websocket_protocol_token": True}
    assert shown(offers, OFFERED, websocket=True) == TOKEN
    assert shown(offers, OFFERED, FIELD, websocket=True) is Reasons.SEVERAL_CREDENTIALS
    assert shown(offers, OFFERED, FIELD) == KEY
    assert shown(BOTH, OFFERED, FIELD, websocket=True) == KEY


_PAIRS = st.lists(
    st.sampled_from([BEARER, FIELD, (b"x-api-key", b""), (b"Partner-Key", b"x"), (b"authorization", b"")]), max_size=4
)


@given(st.sampled_from([{}, BOTH, {"credentials": ["api_key"]}]), _PAIRS, st.sampled_from([b"", b"access_token=x"]))
def test_no_request_with_two_credentials_gets_through(
    options: dict[str, Any], pairs: list[tuple[bytes, bytes]], query: bytes
) -> None:
    """R105, C21: of those that the route looks at."""
    found = shown(options, *pairs, query=query)
    names = [name.lower() for name, _ in pairs]
    keys = names.count(b"x-api-key") if "api_key" in options.get("credentials", ()) else 0
    if not isinstance(found, Reason):
        assert keys + names.count(b"authorization") + bool(query) == 1
        assert isinstance(found, PresentedKey) == bool(keys)


async def test_callers_are_known_by_the_kind_of_their_credential() -> None:
    """C65: and so are the verdicts that are held; a key never counts as a token, nor the other way round."""
    key = SigningKey.ec("a")
    async with rig_with_idp(key) as (rig, _):
        clock: FakeClock = rig.clock
        settings = schema.Settings(
            api_keys=[ApiKey.model_validate(entry(expires="2027-01-15T08:00:10Z"))],
            upstreams=[schema.Upstream(name="u", urls=["http://127.0.0.1:1"])],
            routes=[schema.Route(path="/", upstream="u", credentials=["jwt", "api_key"])],
        )
        callers = Callers(rig.authenticator, OpaqueTokens(settings, {}, ()), ApiKeys(settings, clock), clock)
        (route,) = RouteTable(settings.routes).routes
        token = rig.mint(key, exp=clock.wall() + 100)
        of_key, of_token = Record(0.0), Record(0.0)
        partner, alice = callers.known(PresentedKey(KEY), route, of_key), callers.known(token, route, of_token)
        assert partner is not None
        assert alice is not None
        assert (partner.subject, partner.credential, of_key.cache_hit) == ("partner", "api_key", None)
        assert (alice.subject, alice.credential, of_token.cache_hit) == ("alice", "jwt", False)
        assert of_token.verify_seconds is not None
        for wrong, reason in ((KEY, Reasons.NOT_A_JWS), (PresentedKey(token), UNKNOWN_API_KEY)):
            with pytest.raises(GatewayError) as caught:
                callers.known(wrong, route, Record(0.0))
            assert caught.value.reason is reason
        held = [callers.hold(PresentedKey(KEY), route), callers.hold(token, route)]
        assert [callers.still_good(one) for one in held] == [None, None]
        clock.step_wall(50)
        assert [callers.still_good(one) for one in held] == [EXPIRED_API_KEY, None]
        clock.step_wall(100)
        assert callers.still_good(held[1]) is Reasons.EXPIRED
