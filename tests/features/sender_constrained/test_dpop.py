"""DPoP proofs: their form, and what they must be for."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import GatewayError, Reason
from gateway.features.sender_constrained.dpop import (
    MAX_ID,
    MAX_PROOF,
    Wanted,
    Window,
    check_proof,
    check_signature,
    parse_proof,
    proof_algorithms,
    token_hash,
)
from gateway.features.sender_constrained.reasons import (
    FOREIGN_PROOF,
    MALFORMED_PROOF,
    PROOF_SIGNATURE,
    STALE_PROOF,
    UNUSABLE_PROOF_KEY,
    WRONG_PROOF_KEY,
)
from tests.support.tokens.minting import ABSENT, SigningKey, b64, mint_raw
from tests.support.tokens.proofs import make_proof, proof_claims

NOW = 1_800_000_000.0
TOKEN = b"aaa.bbb.ccc"
URI = "https://gateway.test/orders"
WINDOW = Window(past=60, future=5)
ALL = proof_algorithms(["ES256", "ES384", "ES512", "RS256", "PS256", "EdDSA"])
KEY = SigningKey.ec("proof")


def judge(proof: bytes, key: SigningKey = KEY, *, token: bytes = TOKEN, method: str = "GET") -> Reason | None:
    """Return why a proof is refused; None when it is good."""
    try:
        parsed = parse_proof(proof, ALL)
        check_proof(parsed, Wanted(method, frozenset({URI}), token, key.jwk_thumbprint), WINDOW, NOW)
        check_signature(parsed)
    except GatewayError as error:
        return error.reason
    return None


def proof(key: SigningKey = KEY, **options: Any) -> bytes:
    return make_proof(key, TOKEN, NOW, **{"uri": URI, **options})


@pytest.mark.parametrize(
    ("key", "alg"),
    [
        (SigningKey.ec("proof"), "ES256"),
        (SigningKey.ec("proof", "P-384"), "ES384"),
        (SigningKey.ec("proof", "P-521"), "ES512"),
        (SigningKey.rsa("proof"), "RS256"),
        (SigningKey.rsa("proof"), "PS256"),
        (SigningKey.ed25519("proof"), "EdDSA"),
        (SigningKey.ed25519("proof"), "Ed25519"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
@pytest.mark.rule("R134")
def test_a_proof_of_each_algorithm_is_good(key: SigningKey, alg: str) -> None:
    assert judge(proof(key, alg=alg), key) is None


@pytest.mark.rule("R134", "R135", "R136")
def test_the_example_of_the_standard_is_read() -> None:
    """RFC 9449 section 7.1, figures 12 and 13."""
    token = b"Kz~8mXK1EalYznwH-LC-1fBAo.4Ljp~zsPE_NeO.gxU"
    value = (
        b"eyJ0eXAiOiJkcG9wK2p3dCIsImFsZyI6IkVTMjU2IiwiandrIjp7Imt0eSI6IkVDIiwieCI6Imw4dEZyaHgtMzR0VjNoUklDUkRZOXpDa0Rs"
        b"cEJoRjQyVVFVZldWQVdCRnMiLCJ5IjoiOVZFNGpmX09rX282NHpiVFRsY3VOSmFqSG10NnY5VERWclUwQ2R2R1JEQSIsImNydiI6IlAtMjU2"
        b"In19.eyJqdGkiOiJlMWozVl9iS2ljOC1MQUVCIiwiaHRtIjoiR0VUIiwiaHR1IjoiaHR0cHM6Ly9yZXNvdXJjZS5leGFtcGxlLm9yZy9wcm90"
        b"ZWN0ZWRyZXNvdXJjZSIsImlhdCI6MTU2MjI2MjYxOCwiYXRoIjoiZlVIeU8ycjJaM0RaNTNFc05yV0JiMHhXWG9hTnk1OUlpS0NBcWtzbVFF"
        b"byJ9.2oW9RP35yRqzhrtNP86L-Ey71EOptxRimPPToA1plemAgR6pxHF8y6-yqyVnmcw6Fy1dqd-jfxSYoMxhAJpLjA"
    )
    parsed = parse_proof(value, ALL)
    check_signature(parsed)
    assert parsed.header.key.thumbprint == "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"
    assert (parsed.method, parsed.uri) == ("GET", "https://resource.example.org/protectedresource")
    assert parsed.token_hash == token_hash(token) == "fUHyO2r2Z3DZ53EsNrWBb0xWXoaNy59IiKCAqksmQEo"


MALFORMED: dict[str, Callable[[], bytes]] = {
    "typ JWT": lambda: proof(header={"typ": "JWT"}),
    "typ at+jwt": lambda: proof(header={"typ": "at+jwt"}),
    "no typ": lambda: proof(header={"typ": ABSENT}),
    "typ a number": lambda: proof(header={"typ": 1}),
    "alg none": lambda: proof(header={"alg": "none"}),
    "alg HS256": lambda: proof(header={"alg": "HS256"}),
    "alg not configured": lambda: proof(header={"alg": "PS512"}),
    "alg absent": lambda: proof(header={"alg": ABSENT}),
    "alg a list": lambda: proof(header={"alg": ["ES256"]}),
    "crit": lambda: proof(header={"crit": ["x"], "x": 1}),
    "b64": lambda: proof(header={"b64": False}),
    "no jti": lambda: proof(jti=ABSENT),
    "empty jti": lambda: proof(jti=""),
    "jti a number": lambda: proof(jti=7),
    "long jti": lambda: proof(jti="x" * (MAX_ID + 1)),
    "no htm": lambda: proof(htm=ABSENT),
    "htm a list": lambda: proof(htm=["GET"]),
    "no htu": lambda: proof(htu=ABSENT),
    "htu an object": lambda: proof(htu={}),
    "no iat": lambda: proof(iat=ABSENT),
    "iat a text": lambda: proof(iat=str(int(NOW))),
    "iat true": lambda: proof(iat=True),
    "iat huge": lambda: proof(iat=10**400),
    "ath a number": lambda: proof(ath=1),
    "nonce null": lambda: proof(nonce=None),
    "empty": lambda: b"",
    "two parts": lambda: b".".join(proof().split(b".")[:2]),
    "four parts": lambda: proof() + b".x",
    "unsigned": lambda: proof().rpartition(b".")[0] + b".",
    "padded": lambda: proof() + b"=",
    "other spelling of base64": lambda: proof().replace(b".", b"+.", 1),
    "list of two": lambda: proof() + b", " + proof(),
    "too long": lambda: proof(x="x" * MAX_PROOF),
    "header no object": lambda: mint_raw(KEY, b"[]", b"{}", "ES256"),
    "payload no object": lambda: b".".join([proof().split(b".")[0], b64(b"1"), b"AAAA"]),
}


@pytest.mark.parametrize("name", MALFORMED)
@pytest.mark.rule("R134")
def test_a_proof_of_another_form_is_malformed(name: str) -> None:
    """RFC 9449 section 4.3, points 2 to 5."""
    assert judge(MALFORMED[name]()) is MALFORMED_PROOF


@pytest.mark.rule("R134")
def test_members_that_stand_twice_are_malformed() -> None:
    """Two readers would see two proofs."""
    header = json.dumps({"typ": "dpop+jwt", "alg": "ES256", "jwk": KEY.public_jwk()}).encode()
    claims = json.dumps(proof_claims(TOKEN, NOW, uri=URI)).encode()
    assert judge(mint_raw(KEY, header, claims[:-1] + b', "htm": "GET"}', "ES256")) is MALFORMED_PROOF
    assert judge(mint_raw(KEY, header[:-1] + b', "alg": "ES256"}', claims, "ES256")) is MALFORMED_PROOF
    assert judge(mint_raw(KEY, header, claims, "ES256")) is None


UNUSABLE: dict[str, Any] = {
    "absent": ABSENT,
    "a text": "x",
    "a list": [KEY.public_jwk()],
    "private": KEY.private_jwk(),
    "private RSA": SigningKey.rsa("proof").private_jwk(),
    "null private member": KEY.public_jwk(d=None),
    "symmetric": {"kty": "oct", "k": "AAAA"},
    "a public key with k": KEY.public_jwk(k="AAAA"),
    "point not on the curve": KEY.public_jwk(x=KEY.public_jwk()["y"]),
    "other curve": SigningKey.ec("proof", "secp256k1").public_jwk(),
    "Ed448": SigningKey.ed448("proof").public_jwk(),
    "short RSA": SigningKey.rsa("proof", bits=1024).public_jwk(),
    "for encryption": KEY.public_jwk(use="enc"),
    "a reference": {"jku": "https://evil.test/keys", "kid": "a"},
}


@pytest.mark.parametrize("name", UNUSABLE)
@pytest.mark.rule("R134")
def test_only_a_sound_public_key_makes_a_proof(name: str) -> None:
    """RFC 9449 section 4.3, points 6 and 7; keys are judged like those of issuers."""
    assert judge(proof(header={"jwk": UNUSABLE[name]})) is UNUSABLE_PROOF_KEY


@pytest.mark.rule("R134")
def test_a_signature_of_another_key_or_over_other_bytes_is_refused() -> None:
    """RFC 9449 section 4.3, point 6."""
    other = SigningKey.ec("other")
    assert judge(proof(other, header={"jwk": KEY.public_jwk()})) is PROOF_SIGNATURE
    head, _, signature = proof().split(b".")
    changed = b64(json.dumps(proof_claims(TOKEN, NOW, uri=URI)).encode())
    assert judge(b".".join([head, changed, signature])) is PROOF_SIGNATURE
    assert judge(proof(header={"alg": "RS256"})) is PROOF_SIGNATURE  # an algorithm of another kind of key


@pytest.mark.rule("R136")
def test_another_key_than_the_tokens_is_refused_before_its_signature_is_looked_at() -> None:
    other = SigningKey.ec("other")
    assert judge(proof(other)) is WRONG_PROOF_KEY
    assert judge(proof(KEY, header={"jwk": other.public_jwk()})) is WRONG_PROOF_KEY


@pytest.mark.parametrize(
    "claims",
    [
        {"htm": "POST"},
        {"htm": "get"},
        {"htu": "https://gateway.test/"},
        {"htu": "https://other.test/orders"},
        {"htu": "http://gateway.test/orders"},
        {"htu": "https://gateway.test:444/orders"},
        {"htu": "/orders"},
        {"ath": ABSENT},
        {"ath": token_hash(b"another")},
        {"ath": token_hash(TOKEN) + "="},
    ],
    ids=str,
)
@pytest.mark.rule("R135", "R136")
def test_a_proof_for_another_request_or_token_is_foreign(claims: dict[str, Any]) -> None:
    """RFC 9449 section 4.3, points 8, 9 and 12."""
    assert judge(proof(**claims)) is FOREIGN_PROOF


@pytest.mark.rule("R135")
def test_query_and_fragment_of_the_uri_do_not_count() -> None:
    assert judge(proof(htu=URI + "?a=1#b")) is None


@pytest.mark.parametrize(("age", "good"), [(0, True), (60, True), (61, False), (-5, True), (-6, False), (600, False)])
@pytest.mark.rule("R137")
def test_the_time_of_a_proof_has_a_window(age: int, good: bool) -> None:
    """RFC 9449 section 4.3, point 11."""
    assert judge(proof(iat=NOW - age)) is (None if good else STALE_PROOF)


@pytest.mark.rule("R137")
def test_times_beyond_all_measure_are_stale() -> None:
    assert judge(proof(iat=-1e300)) is judge(proof(iat=2**63)) is STALE_PROOF


def test_either_name_of_ed25519_admits_both() -> None:
    assert {"EdDSA", "Ed25519"} <= proof_algorithms(["Ed25519", "ES256"])
    assert proof_algorithms(["ES256"]) == {"ES256"}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
MEMBERS = st.dictionaries(st.sampled_from(["typ", "alg", "jwk", "crit", "kid"]) | st.text(max_size=8), JSON, max_size=5)
CLAIMS = st.dictionaries(
    st.sampled_from(["htm", "htu", "iat", "jti", "ath", "nonce"]) | st.text(max_size=8), JSON, max_size=6
)
JWK = st.dictionaries(
    st.sampled_from(["kty", "crv", "x", "y", "n", "e", "d", "alg", "use", "key_ops"]), JSON, max_size=6
)


@given(st.binary(max_size=300) | st.lists(st.binary(max_size=60), min_size=3, max_size=3).map(b".".join))
@pytest.mark.rule("R134")
def test_any_bytes_are_a_refusal(value: bytes) -> None:
    """Never another exception."""
    assert judge(value) is MALFORMED_PROOF


@given(MEMBERS, CLAIMS, JWK)
@pytest.mark.rule("R134")
def test_any_members_are_a_refusal(members: dict[str, Any], claims: dict[str, Any], jwk: dict[str, Any]) -> None:
    """Whatever JSON can say in the place of each member."""
    good = {"typ": "dpop+jwt", "alg": "ES256", "jwk": KEY.public_jwk()}
    for header in ({**good, **members}, {**good, "jwk": jwk}, {**good, "jwk": {**KEY.public_jwk(), **jwk}}):
        whole = {**proof_claims(TOKEN, NOW, uri=URI), **claims}
        value = b64(json.dumps(header).encode()) + b"." + b64(json.dumps(whole).encode()) + b".AAAA"
        assert judge(value) in {
            MALFORMED_PROOF,
            UNUSABLE_PROOF_KEY,
            WRONG_PROOF_KEY,
            FOREIGN_PROOF,
            STALE_PROOF,
            PROOF_SIGNATURE,
        }
