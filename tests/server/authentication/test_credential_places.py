"""``gateway/server/authentication/credential_places.py``: the one credential, or why it is not found."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import GatewayError, Reason, Reasons
from gateway.features.api_keys.reasons import MALFORMED_API_KEY
from gateway.server.authentication.credential_places import bearer_token, field_credential, sent_as_dpop
from gateway.server.seam.credential import Shown

TOKEN = b"eyJhbGciOiJSUzI1NiJ9.e30.c2ln"


def _reason(authorization: list[bytes], query: bytes = b"") -> Reason | None:
    try:
        bearer_token(authorization, query)
    except GatewayError as error:
        return error.reason
    return None


@pytest.mark.parametrize(
    "value",
    [
        b"Bearer " + TOKEN,
        b"bearer " + TOKEN,
        b"BEARER " + TOKEN,
        b"bEaReR " + TOKEN,
        b"Bearer  " + TOKEN,
        b"Bearer      " + TOKEN,
        b" Bearer " + TOKEN + b" \t",
    ],
)
@pytest.mark.rule("R102", "C20")
def test_scheme_in_any_case_and_spaces_before_the_token_are_accepted(value: bytes) -> None:
    assert bearer_token([value], b"") == Shown(TOKEN, "Bearer", b"")


@pytest.mark.parametrize(
    "token", [b"a", b"00Dxx!AQ.Uo_.x", b"a.b.c==", b"\xff\xfe", b"'--", b"{}", b"a\x00b", b"Bearer"]
)
@pytest.mark.rule("C06", "C95")
def test_odd_characters_are_left_to_the_verifier(token: bytes) -> None:
    """Not a malformed request but an invalid token."""
    assert bearer_token([b"Bearer " + token], b"") == Shown(token, "Bearer", b"")


@pytest.mark.parametrize("value", [b"DPoP a.b.c", b"dpop  a.b.c", b" DPOP a.b.c\t"])
@pytest.mark.rule("R133")
def test_the_scheme_dpop_is_told_from_bearer(value: bytes) -> None:
    """RFC 9449 section 7.1."""
    assert bearer_token([value], b"") == Shown(b"a.b.c", "DPoP", b"")
    assert bearer_token([b"Bearer a.b.c"], b"") == Shown(b"a.b.c", "Bearer", b"")


@pytest.mark.parametrize(
    ("authorization", "said"),
    [
        ([b"DPoP x"], True),
        ([b" dpop  x"], True),
        ([b"Bearer x"], False),
        ([b"DPoPx"], False),
        ([b"x", b"DPoP y"], True),
    ],
)
@pytest.mark.rule("R133")
def test_what_a_request_says_of_its_scheme_is_known_without_the_token(authorization: list[bytes], said: bool) -> None:
    """An error belongs into the challenge of the scheme in use, also when there is no one token."""
    assert sent_as_dpop(authorization) is said
    assert not sent_as_dpop([])


@pytest.mark.rule("R104", "R133")
def test_two_schemes_at_once_are_several_credentials() -> None:
    for values in ([b"DPoP a", b"Bearer a"], [b"DPoP a, Bearer a"], [b"Basic a, DPoP b"], [b"DPoP a, DPoP a"]):
        assert _reason(values) is Reasons.SEVERAL_CREDENTIALS
    assert _reason([b"DPoP a"], b"access_token=x") is Reasons.SEVERAL_CREDENTIALS


@pytest.mark.rule("R199")
def test_the_token_keeps_its_bytes() -> None:
    """No case folding, no decoding."""
    assert bearer_token([b"Bearer AbC%2e.dEf"], b"").value == b"AbC%2e.dEf"


@pytest.mark.parametrize("query", [b"", b"a=1", b"access_token=" + TOKEN])
@pytest.mark.rule("R100", "R106")
def test_no_field_is_no_credential_even_with_a_token_in_the_query(query: bytes) -> None:
    """A query token is never used."""
    assert _reason([], query) is Reasons.NO_CREDENTIAL


@pytest.mark.parametrize(
    "value",
    [b"Basic abc", b"Token " + TOKEN, b'Digest username="x", realm="y"', TOKEN, b"BearerX y", b"Bearer.x y"],
)
@pytest.mark.rule("R103", "C20")
def test_other_scheme_or_bare_token_is_other_scheme(value: bytes) -> None:
    assert _reason([value]) is Reasons.OTHER_SCHEME


@pytest.mark.parametrize(
    "value",
    [
        b"Bearer",
        b"DPoP",
        b"dpop\tx",
        b"DPoP a b",
        b"DPoP=x",
        b"Bearer ",
        b"bearer",
        b"Bearer a b",
        b"Bearer a\tb",
        b"Bearer=x",
        b"Bearer\tx",
        b"Bearer \tx",
        b"",
        b"  ",
        b"\xff x",
    ],
)
@pytest.mark.rule("R101", "R102", "C20")
def test_malformed_field_is_malformed(value: bytes) -> None:
    assert _reason([value]) is Reasons.MALFORMED_AUTHORIZATION


@pytest.mark.parametrize(
    "authorization",
    [
        [b"Bearer " + TOKEN, b"Bearer " + TOKEN],
        [b"Bearer " + TOKEN, b"junk"],
        [b"junk", b"Bearer " + TOKEN],
        [b"Basic abc", b"Bearer " + TOKEN],
        [b"", b"Bearer " + TOKEN],
        [b"Bearer a,b"],
        [b"Bearer a, Bearer b"],
        [b"Bearer a , Bearer b"],
        [b"Basic abc, Bearer " + TOKEN],
        [b"Basic abc,bearer " + TOKEN],
        [b"Bearer, Bearer x"],
    ],
)
@pytest.mark.rule("R104", "C20", "C21")
def test_two_credentials_are_refused_never_chosen_from(authorization: list[bytes]) -> None:
    assert _reason(authorization) is Reasons.SEVERAL_CREDENTIALS


@pytest.mark.parametrize(
    "query",
    [
        b"access_token=x",
        b"a=1&access_token=x&b=2",
        b"a=1;access_token=x",
        b"access%5Ftoken=x",
        b"%61ccess_token=x",
        b"access_token",
        b"access_token=",
        b"&&access_token=x",
    ],
)
@pytest.mark.rule("R105", "C21")
def test_a_second_token_in_the_query_is_refused(query: bytes) -> None:
    """A service that reads the query would use another credential than the one checked."""
    assert _reason([b"Bearer " + TOKEN], query) is Reasons.SEVERAL_CREDENTIALS


@pytest.mark.parametrize(
    "query", [b"a=access_token", b"xaccess_token=1", b"access_tokens=1", b"access=1", b"%zz=1", b"Access_Token=1"]
)
@pytest.mark.rule("R105")
def test_other_parameters_are_no_credentials(query: bytes) -> None:
    assert bearer_token([b"Bearer " + TOKEN], query).value == TOKEN


@given(st.lists(st.binary(max_size=60), max_size=3), st.binary(max_size=60))
def test_any_bytes_give_a_token_or_a_refusal(authorization: list[bytes], query: bytes) -> None:
    """D7: no other exception; and a token never holds what could separate two."""
    try:
        token = bearer_token(authorization, query)
    except GatewayError:
        return
    assert token.value
    assert not set(token.value) & set(b" \t,")
    assert (token.scheme in ("Bearer", "DPoP"), token.field) == (True, b"")


@pytest.mark.rule("R101")
def test_long_hostile_values_cost_linear_time() -> None:
    """A head of commas and blanks is scanned once."""
    for value in (b"," * 60_000, b", " * 30_000, b"Basic x" + b" ," * 30_000 + b"bearer", b" " * 60_000 + b"x"):
        assert _reason([value]) is not None


KEY, FIELD = b"gwk_partner_0123", b"x-api-key"


def _shown(keys: list[bytes], authorization: list[bytes], query: bytes = b"") -> Shown:
    return field_credential(FIELD, keys, authorization, query, MALFORMED_API_KEY)


def _key_reason(keys: list[bytes], authorization: list[bytes], query: bytes = b"") -> Reason | None:
    try:
        _shown(keys, authorization, query)
    except GatewayError as error:
        return error.reason
    return None


@pytest.mark.rule("R102")
def test_one_key_alone_is_the_credential() -> None:
    """Byte for byte, without the white space around a field's value; its field tells it from a token."""
    for value in (KEY, b" \t" + KEY + b"\t "):
        assert _shown([value], [], b"a=1&key=x") == Shown(KEY, "", FIELD)
    assert _shown([b"a, b\xff c"], [], b"") == Shown(b"a, b\xff c", "", FIELD)
    assert bearer_token([b"Bearer " + TOKEN], b"").field == b""


@pytest.mark.parametrize(
    ("keys", "authorization", "query", "reason"),
    [
        ([KEY, KEY], [], b"", Reasons.SEVERAL_CREDENTIALS),
        ([KEY, b""], [], b"", Reasons.SEVERAL_CREDENTIALS),
        ([KEY], [b"Bearer " + TOKEN], b"", Reasons.SEVERAL_CREDENTIALS),
        ([KEY], [b"Basic eDp5"], b"", Reasons.SEVERAL_CREDENTIALS),
        ([KEY], [b""], b"", Reasons.SEVERAL_CREDENTIALS),
        ([KEY], [], b"access%5Ftoken=x", Reasons.SEVERAL_CREDENTIALS),
        ([b""], [], b"", MALFORMED_API_KEY),
        ([b" \t "], [], b"", MALFORMED_API_KEY),
        ([b""], [b"Bearer " + TOKEN], b"", Reasons.SEVERAL_CREDENTIALS),
    ],
)
@pytest.mark.rule("R102", "R103", "R105", "C20", "C21")
def test_key_beside_anything_else_is_refused(
    keys: list[bytes], authorization: list[bytes], query: bytes, reason: Reason
) -> None:
    """Which one is meant is not guessed."""
    assert _key_reason(keys, authorization, query) is reason


@given(
    st.lists(st.binary(max_size=20), min_size=1, max_size=3),
    st.lists(st.binary(max_size=20), max_size=2),
    st.sampled_from([b"", b"a=1", b"access_token=x", b"%61ccess_token"]) | st.binary(max_size=20),
)
@pytest.mark.rule("R105")
def test_key_is_taken_only_when_it_is_all_that_there_is(
    keys: list[bytes], authorization: list[bytes], query: bytes
) -> None:
    """No other exception; and what is returned is the one value, of which nothing is lost but blanks."""
    reason = _key_reason(keys, authorization, query)
    assert reason in (None, Reasons.SEVERAL_CREDENTIALS, MALFORMED_API_KEY)
    if reason is not None:
        return
    key = _shown(keys, authorization, query)
    assert len(keys) == 1
    assert authorization == []
    assert key.value == keys[0].strip(b" \t") != b""
    assert (key.scheme, key.field) == ("", FIELD)
    assert _reason([b"Bearer " + TOKEN], query) is None  # no second credential in the query either
