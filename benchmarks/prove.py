"""Before anything is measured: every peer does the same work, or the run ends.

A number of a gateway that forgot to check the audience would be worth nothing.
Each one must pass a good token with the three identity headers set and
Authorization removed, and refuse each bad token.
"""

from __future__ import annotations

import http.client
import ssl
import time
from dataclasses import dataclass

from benchmarks.drive import Target
from benchmarks.tokens import ROLE, SCOPE, Material


class ProofError(Exception):
    """A peer does not do the work that it is measured for."""


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    body: str


def ask(target: Target, path: str, token: bytes | None, **headers: str) -> Answer:
    """Send one GET on a connection of its own.

    Raises:
        OSError, http.client.HTTPException: there was no answer.
    """
    connection: http.client.HTTPConnection
    if target.tls:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        connection = http.client.HTTPSConnection("127.0.0.1", target.port, timeout=10, context=context)
    else:
        connection = http.client.HTTPConnection("127.0.0.1", target.port, timeout=10)
    if token is not None:
        headers["Authorization"] = f"Bearer {token.decode()}"
    try:
        connection.request("GET", path, headers=headers)
        response = connection.getresponse()
        return Answer(response.status, response.read().decode("latin-1"))
    finally:
        connection.close()


def serves(target: Target, token: bytes) -> bool:
    """Tell whether a good token is answered 200 now."""
    try:
        return ask(target, "/echo", token).status == 200
    except (OSError, http.client.HTTPException):
        return False


def bad_tokens(keys: Material) -> dict[str, bytes | None]:
    """Return one token for each thing that must be checked."""
    left, right = keys.forged()
    now = int(time.time())
    return {
        "no token": None,
        "another issuer": keys.token(iss="https://other.test/"),
        "another audience": keys.token(aud="another"),
        "expired": keys.token(exp=now - 3600, iat=now - 7200),
        "a bad signature": left + b"12345678" + right,
    }


def prove(title: str, target: Target, keys: Material, *, checks_tokens: bool = True) -> None:
    """Ask everything that makes the work the same.

    Raises:
        ProofError: something was let through, refused, or not set.
    """
    good = ask(target, "/echo", keys.token(), **{"X-User-Id": "mallory"})
    user = f"user-0000000|{ROLE}|{SCOPE}" if checks_tokens else "nobody|none|none"
    if good != Answer(200, f"{user}|"):
        raise ProofError(f"{title}: a good token must reach the service with its identity, not {good}")
    if not checks_tokens:
        return
    for name, token in bad_tokens(keys).items():
        answer = ask(target, "/echo", token)
        # Envoy answers 403 to another audience.
        if answer.status not in (401, 403):
            raise ProofError(f"{title}: {name} must be refused, not {answer.status}")
