"""What others need for the same token: the measures that a verification is held against."""

from __future__ import annotations

from collections.abc import Callable

import jwt
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from gateway.jwt.jose.compact import Unverified
from tests.support.tokens.minting import AUDIENCE, ISSUER, SigningKey

Step = Callable[[], object]


def bare_check(key: SigningKey, algorithm: str, token: Unverified) -> Step:
    """Return the signature check of ``cryptography`` alone, on prepared values."""
    private, signature, data, digest = key.private, token.signature, token.signing_input, hashes.SHA256()
    if isinstance(private, rsa.RSAPrivateKey):
        rsa_key, pss = private.public_key(), padding.PSS(padding.MGF1(digest), digest.digest_size)
        scheme = pss if algorithm == "PS256" else padding.PKCS1v15()
        return lambda: rsa_key.verify(signature, data, scheme, digest)
    if isinstance(private, ec.EllipticCurvePrivateKey):
        ec_key, ecdsa = private.public_key(), ec.ECDSA(digest)
        der = encode_dss_signature(int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big"))
        return lambda: ec_key.verify(der, data, ecdsa)
    assert isinstance(private, ed25519.Ed25519PrivateKey)
    ed_key = private.public_key()
    return lambda: ed_key.verify(signature, data)


def pyjwt_decode(key: SigningKey, algorithm: str, token: bytes) -> Step:
    """Return PyJWT's verification of signature, times, audience and issuer with a prepared key."""
    public = jwt.PyJWK(key.public_jwk(alg=algorithm)).key
    text = token.decode()
    return lambda: jwt.decode(text, public, algorithms=[algorithm], audience=AUDIENCE, issuer=ISSUER)
