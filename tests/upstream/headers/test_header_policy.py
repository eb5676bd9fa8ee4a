"""Names of fields: their folding, and what is remembered about them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.upstream.headers.header_policy import Action, compile_header_policy, fold, header_policy
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
    ("name", "action"),
    [
        (b"Accept", Action.KEEP),
        (b"Content_Type", Action.DROP),
        (b"Via", Action.KEEP),
        (b"HTTP_VIA", Action.DROP),
        (b"connection", Action.CONNECTION),
        (b"HTTP_CONNECTION", Action.DROP),
        (b"Authorization", Action.AUTHORIZATION),
        (b"Http-Authorization", Action.DROP),
        (b"DPoP", Action.AUTHORIZATION),
        (b"HTTP_DPOP", Action.DROP),
        (b"X-Forwarded-For", Action.FORWARDING),
        (b"X_Forwarded_For", Action.DROP),
        (b"Forwarded", Action.FORWARDING),
        (b"X-Forwarded-Server", Action.DROP),
        (b"SSL_CLIENT_S_DN", Action.DROP),
        (b"X-SSL-Client-Verify", Action.DROP),
        (b"x.user.id", Action.DROP),
        (b"Grpc-Metadata-X-User-Id", Action.DROP),
        (b"Grpc-Metadata-Authorization", Action.DROP),
        (b"Grpc-Metadata-X-Page", Action.KEEP),
    ],
)
@pytest.mark.rule(
    "R250", "R251", "R252", "R253", "R254", "R255", "R256", "R257", "R258", "R259", "R260", "R341", "R342"
)
def test_each_name_has_one_meaning(name: bytes, action: Action) -> None:
    policy = header_policy(IDENTITY_NAMES, b"gw")
    assert policy.learn(name) is action
    assert policy.actions == {name: action}


@pytest.mark.rule("R340")
def test_identity_wins_over_every_other_meaning() -> None:
    """Even where the configuration chose a name that would pass otherwise."""
    assert header_policy(["via"], b"gw").learn(b"Via") is Action.DROP


_NAMES = st.sampled_from([b"X-User-Id", b"x_scope", b"Via", b"HTTP_VIA", b"TE", b"X-A"]) | st.binary(max_size=12)
_POLICY = header_policy(IDENTITY_NAMES, b"gw")


@given(_NAMES)
@pytest.mark.rule("R264", "R341")
def test_a_name_means_the_same_each_time(name: bytes) -> None:
    """What is remembered is what would be decided anew; an identity name is never kept."""
    action = _POLICY.learn(name)
    assert header_policy(IDENTITY_NAMES, b"gw").learn(name) is action
    assert fold(name) not in _POLICY.identity_names or action is Action.DROP


def test_policy_is_blind_to_what_passes_unread() -> None:
    policy = header_policy(IDENTITY_NAMES, b"gw")
    names = (
        b"X-Trace",
        b"cookie",
        b"Via",
        b"origin",
        b"x-user-id",
        b"x_user_id",
        b"Connection",
        b"X-Forwarded-For",
        b"DPoP",
    )
    assert [name for name in names if policy.blind_to(name)] == [b"X-Trace", b"cookie"]


@pytest.mark.rule("R340", "R341")
def test_policy_is_never_blind_to_a_field_that_may_hold_a_key() -> None:
    """In no spelling; its value decides who is asking, so no section with another one is the same."""
    policy = header_policy(IDENTITY_NAMES, b"gw", (), ["x-api-key", "partner_key"], plain_only=False)
    for name in (b"X-Api-Key", b"x-api-key", b"X_API_KEY", b"Http-X-Api-Key", b"Partner-Key", b"partner_key"):
        assert not policy.blind_to(name)
        assert policy.learn(name) is Action.KEEP  # on routes that take no keys it passes
    assert policy.blind_to(b"X-Api-Keys")


def test_key_fields_are_those_of_the_routes_that_take_keys() -> None:
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
    policy = compile_header_policy(settings, b"gw", [b"x-api-key", b"partner_key"])
    assert policy.key_names == {b"x-api-key", b"partner-key"}
    assert pipeline_of(settings, FakeClock()).header_policy.key_names == policy.key_names


@pytest.mark.rule("R139")
def test_the_field_of_a_clients_certificate_passes_in_no_spelling() -> None:
    """From any client, trusted or not; and nothing may be remembered past it."""
    settings = Settings.model_validate(
        {
            "server": {"client_certificate_header": "X-Client-TLS", "trusted_proxies": ["10.0.0.1"]},
            "upstreams": [{"name": "u", "urls": ["http://127.0.0.1:1"]}],
            "routes": [{"path": "/a", "upstream": "u"}],
        }
    )
    policy = compile_header_policy(settings, b"gw")
    for name in (b"X-Client-TLS", b"x_client_tls", b"HTTP_X_CLIENT_TLS"):
        assert policy.learn(name) is Action.DROP
        assert not policy.blind_to(name)
