"""Names of fields: their folding, and what each means."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.http1.request_head import Meaning
from gateway.upstream.headers.header_policy import compile_header_policy, fold, header_policy
from tests.support.clock import FakeClock
from tests.support.composed import Settings
from tests.support.pipeline import pipeline_of

IDENTITY_NAMES = ("x-user-id", "x-user-role", "x-scope")


@pytest.mark.rule("R341")
def test_fold_makes_one_name_of_all_spellings() -> None:
    for spelling in (b"X-User-Id", b"x_user_id", b"X.User.ID", b"HTTP_X_USER_ID", b"x-user~id", b"X-User\xa0Id"):
        assert fold(spelling) == b"x-user-id"
    for spelling in (b"Grpc-Metadata-X-User-Id", b"grpc_metadata_x_user_id"):  # as grpc-gateway takes it apart
        assert fold(spelling) == b"x-user-id"
    assert fold(b"HTTP2-Settings") == b"http2-settings"
    assert fold(b"") == b""


@pytest.mark.parametrize(
    ("name", "meaning"),
    [
        (b"Accept", Meaning.KEPT),
        (b"Content_Type", Meaning.DROPPED),
        (b"Via", Meaning.READ),
        (b"HTTP_VIA", Meaning.DROPPED),
        (b"Host", Meaning.HOST),
        (b"H_OST", Meaning.DROPPED),
        (b"HTTP_HOST", Meaning.DROPPED),
        (b"content-LENGTH", Meaning.CONTENT_LENGTH),
        (b"Content_Length", Meaning.DROPPED),
        (b"transfer-encoding", Meaning.TRANSFER_ENCODING),
        (b"Transfer.Encoding", Meaning.DROPPED),
        (b"X-Request-Id", Meaning.REQUEST_ID),
        (b"X_Request_Id", Meaning.DROPPED),
        (b"TE", Meaning.DROPPED),
        (b"Expect", Meaning.TAKEN),
        (b"Upgrade", Meaning.TAKEN),
        (b"HTTP_UPGRADE", Meaning.DROPPED),
        (b"Origin", Meaning.READ),
        (b"max-forwards", Meaning.READ),
        (b"Max_Forwards", Meaning.DROPPED),
        (b"Sec-WebSocket-Key", Meaning.READ),
        (b"connection", Meaning.CONNECTION),
        (b"HTTP_CONNECTION", Meaning.DROPPED),
        (b"Authorization", Meaning.AUTHORIZATION),
        (b"Http-Authorization", Meaning.DROPPED),
        (b"DPoP", Meaning.WITHHELD),
        (b"HTTP_DPOP", Meaning.DROPPED),
        (b"X-Forwarded-For", Meaning.FORWARDING),
        (b"X_Forwarded_For", Meaning.DROPPED),
        (b"Forwarded", Meaning.DROPPED),
        (b"X-Forwarded-Server", Meaning.DROPPED),
        (b"SSL_CLIENT_S_DN", Meaning.DROPPED),
        (b"X-SSL-Client-Verify", Meaning.DROPPED),
        (b"x.user.id", Meaning.DROPPED),
        (b"Grpc-Metadata-X-User-Id", Meaning.DROPPED),
        (b"Grpc-Metadata-Authorization", Meaning.DROPPED),
        (b"Grpc-Metadata-X-Page", Meaning.KEPT),
    ],
)
@pytest.mark.rule(
    "R250", "R251", "R252", "R253", "R254", "R255", "R256", "R257", "R258", "R259", "R260", "R341", "R342"
)
def test_each_name_has_one_meaning(name: bytes, meaning: Meaning) -> None:
    assert header_policy(IDENTITY_NAMES, b"gw").meaning(name) is meaning


#: Where no line of a client goes that the gateway itself says.
STAYS = frozenset(
    {
        *(Meaning.DROPPED, Meaning.TAKEN, Meaning.AUTHORIZATION_TAKEN, Meaning.FORWARDING, Meaning.HOST),
        *(Meaning.CONNECTION, Meaning.REQUEST_ID, Meaning.CONTENT_LENGTH, Meaning.TRANSFER_ENCODING),
    }
)


@pytest.mark.rule("R340")
def test_identity_wins_over_every_other_meaning() -> None:
    """Even where the configuration chose a name that would pass otherwise; what the gateway reads it still reads."""
    policy = header_policy(["via", "x-trace", "origin", "authorization", "dpop", "x-api-key"], b"gw", (), ["x-api-key"])
    names = (b"Via", b"X-Trace", b"Origin", b"Authorization", b"DPoP", b"X-Api-Key")
    assert [policy.meaning(name) for name in names] == [
        *(Meaning.TAKEN, Meaning.DROPPED, Meaning.TAKEN, Meaning.AUTHORIZATION_TAKEN, Meaning.TAKEN, Meaning.TAKEN)
    ]


_NAMES = st.sampled_from([b"X-User-Id", b"x_scope", b"Via", b"HTTP_VIA", b"TE", b"X-A"]) | st.binary(max_size=12)
_POLICY = header_policy(IDENTITY_NAMES, b"gw")


@given(_NAMES)
@pytest.mark.rule("R264", "R341")
def test_an_identity_name_stays_here_in_every_spelling(name: bytes) -> None:
    """And what a name means is a matter of the policy alone."""
    meaning = _POLICY.meaning(name)
    assert header_policy(IDENTITY_NAMES, b"gw").meaning(name) is meaning
    assert fold(name) not in _POLICY.identity_names or meaning in STAYS


@pytest.mark.rule("R340", "R341")
def test_a_field_that_may_hold_a_key_is_read() -> None:
    """In its own spelling, in any case. On routes that take no keys it passes, as its other spellings do."""
    policy = header_policy(IDENTITY_NAMES, b"gw", (), ["x-api-key", "partner_key"], plain_only=False)
    for name in (b"X-Api-Key", b"x-api-key", b"X-API-KEY", b"Partner_Key", b"partner_key"):
        assert policy.meaning(name) is Meaning.READ
    for name in (b"X_API_KEY", b"Http-X-Api-Key", b"Partner-Key", b"X-Api-Keys"):
        assert policy.meaning(name) is Meaning.KEPT


def test_fields_of_keys_are_those_of_the_routes_that_take_keys() -> None:
    settings = Settings.model_validate(
        {
            "upstreams": [{"name": "u", "urls": ["http://127.0.0.1:1"]}],
            "routes": [
                {"path": "/a", "upstream": "u", "credentials": ["api_key"]},
                {"path": "/b", "upstream": "u", "credentials": ["jwt", "api_key"], "api_key_header": "Partner_Key"},
                {"path": "/c", "upstream": "u"},
            ],
        }
    )
    for policy in (
        compile_header_policy(settings, b"gw", [b"x-api-key", b"partner_key"]),
        pipeline_of(settings, FakeClock()).header_policy,
    ):
        names = (b"X-Api-Key", b"Partner_KEY", b"Partner-Key", b"X-Other-Key")
        assert [policy.meaning(name) for name in names] == [
            *(Meaning.READ, Meaning.TAKEN, Meaning.KEPT, Meaning.KEPT)  # one with an underscore is read by nothing else
        ]


@pytest.mark.rule("R139")
def test_the_field_of_a_clients_certificate_passes_in_no_spelling() -> None:
    """Whether its sender is trusted or not; not even where it is read."""
    settings = Settings.model_validate(
        {
            "server": {"client_certificate_header": "X-Client-TLS", "trusted_proxies": ["10.0.0.1"]},
            "upstreams": [{"name": "u", "urls": ["http://127.0.0.1:1"]}],
            "routes": [{"path": "/a", "upstream": "u"}],
        }
    )
    policy = compile_header_policy(settings, b"gw")
    for name in (b"X-Client-TLS", b"x_client_tls", b"HTTP_X_CLIENT_TLS"):
        assert policy.meaning(name) is Meaning.DROPPED
    reading = compile_header_policy(settings, b"gw", [b"x-client-tls"])  # as a part does that looks at certificates
    for name, meaning in ((b"X-Client-TLS", Meaning.TAKEN), (b"x_client_tls", Meaning.DROPPED)):
        assert reading.meaning(name) is meaning
