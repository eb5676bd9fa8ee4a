"""gateway/jwt/jose/weak_keys.py: RSA numbers that no key may have."""

from __future__ import annotations

import math

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from gateway.jwt.jose.weak_keys import has_roca_fingerprint, rsa_problem
from tests.support.tokens.minting import SigningKey

#: The broken generator's numbers are powers modulo each of these.
PRIMES = [prime for prime in range(2, 168) if all(prime % divisor for divisor in range(2, prime))]


@pytest.mark.rule("R018")
def test_sound_moduli_have_no_fingerprint() -> None:
    """Chance alone would flag one sound key in more than 2**27."""
    for variant in range(3):
        key = SigningKey.rsa("sound", variant=variant).private
        assert isinstance(key, rsa.RSAPrivateKey)
        assert rsa_problem(key.public_key().public_numbers().n, 65537) == ""
    product = math.prod(PRIMES)
    chance = 1.0
    for prime in PRIMES:
        # 1 modulo every other prime, and each residue in turn modulo this one
        others = product // prime
        step = others * pow(others, -1, prime)
        chance *= sum(has_roca_fingerprint(1 + step * (left - 1)) for left in range(1, prime)) / (prime - 1)
    assert -math.log2(chance) > 27


@pytest.mark.rule("R018")
def test_powers_of_the_generator_have_the_fingerprint() -> None:
    """Any product of numbers of the broken form, whatever its size."""
    product = math.prod(PRIMES)
    first, second = ((product << 810) + pow(65537, power, product) for power in (3, 12345))
    assert has_roca_fingerprint(first * second)
    assert "ROCA" in rsa_problem(first * second, 65537)


@pytest.mark.parametrize(
    ("modulus", "exponent"),
    [
        ((1 << 2046) + 1, 65537),
        ((1 << 8192) + 1, 65537),
        ((1 << 2047) + 1, 1),
        ((1 << 2047) + 1, 4),
        ((1 << 2047) + 1, (1 << 32) + 1),
        ((1 << 2047) + 2, 65537),
        (0, 0),
    ],
)
@pytest.mark.rule("R016", "R017")
def test_numbers_out_of_bounds_are_a_problem(modulus: int, exponent: int) -> None:
    assert rsa_problem(modulus, exponent)


@pytest.mark.rule("R016", "R017")
def test_the_bounds_themselves_are_fine() -> None:
    assert rsa_problem((1 << 2047) + 3, 3) == ""
    assert rsa_problem((1 << 8191) + 3, (1 << 32) - 1) == ""
