"""Rules on where a credential may stand (RFC 6750 section 2), one test a rule."""

from __future__ import annotations

import pytest

from gateway.errors import Challenge, GatewayError
from gateway.features.api_keys.reasons import MALFORMED_API_KEY
from gateway.server.authentication.credential_places import bearer_token, field_credential


def _refusal(authorization: list[bytes], query: bytes = b"") -> GatewayError:
    with pytest.raises(GatewayError) as caught:
        bearer_token(authorization, query)
    return caught.value


def _face(error: GatewayError) -> tuple[int, str, Challenge]:
    kind = error.reason.kind
    return kind.status, kind.error, kind.challenge


NO_CREDENTIAL = (401, "missing_token", Challenge.BARE)
BAD_REQUEST = (400, "invalid_request", Challenge.ERROR)


@pytest.mark.rule("R100")
def test_no_credential_is_401_without_an_error_code() -> None:
    assert _face(_refusal([])) == NO_CREDENTIAL


@pytest.mark.parametrize("value", [b"Bearer", b"Bearer ", b"Bearer a b", b"Bearer a,b", b"Bearer=x"])
@pytest.mark.rule("R101")
def test_malformed_authorization_is_400(value: bytes) -> None:
    assert _face(_refusal([value])) == BAD_REQUEST


@pytest.mark.parametrize("value", [b"bearer x", b"BEARER x", b"Bearer  x"])
@pytest.mark.rule("R102")
def test_scheme_is_case_insensitive_with_one_or_more_spaces(value: bytes) -> None:
    assert bearer_token([value], b"").value == b"x"


@pytest.mark.rule("R102")
def test_a_tab_after_the_scheme_is_refused() -> None:
    assert _face(_refusal([b"Bearer\tx"])) == BAD_REQUEST


@pytest.mark.parametrize("value", [b"Basic x", b"Digest x"])
@pytest.mark.rule("R103")
def test_other_scheme_is_401_with_a_bearer_challenge(value: bytes) -> None:
    assert _face(_refusal([value])) == NO_CREDENTIAL


@pytest.mark.parametrize(
    "authorization", [[b"Bearer a", b"Bearer a"], [b"Bearer a", b"Bearer b"], [b"Bearer a, Bearer b"]]
)
@pytest.mark.rule("R104")
def test_two_authorization_fields_are_400(authorization: list[bytes]) -> None:
    assert _face(_refusal(authorization)) == BAD_REQUEST


@pytest.mark.rule("R105", "R107")
def test_header_and_query_token_together_are_400() -> None:
    """Cookies and form bodies are no place for a credential here, so they are none."""
    assert _face(_refusal([b"Bearer a"], b"access_token=b")) == BAD_REQUEST


@pytest.mark.parametrize("authorization", [[b"Bearer a"], [b"Basic eDp5"], [b""], [b"Bearer a", b"Bearer b"]])
@pytest.mark.rule("R105")
def test_key_and_anything_in_authorization_together_are_400(authorization: list[bytes]) -> None:
    """With a key in a field of its own; so are two keys, and a key and a token in the query."""
    for keys, fields, query in (([b"k"], authorization, b""), ([b"k", b"k"], [], b""), ([b"k"], [], b"access_token=b")):
        with pytest.raises(GatewayError) as caught:
            field_credential(b"x-api-key", keys, fields, query, MALFORMED_API_KEY)
        assert _face(caught.value) == BAD_REQUEST


@pytest.mark.rule("R106")
def test_a_query_token_alone_is_no_credential() -> None:
    """The query form is not supported, so it is neither logged as one nor forwarded as one."""
    assert _face(_refusal([], b"access_token=b")) == NO_CREDENTIAL


@pytest.mark.rule("R107")
def test_only_the_header_and_the_query_are_ever_looked_at() -> None:
    """The extraction is given no body; a form token is no credential."""
    assert _face(_refusal([], b"")) == NO_CREDENTIAL
