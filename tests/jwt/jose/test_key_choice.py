"""Rules R001-R036 of the checklist: which key may verify which token."""

from __future__ import annotations

import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from pydantic import ValidationError

from gateway.errors import Reasons
from tests.support.tokens.minting import SigningKey, b64, good_claims, mint, mint_raw, unb64
from tests.support.tokens.verifying import ALL_ALGORITHMS, NOW, accepted, judge, make_policy

RSA, EC, ED = SigningKey.rsa("a"), SigningKey.ec("b"), SigningKey.ed25519("c")
CLAIMS = good_claims(NOW)
EVERY = make_policy({"algorithms": ALL_ALGORITHMS})
P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


@pytest.mark.parametrize(
    ("key", "algorithm"),
    [
        *[(RSA, name) for name in ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")],
        (EC, "ES256"),
        (SigningKey.ec("p", "P-384"), "ES384"),
        (SigningKey.ec("p", "P-521"), "ES512"),
        (ED, "EdDSA"),
        (ED, "Ed25519"),
    ],
)
@pytest.mark.rule("R001")
def test_only_configured_algorithms_pass(key: SigningKey, algorithm: str) -> None:
    """The allow-list decides, the key and the signature being fine."""
    token = mint(key, CLAIMS, alg=algorithm)
    assert accepted(judge(token, key, policy=EVERY)).subject == "alice"
    others = sorted(set(ALL_ALGORITHMS) - {algorithm} - ({"EdDSA", "Ed25519"} if key is ED else set()))
    assert judge(token, key, policy=make_policy({"algorithms": others})) is Reasons.ALGORITHM_REFUSED


@pytest.mark.parametrize("algorithms", [[], ["none"], ["none", "RS256"], ["HS256"], ["RS256", "HS512"], ["ES256K"]])
@pytest.mark.rule("R002", "R004", "C02")
def test_unsafe_algorithm_lists_cannot_be_configured(algorithms: list[str]) -> None:
    """An empty list is a fault and no default."""
    with pytest.raises(ValidationError):
        make_policy({"algorithms": algorithms})


@pytest.mark.parametrize("algorithm", ["none", "None", "NONE", "nOnE", " none", "none ", "", "HS256", "HS384", "rs256"])
@pytest.mark.parametrize("signature", [b"", b"AAAA", b64(b"x" * 256)])
@pytest.mark.rule("R003", "C02")
def test_unsecured_and_unknown_algorithms_are_refused(algorithm: str, signature: bytes) -> None:
    """In every spelling, with no signature and with junk."""
    header = b64(json.dumps({"alg": algorithm, "kid": "a"}).encode())
    token = header + b"." + b64(json.dumps(CLAIMS).encode()) + b"." + signature
    assert judge(token, RSA, policy=EVERY) is (Reasons.ALGORITHM_REFUSED if signature else Reasons.NOT_A_JWS)


def public_key_secrets() -> dict[str, bytes]:
    """Return what attackers take for the secret, by its form."""
    pem, der = RSA.public_bytes(), RSA.public_bytes(Encoding.DER)
    return {
        "rsa-pem": pem,
        "rsa-pem-without-last-newline": pem.rstrip(b"\n"),
        "rsa-der": der,
        "rsa-pkcs1-pem": RSA.public_bytes(form=PublicFormat.PKCS1),
        "rsa-der-in-base64url": b64(der),
        "rsa-jwk": json.dumps(RSA.public_jwk()).encode(),
        "rsa-modulus": unb64(RSA.public_jwk()["n"].encode()),
        "ec-point": EC.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint),
        "ec-pem": EC.public_bytes(),
        "ed25519-raw": ED.public_bytes(Encoding.Raw, PublicFormat.Raw),
        "ed25519-jwk": json.dumps(ED.public_jwk()).encode(),
    }


@pytest.mark.parametrize("secret", [pytest.param(secret, id=form) for form, secret in public_key_secrets().items()])
@pytest.mark.parametrize(
    "key", [pytest.param(RSA, id="rsa"), pytest.param(EC, id="ec"), pytest.param(ED, id="ed25519")]
)
@pytest.mark.rule("R005", "R006", "C01")
def test_a_public_key_is_no_hmac_secret(secret: bytes, key: SigningKey) -> None:
    """Nor when the allow-list is at its widest."""
    for algorithm in ("HS256", "HS384", "HS512"):
        token = mint(SigningKey.hmac(key.kid, secret), CLAIMS, alg=algorithm)
        assert judge(token, key, policy=EVERY) is Reasons.ALGORITHM_REFUSED


@pytest.mark.rule("R007", "C38")
def test_a_published_secret_verifies_nothing() -> None:
    """Neither under its own algorithm nor under another's name."""
    secret = SigningKey.hmac("s", b"0123456789abcdef0123456789abcdef")
    assert judge(mint(secret, CLAIMS), RSA, secret, policy=EVERY) is Reasons.ALGORITHM_REFUSED
    forged = mint(secret, CLAIMS, header={"alg": "RS256"})
    assert judge(forged, RSA, secret, policy=EVERY) is Reasons.UNKNOWN_KEY


@pytest.mark.parametrize(
    ("algorithm", "key"),
    [
        ("ES256", SigningKey.ec("x", "P-384")),
        ("ES384", SigningKey.ec("x", "P-256")),
        ("ES512", SigningKey.ec("x", "P-256")),
        ("ES256", SigningKey.ec("x", "P-521")),
        ("ES256", SigningKey.ec("x", "secp256k1")),
        ("RS256", SigningKey.ec("x")),
        ("ES256", SigningKey.rsa("x")),
        ("EdDSA", SigningKey.ec("x")),
        ("EdDSA", SigningKey.ed448("x")),
        ("Ed25519", SigningKey.ed448("x")),
    ],
)
@pytest.mark.rule("R009", "R021", "R022", "C24")
def test_the_algorithm_must_fit_the_key(algorithm: str, key: SigningKey) -> None:
    """A signature of another family or curve is never even tried."""
    token = mint(key, CLAIMS, header={"alg": algorithm})
    assert judge(token, key, policy=EVERY) is Reasons.UNKNOWN_KEY


@pytest.mark.rule("R022")
def test_ed448_tokens_are_refused_by_name() -> None:
    """The name cannot be configured either."""
    assert judge(mint(ED, CLAIMS, header={"alg": "Ed448"}), ED, policy=EVERY) is Reasons.ALGORITHM_REFUSED


@pytest.mark.parametrize(
    "members",
    [{"alg": "PS256"}, {"use": "enc"}, {"key_ops": ["sign"]}, {"key_ops": ["encrypt"]}],
)
@pytest.mark.rule("R010", "R011", "R012")
def test_the_members_of_the_key_bind(members: dict[str, Any]) -> None:
    """With a signature that the key did make."""
    assert judge(mint(RSA, CLAIMS), RSA.public_jwk(**members)) is Reasons.UNKNOWN_KEY


@pytest.mark.parametrize("bits", [1024])
@pytest.mark.rule("R016")
def test_a_short_rsa_key_verifies_nothing(bits: int) -> None:
    short = SigningKey.rsa("short", bits)
    assert judge(mint(short, CLAIMS), short, RSA) is Reasons.UNKNOWN_KEY


@pytest.mark.parametrize("member", ["EdDSA", "Ed25519", None])
@pytest.mark.parametrize("algorithm", ["EdDSA", "Ed25519"])
@pytest.mark.parametrize("configured", ["EdDSA", "Ed25519"])
@pytest.mark.rule("R020", "C24")
def test_either_name_of_ed25519_admits_both(member: str | None, algorithm: str, configured: str) -> None:
    policy = make_policy({"algorithms": [configured]})
    jwk = ED.public_jwk() if member is None else ED.public_jwk(alg=member)
    accepted(judge(mint(ED, CLAIMS, alg=algorithm), jwk, policy=policy))


@pytest.mark.parametrize("salt", [0, 20, 31, 33])
@pytest.mark.rule("R023")
def test_the_pss_salt_has_the_length_of_the_hash(salt: int) -> None:
    assert isinstance(RSA.private, rsa.RSAPrivateKey)
    signing_input = mint(RSA, CLAIMS, alg="PS256").rpartition(b".")[0]
    signature = RSA.private.sign(signing_input, padding.PSS(padding.MGF1(SHA256()), salt), SHA256())
    assert judge(signing_input + b"." + b64(signature), RSA, policy=EVERY) is Reasons.BAD_SIGNATURE


def ecdsa_parts(token: bytes) -> tuple[int, int]:
    signature = unb64(token.rpartition(b".")[2])
    return int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")


@pytest.mark.parametrize(
    "signature",
    [
        pytest.param(bytes(64), id="zeros"),
        pytest.param(P256_ORDER.to_bytes(32, "big") * 2, id="order"),
        pytest.param((P256_ORDER + 1).to_bytes(32, "big") + (1).to_bytes(32, "big"), id="above the order"),
        pytest.param(bytes(63), id="63 bytes"),
        pytest.param(bytes(65), id="65 bytes"),
        pytest.param(b"\xff" * 64, id="ones"),
        pytest.param(b"x", id="1 byte"),
    ],
)
@pytest.mark.rule("R025", "C24")
def test_degenerate_ecdsa_signatures_are_refused(signature: bytes) -> None:
    signing_input = mint(EC, CLAIMS).rpartition(b".")[0]
    assert judge(signing_input + b"." + b64(signature), EC) is Reasons.BAD_SIGNATURE


@pytest.mark.rule("R024", "C24")
def test_der_is_no_jws_signature() -> None:
    token = mint(EC, CLAIMS)
    der = encode_dss_signature(*ecdsa_parts(token))
    assert judge(token.rpartition(b".")[0] + b"." + b64(der), EC) is Reasons.BAD_SIGNATURE


@pytest.mark.rule("R026")
def test_the_ecdsa_twin_is_the_same_token_by_its_id() -> None:
    """(r, n - s) verifies by nature; what tells tokens apart for revocation is jti, which both share."""
    assert isinstance(EC.private, ec.EllipticCurvePrivateKey)
    token = mint(EC, good_claims(NOW, jti="one"))
    r, s = ecdsa_parts(token)
    twin = token.rpartition(b".")[0] + b"." + b64(r.to_bytes(32, "big") + (P256_ORDER - s).to_bytes(32, "big"))
    assert twin != token
    assert accepted(judge(twin, EC)).token_id == accepted(judge(token, EC)).token_id == "one"


@pytest.mark.parametrize("key", [RSA, EC, ED])
@pytest.mark.rule("R027")
def test_stripped_cut_or_lengthened_signatures_are_refused(key: SigningKey) -> None:
    token = mint(key, CLAIMS)
    signing_input, _, encoded = token.rpartition(b".")
    signature = unb64(encoded)
    assert judge(signing_input + b".", key, policy=EVERY) is Reasons.NOT_A_JWS
    for other in (signature[:-3], b"\0" + signature, signature + b"\0", signature[1:], signature * 2):
        assert judge(signing_input + b"." + b64(other), key, policy=EVERY) is Reasons.BAD_SIGNATURE


@pytest.mark.rule("R028", "R029")
def test_an_issuer_is_verified_by_its_own_keys_only() -> None:
    """Two issuers, one kid; each key set is the issuer's own."""
    other = SigningKey.rsa("a", variant=1)
    assert judge(mint(other, CLAIMS), RSA) is Reasons.BAD_SIGNATURE
    accepted(judge(mint(RSA, CLAIMS), RSA))
    elsewhere = mint(RSA, good_claims(NOW, iss="https://b.test/"))
    assert judge(elsewhere, RSA) is Reasons.UNKNOWN_ISSUER


@pytest.mark.rule("R031", "C33")
def test_a_token_without_kid_tries_the_fitting_keys() -> None:
    """Any of them may verify, none is skipped for its place."""
    keys = [SigningKey.rsa(str(number), variant=number) for number in range(3)]
    for key in keys:
        accepted(judge(mint(key, CLAIMS, header={"kid": None}), EC, *keys))
    assert judge(mint(RSA, CLAIMS, header={"kid": None}), *keys) is Reasons.BAD_SIGNATURE


@pytest.mark.rule("R032")
def test_repeated_kids_are_all_tried() -> None:
    """The right one second, and with a key of another type between."""
    first, second = SigningKey.rsa("1"), SigningKey.rsa("1", variant=1)
    accepted(judge(mint(second, CLAIMS), first, SigningKey.ec("1"), second))
    accepted(judge(mint(SigningKey.ec("1"), CLAIMS), first, second, SigningKey.ec("1")))


@pytest.mark.parametrize("kid", ["../../dev/null", "' OR 1=1", "k" * 1500, "a\0", "\U0001f600", "", "A", " a"])
@pytest.mark.rule("R033")
def test_a_kid_is_only_looked_up(kid: str) -> None:
    """Odd names find nothing and break nothing."""
    assert judge(mint(RSA, CLAIMS, header={"kid": kid}), RSA) is Reasons.UNKNOWN_KEY


@pytest.mark.parametrize("kid", [1, 0, 1.5, True, [], ["a"], {}, {"a": 1}])
@pytest.mark.rule("R034", "C08")
def test_a_kid_of_another_type_is_a_bad_header(kid: object) -> None:
    assert judge(mint(RSA, CLAIMS, header={"kid": kid}), RSA) is Reasons.BAD_HEADER


@pytest.mark.parametrize("kid", ["a", None])
@pytest.mark.parametrize("member", ["jwk", "jku", "x5u", "x5c"])
@pytest.mark.rule("R035", "R036", "C03")
def test_a_key_in_the_header_is_ignored(kid: str | None, member: str) -> None:
    """There is no code that would look at it, so nothing is fetched."""
    attacker = SigningKey.rsa("a", variant=9)
    smuggled = {"jwk": attacker.public_jwk(), "jku": "http://127.0.0.1:1/", "x5u": "http://127.0.0.1:1/", "x5c": ["AA"]}
    header = {"kid": kid, member: smuggled[member]}
    assert judge(mint(attacker, CLAIMS, header=header), RSA) is Reasons.BAD_SIGNATURE
    accepted(judge(mint(RSA, CLAIMS, header=header), RSA))


@pytest.mark.parametrize("header", [{"alg": "dir", "enc": "A256GCM"}, {"alg": "dir", "enc": "A256GCM", "zip": "DEF"}])
@pytest.mark.rule("R037", "R038", "C25")
def test_encrypted_tokens_are_refused(header: dict[str, str]) -> None:
    """Before anything of them is decoded."""
    token = b".".join((b64(json.dumps(header).encode()), b"", b"!", b"A" * 4000, b64(b"tag")))
    assert judge(token, RSA) is Reasons.ENCRYPTED_TOKEN


@pytest.mark.rule("R037", "R051")
def test_a_token_in_a_token_is_refused() -> None:
    inner = mint(RSA, CLAIMS)
    token = mint_raw(RSA, b'{"alg":"RS256","kid":"a","cty":"JWT"}', inner)
    assert judge(token, RSA) is Reasons.BAD_PAYLOAD
