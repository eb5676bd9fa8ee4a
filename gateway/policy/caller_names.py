"""Whose requests are counted together.

Names callers, for counting: by short digests, so that what a client chose takes
no more memory than any other name, is in no store as it was sent (R131), and
cannot be taken for another kind of name. The danger of this file is two names
for one caller: addresses are therefore counted as networks where a client has
as many of them as it likes.
"""

from __future__ import annotations

import json
from functools import lru_cache
from hashlib import blake2b
from ipaddress import AddressValueError, IPv6Address
from typing import Any

from gateway.identity import Identity, thaw

#: Bytes of a name. No two callers share one by chance, nor can an attacker find two that do (2**64 tries).
NAME_BYTES = 16

#: Leading bits of an IPv6 address that count: a client is given the rest to choose from (RFC 6177, RFC 7421).
IPV6_BITS = 64


class Namer:
    """Names callers within one scope: the same caller has another name in each.

    Args:
        scope: what sets the scope apart from all others.
    """

    __slots__ = ("_start",)

    def __init__(self, *scope: str) -> None:
        self._start = blake2b(json.dumps(scope).encode("ascii"), digest_size=NAME_BYTES)
        self._start.update(b"\n")

    def subject(self, identity: Identity) -> bytes:
        """Name the issuer and subject of an identity; all of an issuer's without a subject have one name."""
        if identity.subject is None:
            return self._name(b"anybody of", _text(identity.issuer))
        # The length in front, so that no part of the one can be taken for the other's.
        issuer = _text(identity.issuer)
        return self._name(b"subject %d" % len(issuer), issuer + _text(identity.subject))

    def claim(self, identity: Identity, claim: str) -> bytes:
        """Name the callers that share the value of a claim; all that have none, or null, share one name."""
        value = identity.claims.get(claim)
        return self._name(b"nobody" if value is None else b"claim", _claim(value))

    def credential(self, shown: bytes) -> bytes:
        """Name a token or API key."""
        return self._name(b"credential", shown)

    def token_id(self, issuer: str, token_id: str) -> bytes:
        """Name a token by its ``jti``, which is its issuer's (RFC 7519 section 4.1.7)."""
        start = _text(issuer)
        return self._name(b"token %d" % len(start), start + _text(token_id))

    def address(self, address: str) -> bytes:
        """Name a client by its address; an IPv6 address by its network."""
        return self._name(b"address", network_of(address))

    def thing(self, text: str) -> bytes:
        """Name anything else that is counted."""
        return self._name(b"thing", _text(text))

    def _name(self, kind: bytes, value: bytes) -> bytes:
        started = self._start.copy()
        started.update(b"%b:%b" % (kind, value))
        return started.digest()


@lru_cache(maxsize=4096)
def network_of(address: str) -> bytes:
    """Return what of a client's address counts.

    Args:
        address: as ``client_address`` gives it: canonical, IPv4 in its own form; or "unix".
    """
    if ":" not in address:
        return address.encode("ascii", "replace")
    try:
        number = int(IPv6Address(address))
    except AddressValueError:
        return address.encode("ascii", "replace")
    return (number >> (128 - IPV6_BITS)).to_bytes(IPV6_BITS // 8, "big") + b"/%d" % IPV6_BITS


def _text(text: str) -> bytes:
    # JSON may hold lone surrogates (RFC 8259 section 8.2).
    return text.encode("utf-8", "surrogatepass")


def _claim(value: Any) -> bytes:
    """Return a claim's value as bytes, apart by JSON type; 1 and 1.0 are one number (RFC 8259 section 6)."""
    if isinstance(value, str):
        return b'"' + _text(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return json.dumps(value, sort_keys=True, separators=(",", ":"), default=thaw).encode("ascii")
