"""DPoP proofs made by hand: good ones, and every bad one."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Mapping
from typing import Any

from tests.support.tokens.minting import SigningKey, b64, mint, without_absent

_numbers = itertools.count()


def bound_to(key: SigningKey) -> dict[str, Any]:
    """Return the ``cnf`` of a token that is bound to a key (RFC 9449 section 6.1)."""
    return {"jkt": key.jwk_thumbprint}


def proof_claims(
    token: bytes, now: float, *, method: str = "GET", uri: str = "https://gateway.test/", **claims: Any
) -> dict[str, Any]:
    """Return the claims of a good proof, each time with another ``jti``; ``ABSENT`` leaves one out."""
    good = {
        "jti": f"proof-{next(_numbers)}",
        "htm": method,
        "htu": uri,
        "iat": int(now),
        "ath": b64(hashlib.sha256(token).digest()).decode(),
    }
    return without_absent({**good, **claims})


def make_proof(
    key: SigningKey,
    token: bytes,
    now: float,
    *,
    header: Mapping[str, Any] | None = None,
    alg: str | None = None,
    **options: Any,
) -> bytes:
    """Return a proof (RFC 9449 section 4.2); ``options`` are those of ``proof_claims``."""
    jwk = key.public_jwk()
    jwk.pop("kid", None)
    members = {"typ": "dpop+jwt", "jwk": jwk, **(header or {})}
    return mint(
        SigningKey(None, key.private, key.algorithm), proof_claims(token, now, **options), header=members, alg=alg
    )


def with_proof(token: bytes, proof: bytes) -> tuple[tuple[bytes, bytes], ...]:
    """Return the fields of a request that shows a bound token."""
    return (b"Authorization", b"DPoP " + token), (b"DPoP", proof)
