"""RSA numbers that no key may have: too small, too large, or from a broken generator.

This file has arithmetic on the public modulus and exponent.
"""

from __future__ import annotations

#: RFC 7518 section 3.3 sets the lower bound; the upper one keeps a check cheap.
MIN_RSA_BITS, MAX_RSA_BITS = 2048, 8192

#: Above every exponent in use (65537 nearly always); a check costs as many squarings as it has bits.
MAX_RSA_EXPONENT = 2**32


def rsa_problem(modulus: int, exponent: int) -> str:
    """Return why an RSA public key must not be used, or the empty text (RFC 8725 section 3.4)."""
    bits = modulus.bit_length()
    if not MIN_RSA_BITS <= bits <= MAX_RSA_BITS:
        return f"the RSA modulus has {bits} bits, not {MIN_RSA_BITS} to {MAX_RSA_BITS}"
    if not 3 <= exponent < MAX_RSA_EXPONENT or exponent % 2 == 0 or modulus % 2 == 0:
        return "the RSA exponent is not an odd number from 3 to 2^32, or the modulus is even"
    if has_roca_fingerprint(modulus):
        return "the RSA modulus has the ROCA weakness (CVE-2017-15361): it can be factored"
    return ""


def has_roca_fingerprint(modulus: int) -> bool:
    """Say whether the modulus came from the generator of CVE-2017-15361.

    That generator made primes of the form k * M + (65537**a mod M), where M is
    the product of the first primes. A product of two such primes is a power of
    65537 modulo every prime that divides M; a sound modulus is that by chance
    once in 2**27 times.
    """
    return all(modulus % prime in powers for prime, powers in _POWERS.items())


def _powers(prime: int) -> frozenset[int]:
    """Return the residues that 65537 generates modulo ``prime``."""
    residues, residue = {1}, 65537 % prime
    while residue not in residues:
        residues.add(residue)
        residue = residue * 65537 % prime
    return frozenset(residues)


# M holds at least the primes to 167. Left out are those modulo which every residue is a power.
_PRIMES = (11, 13, 17, 19, 37, 53, 61, 71, 73, 79, 97, 103, 107, 109, 127, 151, 157)
_POWERS = {prime: _powers(prime) for prime in _PRIMES}
