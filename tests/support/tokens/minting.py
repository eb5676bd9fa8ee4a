"""Tokens made by hand, good ones and every bad one: keys, claims, signing of arbitrary bytes.

This file does what an issuer does. It is written on ``cryptography`` alone, so
that a test never judges the gateway's JOSE code with that same code.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | Ed25519PrivateKey | Ed448PrivateKey | bytes


class _Absent:
    def __repr__(self) -> str:
        return "ABSENT"


#: As a header member's or claim's value: leave the member out.
ABSENT = _Absent()

ISSUER, AUDIENCE, SUBJECT = "https://idp.test/", "api", "alice"

_CURVES: dict[str, tuple[ec.EllipticCurve, str]] = {
    "P-256": (ec.SECP256R1(), "ES256"),
    "P-384": (ec.SECP384R1(), "ES384"),
    "P-521": (ec.SECP521R1(), "ES512"),
    "secp256k1": (ec.SECP256K1(), "ES256K"),
}
_HASHES: dict[str, hashes.HashAlgorithm] = {
    "256": hashes.SHA256(),
    "384": hashes.SHA384(),
    "512": hashes.SHA512(),
}


def b64(data: bytes) -> bytes:
    """Return unpadded base64url (RFC 7515 section 2)."""
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def unb64(text: bytes) -> bytes:
    """Undo ``b64``."""
    return base64.urlsafe_b64decode(text + b"=" * (-len(text) % 4))


def _number(value: int, size: int | None = None) -> str:
    return b64(value.to_bytes(size or (value.bit_length() + 7) // 8, "big")).decode()


@cache
def _private_key(kty: str, form: str | int, kid: str | None, variant: int) -> PrivateKey:
    """Make a key once for each argument list: making one costs more than most tests."""
    if kty == "RSA":
        return rsa.generate_private_key(65537, int(form))
    if kty == "EC":
        return ec.generate_private_key(_CURVES[str(form)][0])
    return Ed25519PrivateKey.generate() if form == "Ed25519" else Ed448PrivateKey.generate()


@dataclass(frozen=True)
class SigningKey:
    """A private key with the ``kid`` that its tokens carry and its usual algorithm.

    Keys are made once per process and argument list; ``variant`` gives other
    material for the same ``kid``.
    """

    kid: str | None
    private: PrivateKey
    algorithm: str

    @staticmethod
    def rsa(kid: str | None = "a", bits: int = 2048, variant: int = 0) -> SigningKey:
        """Return an RSA key; its usual algorithm is RS256."""
        return SigningKey(kid, _private_key("RSA", bits, kid, variant), "RS256")

    @staticmethod
    def ec(kid: str | None = "a", crv: str = "P-256", variant: int = 0) -> SigningKey:
        """Return an EC key on P-256, P-384, P-521 or secp256k1."""
        return SigningKey(kid, _private_key("EC", crv, kid, variant), _CURVES[crv][1])

    @staticmethod
    def ed25519(kid: str | None = "a", variant: int = 0) -> SigningKey:
        """Return an Ed25519 key; its usual algorithm is EdDSA."""
        return SigningKey(kid, _private_key("OKP", "Ed25519", kid, variant), "EdDSA")

    @staticmethod
    def ed448(kid: str | None = "a", variant: int = 0) -> SigningKey:
        """Return an Ed448 key; its usual algorithm is EdDSA."""
        return SigningKey(kid, _private_key("OKP", "Ed448", kid, variant), "EdDSA")

    @staticmethod
    def hmac(kid: str | None, secret: bytes) -> SigningKey:
        """Return an HMAC secret, for attacks; its usual algorithm is HS256."""
        return SigningKey(kid, secret, "HS256")

    def public_jwk(self, **extra: Any) -> dict[str, Any]:
        """Return the public JWK, with ``kid`` if there is one; ``extra`` members win, ``ABSENT`` removes one."""
        jwk = self._required_members()
        if self.kid is not None:
            jwk["kid"] = self.kid
        return without_absent({**jwk, **extra})

    def private_jwk(self) -> dict[str, Any]:
        """Return the JWK with its private members, which no issuer should publish."""
        jwk = self.public_jwk()
        if isinstance(self.private, rsa.RSAPrivateKey):
            numbers = self.private.private_numbers()
            parts = {"d": numbers.d, "p": numbers.p, "q": numbers.q}
            parts |= {"dp": numbers.dmp1, "dq": numbers.dmq1, "qi": numbers.iqmp}
            return jwk | {name: _number(value) for name, value in parts.items()}
        if isinstance(self.private, ec.EllipticCurvePrivateKey):
            size = (self.private.key_size + 7) // 8
            return jwk | {"d": _number(self.private.private_numbers().private_value, size)}
        if isinstance(self.private, bytes):
            return jwk
        return jwk | {"d": b64(self.private.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())).decode()}

    @property
    def jwk_thumbprint(self) -> str:
        """The RFC 7638 thumbprint with SHA-256."""
        text = json.dumps(self._required_members(), sort_keys=True, separators=(",", ":"))
        return b64(hashlib.sha256(text.encode()).digest()).decode()

    def public_bytes(self, encoding: Encoding = Encoding.PEM, form: PublicFormat | None = None) -> bytes:
        """Return the public key as PEM SubjectPublicKeyInfo, or in another encoding."""
        assert not isinstance(self.private, bytes)
        return self.private.public_key().public_bytes(encoding, form or PublicFormat.SubjectPublicKeyInfo)

    def sign(self, data: bytes, algorithm: str) -> bytes:
        """Return the JWS signature of ``data`` (RFC 7518 section 3), whatever the usual algorithm is."""
        if isinstance(self.private, bytes):
            return hmac.new(self.private, data, "sha" + algorithm[2:]).digest()
        if isinstance(self.private, rsa.RSAPrivateKey):
            digest = _HASHES[algorithm[2:]]
            if algorithm.startswith("PS"):
                pss = padding.PSS(padding.MGF1(digest), digest.digest_size)
                return self.private.sign(data, pss, digest)
            return self.private.sign(data, padding.PKCS1v15(), digest)
        if isinstance(self.private, ec.EllipticCurvePrivateKey):
            r, s = decode_dss_signature(self.private.sign(data, ec.ECDSA(_HASHES[algorithm[2:5]])))
            size = (self.private.key_size + 7) // 8
            return r.to_bytes(size, "big") + s.to_bytes(size, "big")
        return self.private.sign(data)

    def _required_members(self) -> dict[str, Any]:
        private = self.private
        if isinstance(private, bytes):
            return {"kty": "oct", "k": b64(private).decode()}
        if isinstance(private, rsa.RSAPrivateKey):
            numbers = private.public_key().public_numbers()
            return {"kty": "RSA", "n": _number(numbers.n), "e": _number(numbers.e)}
        if isinstance(private, ec.EllipticCurvePrivateKey):
            point, size = private.public_key().public_numbers(), (private.key_size + 7) // 8
            crv = next(name for name, (curve, _) in _CURVES.items() if curve.name == private.curve.name)
            return {"kty": "EC", "crv": crv, "x": _number(point.x, size), "y": _number(point.y, size)}
        crv = "Ed25519" if isinstance(private, Ed25519PrivateKey) else "Ed448"
        x = private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        return {"kty": "OKP", "crv": crv, "x": b64(x).decode()}


def without_absent(members: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``members`` without those that are ``ABSENT``."""
    return {name: value for name, value in members.items() if value is not ABSENT}


def mint(
    key: SigningKey, claims: Mapping[str, Any], *, header: Mapping[str, Any] | None = None, alg: str | None = None
) -> bytes:
    """Return a compact JWS over ``claims``, signed with ``alg`` (the key's usual one by default).

    ``header`` members replace the usual ``alg``, ``typ`` and ``kid``, without
    changing how the token is signed; ``ABSENT`` leaves one out.
    """
    algorithm = alg or key.algorithm
    members: dict[str, Any] = {"alg": algorithm, "typ": "JWT"}
    if key.kid is not None:
        members["kid"] = key.kid
    members = without_absent({**members, **(header or {})})
    return mint_raw(key, json.dumps(members).encode(), json.dumps(without_absent(claims)).encode(), algorithm)


def mint_raw(key: SigningKey, header: bytes, payload: bytes, alg: str | None = None) -> bytes:
    """Return a compact JWS over exactly these header and payload bytes."""
    signing_input = b64(header) + b"." + b64(payload)
    return signing_input + b"." + b64(key.sign(signing_input, alg or key.algorithm))


def jwks(*keys: SigningKey | Mapping[str, Any]) -> bytes:
    """Return a JWK Set with the public part of each key; a mapping stands as it is."""
    entries = [key.public_jwk() if isinstance(key, SigningKey) else dict(key) for key in keys]
    return json.dumps({"keys": entries}).encode()


def good_claims(now: float, **overrides: Any) -> dict[str, Any]:
    """Return claims that the default test issuer's policy accepts at ``now``; ``ABSENT`` removes one."""
    claims = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": SUBJECT,
        "exp": int(now) + 600,
        "iat": int(now),
        "scope": "read write",
    }
    return without_absent({**claims, **overrides})
