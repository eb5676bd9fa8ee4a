"""Requests with bound tokens, against a running gateway in real time."""

from __future__ import annotations

import time
from typing import Any

from tests.support.gateways.running import RawResponse, RunningGateway, request
from tests.support.tokens.minting import SigningKey
from tests.support.tokens.proofs import bound_to, make_proof, with_proof

#: A client's key, and another client's.
CLIENT, OTHER = SigningKey.ec("client"), SigningKey.ec("client", variant=1)

#: What requests of ``tests.support.gateway`` name as their host.
BASE = "http://gateway.test"


def proof_for(token: bytes, path: str = "/", *, key: SigningKey = CLIENT, base: str = BASE, **options: Any) -> bytes:
    """Return a proof for a request to a path, made now."""
    return make_proof(key, token, time.time(), uri=base + path, **options)


def bound_token(gateway: RunningGateway, key: SigningKey = CLIENT, **claims: Any) -> bytes:
    """Return a token that the gateway accepts beside a proof of ``key``."""
    return gateway.token(**{"cnf": bound_to(key), **claims})


def proved(
    token: bytes, path: str = "/", *fields: tuple[bytes, bytes], method: bytes = b"GET", **options: Any
) -> bytes:
    """Return a request with a token and a new proof; ``options`` are those of ``proof_for``."""
    proof = proof_for(token, path, method=method.decode(), **options)
    return request(method, path, *with_proof(token, proof), *fields)


def challenges(response: RawResponse) -> list[str]:
    """Return every challenge of an answer."""
    return [value.decode() for value in response.all(b"www-authenticate")]
