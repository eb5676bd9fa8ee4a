"""Signing keys that are the same in every run, so that a seed gives the same tokens again.

Derives them from a name. They are worth nothing: anyone can derive them.
"""

from __future__ import annotations

import hashlib
import math
from random import Random

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from tests.support.tokens.minting import SigningKey

_SMALL_PRIMES = [
    number for number in range(3, 2000) if all(number % lower for lower in range(2, math.isqrt(number) + 1))
]


class FixedKey(SigningKey):
    """A key whose signatures are the same each time, ECDSA's too (RFC 6979)."""

    def sign(self, data: bytes, algorithm: str) -> bytes:
        if isinstance(self.private, ec.EllipticCurvePrivateKey) and algorithm == "ES256":
            r, s = decode_dss_signature(self.private.sign(data, ec.ECDSA(hashes.SHA256(), deterministic_signing=True)))
            return r.to_bytes(32, "big") + s.to_bytes(32, "big")
        return super().sign(data, algorithm)


def fixed_ed25519(kid: str, name: str) -> FixedKey:
    """Return the Ed25519 key of a name."""
    return FixedKey(kid, Ed25519PrivateKey.from_private_bytes(hashlib.sha256(name.encode()).digest()), "EdDSA")


def fixed_p256(kid: str, name: str) -> FixedKey:
    """Return the P-256 key of a name."""
    value = int.from_bytes(hashlib.sha256(name.encode()).digest(), "big") >> 1
    return FixedKey(kid, ec.derive_private_key(value, ec.SECP256R1()), "ES256")


def fixed_rsa(kid: str, name: str) -> FixedKey:
    """Return the 2048-bit RSA key of a name; it takes about a second."""
    random = Random(name)
    p, q = _prime(random), _prime(random)
    d = pow(65537, -1, math.lcm(p - 1, q - 1))
    numbers = rsa.RSAPrivateNumbers(
        p,
        q,
        d,
        rsa.rsa_crt_dmp1(d, p),
        rsa.rsa_crt_dmq1(d, q),
        rsa.rsa_crt_iqmp(p, q),
        rsa.RSAPublicNumbers(65537, p * q),
    )
    return FixedKey(kid, numbers.private_key(), "RS256")


def _prime(random: Random) -> int:
    """Return a number of 1024 bits that is a prime as far as Fermat's test can tell."""
    while True:
        number = random.getrandbits(1024) | 3 << 1022 | 1
        if number % 65537 == 1 or not all(number % prime for prime in _SMALL_PRIMES):
            continue
        if all(pow(base, number - 1, number) == 1 for base in (2, 3, 5)):
            return number
