"""gateway/jwt/jose/keys.py: the key set, its look-ups, and the import from JWKS and PEM."""

from __future__ import annotations

import datetime
import json
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from joserfc.jwk import ECKey, OKPKey, RSAKey

from gateway.jwt.jose.keys import (
    MAX_CANDIDATES,
    MAX_KEY_SET_BYTES,
    MAX_KEYS,
    KeySet,
    KeySetError,
    PreparedKey,
    import_jwks,
    import_keys,
    import_pem,
)
from tests.support.tokens.minting import ABSENT, SigningKey, b64, jwks, unb64

RSA, EC, ED = SigningKey.rsa("a"), SigningKey.ec("b"), SigningKey.ed25519("c")


def certificate(key: SigningKey) -> bytes:
    """Return an expired self-signed certificate of an RSA key."""
    assert isinstance(key.private, rsa.RSAPrivateKey)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "idp.test")])
    day = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
    builder = x509.CertificateBuilder(name, name, key.private.public_key(), 1, day, day + datetime.timedelta(1))
    return builder.sign(key.private, hashes.SHA256()).public_bytes(Encoding.PEM)


@pytest.mark.parametrize(
    ("key", "algorithms"),
    [
        (RSA, {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}),
        (EC, {"ES256"}),
        (SigningKey.ec("p", "P-384"), {"ES384"}),
        (SigningKey.ec("p", "P-521"), {"ES512"}),
        (ED, {"EdDSA", "Ed25519"}),
    ],
)
@pytest.mark.rule("R009", "R021", "C35")
def test_type_and_curve_decide_the_algorithms(key: SigningKey, algorithms: set[str]) -> None:
    (imported,) = import_jwks(jwks(key)).keys
    assert imported.algorithms == algorithms
    assert imported.kid == key.kid
    assert imported.thumbprint == key.jwk_thumbprint


@pytest.mark.parametrize(("named", "algorithms"), [("EdDSA", {"EdDSA", "Ed25519"}), ("Ed25519", {"EdDSA", "Ed25519"})])
@pytest.mark.rule("R020", "C24")
def test_both_names_of_ed25519_mean_one_algorithm(named: str, algorithms: set[str]) -> None:
    assert import_jwks(jwks(ED.public_jwk(alg=named))).keys[0].algorithms == algorithms


@pytest.mark.rule("R010")
def test_the_alg_member_binds() -> None:
    keys = import_jwks(jwks(RSA.public_jwk(alg="PS256")))
    assert keys.keys[0].algorithms == {"PS256"}
    assert keys.candidates("a", "RS256") == ()


@pytest.mark.rule("R170")
def test_the_identity_is_the_numbers_not_their_spelling() -> None:
    """A leading zero byte in n changes nothing, nor does PEM."""
    jwk = RSA.public_jwk()
    padded = {**jwk, "n": b64(b"\0" + unb64(jwk["n"].encode())).decode()}
    assert import_jwks(jwks(padded)).keys == import_jwks(jwks(RSA)).keys
    assert import_pem(RSA.public_bytes()).keys[0].thumbprint == RSA.jwk_thumbprint


@pytest.mark.rule("R169", "R170", "C78")
def test_trust_is_name_material_and_algorithms() -> None:
    old = import_jwks(jwks(RSA))
    key = old.keys[0]
    assert old.trusts(key)
    assert import_jwks(jwks(EC, RSA)).trusts(key)
    assert not import_jwks(jwks(EC)).trusts(key)
    assert not import_jwks(jwks(SigningKey.rsa("a", variant=1))).trusts(key)
    assert not import_jwks(jwks(RSA.public_jwk(kid="z"))).trusts(key)
    assert not import_jwks(jwks(RSA.public_jwk(alg="PS256"))).trusts(key)
    assert not KeySet().trusts(key)


@pytest.mark.rule("R032", "C33")
def test_candidates_follow_the_kid() -> None:
    """Repeated names all count, a name that no key has means the nameless keys."""
    twin = SigningKey.rsa("a", variant=1)
    nameless = SigningKey.rsa(None)
    keys = import_jwks(jwks(RSA, SigningKey.ec("a"), twin, nameless, EC))
    assert [key.thumbprint for key in keys.candidates("a", "RS256")] == [RSA.jwk_thumbprint, twin.jwk_thumbprint]
    assert [key.thumbprint for key in keys.candidates("z", "RS256")] == [nameless.jwk_thumbprint]
    assert keys.candidates("b", "RS256") == ()
    assert keys.candidates("a", "ES384") == ()
    assert len(keys.candidates(None, "RS256")) == 3
    assert keys.kids == ("a", "b")
    assert KeySet().candidates(None, "RS256") == KeySet().candidates("a", "RS256") == ()


@pytest.mark.rule("R031")
def test_nameless_tokens_try_a_bounded_number_of_keys() -> None:
    """The cost of one token does not grow with the set."""
    jwk = EC.public_jwk()
    keys = import_jwks(jwks(*({**jwk, "kid": str(number)} for number in range(20))))
    assert len(keys.candidates(None, "ES256")) == MAX_CANDIDATES
    del jwk["kid"]
    keys = import_jwks(jwks(*[jwk] * 20))
    assert len(keys.candidates("z", "ES256")) == MAX_CANDIDATES


@pytest.mark.parametrize(
    ("odd", "problem"),
    [
        pytest.param({"kty": "AKP", "alg": "ML-DSA-44", "pub": "AA"}, "kty", id="post-quantum"),
        pytest.param({"kid": "x"}, "kty", id="no kty"),
        pytest.param({"kty": ["RSA"]}, "kty", id="kty of the wrong type"),
        pytest.param("x", "not a JSON object", id="string"),
        pytest.param(None, "not a JSON object", id="null"),
        pytest.param({**EC.public_jwk(), "crv": "P-999"}, "crv", id="unknown curve"),
        pytest.param(SigningKey.ec("k", "secp256k1").public_jwk(), "crv", id="secp256k1"),
        pytest.param(SigningKey.ed448("k").public_jwk(), "crv", id="Ed448"),
        pytest.param(ED.public_jwk(crv="X25519"), "crv", id="X25519"),
        pytest.param({**EC.public_jwk(), "y": EC.public_jwk()["x"]}, "not those of a valid EC key", id="off curve"),
        pytest.param({"kty": "EC", "crv": "P-256", "x": "AA"}, "needs the strings", id="EC without y"),
        pytest.param({"kty": "RSA", "e": "AQAB", "x5c": ["AA"]}, "needs the strings", id="RSA without n"),
        pytest.param({**RSA.public_jwk(), "n": 5}, "needs the strings", id="n of the wrong type"),
        pytest.param({**RSA.public_jwk(), "e": "!!"}, "not those of a valid RSA key", id="bad base64"),
        pytest.param({**RSA.public_jwk(), "n": RSA.public_jwk()["n"] + "=="}, "not those of", id="padded base64"),
        pytest.param({**RSA.public_jwk(), "e": ""}, "not those of a valid RSA key", id="empty number"),
        pytest.param({**RSA.public_jwk(), "e": "AQ"}, "RSA", id="exponent 1"),
        pytest.param({**RSA.public_jwk(), "e": "BA"}, "RSA", id="exponent 4"),
        pytest.param({**RSA.public_jwk(), "e": "B" * 330}, "RSA", id="exponent of 2000 bits"),
        pytest.param({**RSA.public_jwk(), "n": "B" * 2731}, "longer than 8192 bits", id="RSA of 16384 bits"),
        pytest.param({**RSA.public_jwk(), "n": "_" * 1367 + "w"}, "bits", id="RSA above 8192 bits"),
        pytest.param(SigningKey.rsa("w", 1024).public_jwk(), "shorter than 2048 bits", id="RSA of 1024 bits"),
        pytest.param({**RSA.public_jwk(), "n": "_" * 86}, "shorter than 2048 bits", id="RSA of 512 bits"),
        pytest.param(RSA.public_jwk(kid=123), "'kid'", id="kid of the wrong type"),
        pytest.param(RSA.public_jwk(kid=None), "'kid'", id="kid null"),
        pytest.param(RSA.public_jwk(use="enc"), "'use'", id="for encryption"),
        pytest.param(RSA.public_jwk(use="foo"), "'use'", id="unknown use"),
        pytest.param(RSA.public_jwk(key_ops=["sign"]), "'key_ops'", id="for signing"),
        pytest.param(RSA.public_jwk(key_ops="verify"), "'key_ops'", id="key_ops of the wrong type"),
        pytest.param(RSA.public_jwk(alg="RSA-OAEP"), "'alg'", id="encryption algorithm"),
        pytest.param(RSA.public_jwk(alg="HS256"), "'alg'", id="algorithm of another family"),
        pytest.param(RSA.public_jwk(alg=[]), "'alg'", id="alg of the wrong type"),
        pytest.param(SigningKey.hmac("s", b"secret" * 8).public_jwk(), "symmetric", id="symmetric"),
    ],
)
@pytest.mark.rule("R007", "R011", "R012", "R013", "R014", "R015", "R016", "R017", "R021", "C34", "C38")
def test_an_odd_key_harms_only_itself(odd: object, problem: str) -> None:
    """It is left out, and reported."""
    keys = import_jwks(json.dumps({"keys": [odd, SigningKey.ec("good").public_jwk()]}).encode())
    assert keys.kids == ("good",)
    (rejected,) = keys.rejected
    assert rejected.index == 0
    assert problem in rejected.problem
    assert import_jwks(json.dumps({"keys": [SigningKey.ec("good").public_jwk(), odd]}).encode()).kids == ("good",)


@pytest.mark.rule("R033", "R197")
def test_what_is_told_of_a_rejected_key_is_short_and_printable() -> None:
    """Names of keys are foreign text."""
    keys = import_jwks(jwks(RSA, {"kty": "oct", "kid": "a\r\n\x1b" + "é" * 500, "k": "c2VjcmV0"}))
    (rejected,) = keys.rejected
    assert rejected.kid.startswith("a\\r\\n\\x1b")
    assert rejected.kid.isprintable()
    assert len(rejected.kid) <= 64
    assert "c2VjcmV0" not in repr(keys)


@pytest.mark.parametrize("key", [RSA, EC, ED])
@pytest.mark.rule("R008", "C38")
def test_private_members_are_dropped_and_told(key: SigningKey) -> None:
    """The key works, without its private half."""
    keys = import_jwks(jwks(key.private_jwk()))
    assert keys.keys == import_jwks(jwks(key)).keys
    assert not hasattr(keys.keys[0].key.public, "sign")
    assert "private" in keys.rejected[0].problem
    assert str(key.private_jwk()["d"]) not in repr(keys)


@pytest.mark.rule("C35", "C88")
def test_other_members_are_ignored() -> None:
    """As real issuers publish their keys."""
    jwk = RSA.public_jwk(use="sig", x5t="AA", x5c=["AA"], issuer="https://idp.test/", key_ops=["verify"], ext=True)
    assert import_jwks(jwks(jwk)).kids == ("a",)
    assert import_jwks(b"\xef\xbb\xbf" + jwks(jwk)).kids == ("a",)  # C40


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"<html></html>",
        b'"x"',
        b"[]",
        b"{}",
        b'{"keys":{}}',
        b'{"keys":null}',
        b'{"keys":[]}',
        b'{"keys":[{"kty":"oct","k":"c2VjcmV0"}]}',
        b'{"keys":[],"keys":[]}',
        b'{"keys":[' + b"[" * 100_000,
        b'{"keys":[' + b" " * MAX_KEY_SET_BYTES + b"]}",
        jwks(RSA).decode().encode("utf-16"),
        jwks(RSA)[:-5],
    ],
)
@pytest.mark.rule("R154", "R155", "C38")
def test_an_unusable_set_is_one_error(data: bytes) -> None:
    """The caller keeps its old keys; the text shows no key material."""
    with pytest.raises(KeySetError) as caught:
        import_jwks(data)
    assert "c2VjcmV0" not in str(caught.value)


@pytest.mark.rule("R156")
def test_the_number_of_keys_is_bounded() -> None:
    """The rest is ignored, and reported."""
    keys = import_jwks(jwks(*[EC] * (MAX_KEYS + 50)))
    assert len(keys.keys) == MAX_KEYS
    assert "more than" in keys.rejected[0].problem


def test_pem_files_hold_keys_and_certificates_without_names() -> None:
    """A file of several blocks, text between them, an expired certificate: the keys count."""
    pkcs1 = RSA.public_bytes(form=PublicFormat.PKCS1)
    data = b"# keys\r\n" + EC.public_bytes() + b"text\n" + certificate(RSA) + ED.public_bytes() + pkcs1
    keys = import_keys(data)
    assert [key.thumbprint for key in keys.keys] == [key.jwk_thumbprint for key in (EC, RSA, ED, RSA)]
    assert {key.kid for key in keys.keys} == {None}
    assert keys.candidates("any", "ES256") == keys.keys[:1]


@pytest.mark.rule("R008", "R014", "R016")
def test_odd_pem_blocks_harm_only_themselves() -> None:
    """A private key, a weak key, another curve, a damaged block."""
    assert isinstance(EC.private, ec.EllipticCurvePrivateKey)
    private = EC.private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    odd = [
        private,
        SigningKey.rsa("w", 1024).public_bytes(),
        SigningKey.ec("k", "secp256k1").public_bytes(),
        SigningKey.ed448("k").public_bytes(),
        b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
        b"-----BEGIN CERTIFICATE-----\n!\n",
    ]
    keys = import_pem(b"".join(odd) + RSA.public_bytes())
    assert [key.thumbprint for key in keys.keys] == [RSA.jwk_thumbprint]
    assert [rejected.index for rejected in keys.rejected] == list(range(6))
    assert private.split(b"\n")[1].decode() not in repr(keys)
    with pytest.raises(KeySetError):
        import_pem(b"".join(odd))


@pytest.mark.parametrize(
    "data", [b"", b"text", b"-----BEGIN ", b"x" * (MAX_KEY_SET_BYTES + 1), b"-----BEGIN PUBLIC KEY-----"]
)
@pytest.mark.rule("R154")
def test_a_file_without_keys_is_one_error(data: bytes) -> None:
    """Neither PEM nor JWKS."""
    with pytest.raises(KeySetError):
        import_keys(data)
    with pytest.raises(KeySetError):
        import_pem(data)


@pytest.mark.rule("R156")
def test_many_pem_blocks_are_bounded() -> None:
    """And a file of nothing but beginnings costs no time."""
    assert len(import_pem(ED.public_bytes() * (MAX_KEYS + 1)).keys) == MAX_KEYS
    with pytest.raises(KeySetError):
        import_pem(b"-----BEGIN A-----" * 15_000)


def test_a_key_file_is_known_by_its_content() -> None:
    """A JWK Set whose certificates hold the PEM words is still a JWK Set."""
    assert import_keys(b"\xef\xbb\xbf \n" + jwks(RSA.public_jwk(note="-----BEGIN PUBLIC KEY-----"))).kids == ("a",)


@pytest.mark.parametrize(
    ("member", "issuer"),
    [
        (ABSENT, None),
        (None, None),
        ("https://a.test/{tenantid}", "https://a.test/{tenantid}"),
        ("", ""),
        (5, ""),
        ([], ""),
    ],
)
@pytest.mark.rule("C88")
def test_key_keeps_whose_tokens_it_says_to_sign(member: Any, issuer: str | None) -> None:
    """Microsoft's member ``issuer``; an odd one harms no key, but stands for no issuer."""
    [key] = import_jwks(jwks(SigningKey.ec("a").public_jwk(issuer=member))).keys
    assert key.issuer == issuer


@pytest.mark.rule("R169")
def test_key_that_signs_for_somebody_else_from_now_on_is_another_one() -> None:
    """A cached verdict rests on it."""
    mine = import_jwks(jwks(SigningKey.ec("a").public_jwk(issuer="https://a.test/x")))
    theirs = import_jwks(jwks(SigningKey.ec("a").public_jwk(issuer="https://a.test/y")))
    assert mine.trusts(mine.keys[0])
    assert not theirs.trusts(mine.keys[0])


@pytest.mark.parametrize(
    ("key", "bits"),
    [
        (RSAKey.import_key(SigningKey.rsa().public_jwk()), 0),
        (ECKey.import_key(SigningKey.ec(crv="P-521").public_jwk()), 521),
        (OKPKey.import_key(SigningKey.ed25519().public_jwk()), 0),
    ],
    ids=["RSA", "EC", "OKP"],
)
def test_an_algorithm_gets_the_public_key_and_the_size_of_its_curve(key: RSAKey | ECKey | OKPKey, bits: int) -> None:
    prepared = PreparedKey(key)
    assert prepared.get_op_key("verify") is prepared.public is key.public_key
    assert prepared.curve_key_size == bits
