"""gateway/jwt/jose/compact.py: a token taken apart, and its signature checked."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.errors import GatewayError, Reason, Reasons
from gateway.identity import Identity
from gateway.jwt.claims.rules import check_header
from gateway.jwt.jose.compact import MAX_HEADER, Unverified, parse_header, parse_token, verify_signature
from gateway.jwt.jose.keys import VerifyingKey
from tests.support.tokens.minting import SigningKey, b64, good_claims, mint, mint_raw
from tests.support.tokens.verifying import MAX_BYTES, NOW, judge, keys_of, make_policy

KEY = SigningKey.rsa("a")
TOKEN = mint(KEY, good_claims(NOW))


def refusal(token: bytes, max_bytes: int = MAX_BYTES) -> GatewayError:
    with pytest.raises(GatewayError) as caught:
        parse_token(token, max_bytes)
    return caught.value


@pytest.mark.rule("R062")
def test_a_token_comes_apart() -> None:
    """What was signed is the text before the second dot, byte for byte."""
    token = mint(KEY, good_claims(NOW), header={"nonce": "n"})
    parsed = parse_token(token, MAX_BYTES)
    assert (parsed.algorithm, parsed.key_id, parsed.token_type) == ("RS256", "a", "JWT")
    assert parsed.claims == good_claims(NOW)
    assert parsed.issuer == "https://idp.test/"
    assert parsed.signing_input + b"." + b64(parsed.signature) == token
    assert parsed.header_nonce
    assert not parse_token(TOKEN, MAX_BYTES).header_nonce


@pytest.mark.parametrize("iss", [None, 5, ["https://idp.test/"]])
@pytest.mark.rule("R085")
def test_an_issuer_that_is_no_text_is_none(iss: Any) -> None:
    """The claim itself stays as it was."""
    parsed = parse_token(mint(KEY, good_claims(NOW, iss=iss)), MAX_BYTES)
    assert parsed.issuer is None
    assert parsed.claims["iss"] == iss


@pytest.mark.rule("R052")
def test_the_bounds_are_exact() -> None:
    """The last allowed length passes, one more does not."""
    assert parse_token(TOKEN, len(TOKEN))
    assert refusal(TOKEN, len(TOKEN) - 1).reason is Reasons.TOKEN_TOO_LONG
    base = b'{"alg":"RS256","kid":"a","x":""}'
    header = base[:-2] + b"y" * (2048 - len(base)) + base[-2:]
    assert len(b64(header)) == MAX_HEADER
    assert parse_token(mint_raw(KEY, header, b"{}"), MAX_BYTES)
    assert refusal(mint_raw(KEY, header.replace(b'"x":"', b'"x":"y'), b"{}")).reason is Reasons.TOKEN_TOO_LONG
    signing_input = TOKEN.rpartition(b".")[0]
    assert len(parse_token(signing_input + b"." + b64(bytes(1024)), MAX_BYTES).signature) == 1024
    assert refusal(signing_input + b"." + b64(bytes(1025))).reason is Reasons.TOKEN_TOO_LONG


@given(st.binary(max_size=300) | st.text(".eyJ0bGciOA_-=", max_size=60).map(str.encode))
@settings(deadline=None)
@pytest.mark.rule("R094")
def test_arbitrary_bytes_are_a_token_or_a_refusal(token: bytes) -> None:
    """No other exception leaves the parser."""
    with contextlib.suppress(GatewayError):
        assert isinstance(parse_token(token, MAX_BYTES), Unverified)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
NAMES = ["alg", "kid", "typ", "crit", "b64", "cty", "iss", "sub", "aud", "exp", "nbf", "iat", "scope", "cnf", "events"]


@given(st.dictionaries(st.sampled_from(NAMES), JSON), st.dictionaries(st.sampled_from(NAMES), JSON), st.booleans())
@settings(deadline=None)
@pytest.mark.rule("R094", "C13")
def test_signed_nonsense_is_an_identity_or_a_refusal(
    header: dict[str, Any], claims: dict[str, Any], wholly: bool
) -> None:
    """Odd members in a header and claims that are right otherwise, or in nothing else."""
    good_header: dict[str, Any] = {} if wholly else {"alg": "RS256", "kid": "a"}
    good: dict[str, Any] = {} if wholly else good_claims(NOW)
    token = mint_raw(KEY, json.dumps(good_header | header).encode(), json.dumps(good | claims).encode())
    assert isinstance(judge(token, key_set=keys_of(KEY)), Identity | Reason)


@given(st.data())
@settings(deadline=None, max_examples=200)
@pytest.mark.rule("R027", "R061", "R094")
def test_no_damaged_token_passes(data: st.DataObject) -> None:
    """One byte anywhere."""
    token = bytearray(TOKEN)
    place = data.draw(st.integers(0, len(token) - 1))
    token[place] = data.draw(st.integers(0, 255).filter(lambda byte: byte != token[place]))
    assert isinstance(judge(bytes(token), key_set=keys_of(KEY)), Reason)


@pytest.mark.rule("R196", "R197")
def test_refusals_quote_nothing_but_header_names() -> None:
    """What an operator reads is printable, short, and holds no claim and no signature."""
    marker = "MARKER-in-the-token"
    policy = make_policy()
    for header in ({"alg": marker + "\r\n" + "x" * 500}, {"typ": "\x1b" + "+jwt"}):
        with pytest.raises(GatewayError) as caught:
            check_header(parse_token(mint(KEY, good_claims(NOW), header=header), MAX_BYTES), policy)
        assert caught.value.detail.isprintable()
        assert len(caught.value.detail) < 100
    for token in (marker.encode(), b64(b'{"alg":5,"x":"%s"}' % marker.encode()) + b".e30.AAAA", TOKEN + b"." + TOKEN):
        assert marker not in str(refusal(token)) + refusal(token).detail


def test_remembered_headers_are_bounded() -> None:
    """CWE-770: names that an attacker makes up do not pile up; refusals are not kept at all."""
    for number in range(600):
        parse_header(b64(b'{"alg":"RS256","kid":"%d"}' % number))
        with pytest.raises(GatewayError):
            parse_header(b64(b'{"alg":5,"kid":"%d"}' % number))
    assert parse_header.cache_info().currsize <= 256


@pytest.mark.rule("R031", "R185")
def test_the_key_that_signed_is_named() -> None:
    """The cache ties an entry to it."""
    other = SigningKey.rsa("a", variant=1)
    keys = keys_of(other, KEY)
    token = parse_token(TOKEN, MAX_BYTES)
    assert verify_signature(token, keys.candidates("a", "RS256")).thumbprint == KEY.jwk_thumbprint
    with pytest.raises(GatewayError) as caught:
        verify_signature(token, ())
    assert caught.value.reason is Reasons.BAD_SIGNATURE


@pytest.mark.rule("R009", "R010")
def test_keys_of_other_algorithms_are_not_tried() -> None:
    """Whatever the caller hands over."""
    (key,) = keys_of(KEY.public_jwk(alg="PS256")).keys
    with pytest.raises(GatewayError) as caught:
        verify_signature(parse_token(TOKEN, MAX_BYTES), (key,))
    assert caught.value.reason is Reasons.BAD_SIGNATURE


class BrokenKey:
    """A key whose use raises, as foreign code may."""

    def get_op_key(self, _operation: str) -> None:
        raise RecursionError("text that must not be shown")


@pytest.mark.rule("R094")
def test_a_check_that_breaks_is_a_refusal_and_stops_no_other_key() -> None:
    """Of the exception only the name is shown."""
    broken = VerifyingKey("a", frozenset({"RS256"}), "x", BrokenKey())  # type: ignore[arg-type]
    token = parse_token(TOKEN, MAX_BYTES)
    with pytest.raises(GatewayError) as caught:
        verify_signature(token, (broken,))
    assert (caught.value.reason, caught.value.detail) == (Reasons.VERIFICATION_FAILED, "RecursionError")
    good = keys_of(KEY).keys[0]
    assert verify_signature(token, (broken, good)) is good


@pytest.mark.parametrize("algorithm", ["none", "HS256", "ES256K", "Ed448", "x"])
@pytest.mark.rule("R003", "R005")
def test_there_is_no_verifier_for_other_algorithms(algorithm: str) -> None:
    """Even if everything before had failed."""
    with pytest.raises(GatewayError) as caught:
        verify_signature(Unverified(algorithm, None, None, {}, None, b"", b""), keys_of(KEY).keys)
    assert caught.value.reason is Reasons.ALGORITHM_REFUSED
