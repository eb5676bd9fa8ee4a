"""Before anything is measured: every peer does the same work, or the run ends.

A number of a gateway that forgot to check the audience would be worth nothing.
Each one must pass a good token with the three identity headers set and
Authorization removed, and refuse each bad token; tell the service whom it serves; and
write the access log that it is said to write. Of real traffic each answer
must be the one to its own request. Peers that do less have to do exactly that.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import re
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.drive import Target
from benchmarks.peers.base import Setup, Work
from benchmarks.tokens import ROLE, SCOPE, Material

#: Who a trusted proxy says that the client is.
CLIENT, OTHER_CLIENT = "203.0.113.7", "203.0.113.8"

#: What a line of an access log has, on every side; a subject may stand there as it is or hashed.
FIELDS = {"time", "request_id", "client", "method", "path", "route", "status", "outcome", "duration_ms", "credential"}
FIELDS |= {"issuer", "upstream", "bytes_in", "bytes_out"}

#: Seconds for a line to arrive in an access log.
LOG_SECONDS = 5.0

_TOKEN = re.compile(rb"\r\nAuthorization: Bearer [^.]+\.([^.]+)\.").search


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
    connection = _http(target)
    if token is not None:
        headers["Authorization"] = f"Bearer {token.decode()}"
    try:
        connection.request("GET", path, headers=headers)
        response = connection.getresponse()
        return Answer(response.status, response.read().decode("latin-1"))
    finally:
        connection.close()


def _http(target: Target) -> http.client.HTTPConnection:
    if not target.tls:
        return http.client.HTTPConnection("127.0.0.1", target.port, timeout=10)
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return http.client.HTTPSConnection("127.0.0.1", target.port, timeout=10, context=context)


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


def prove(title: str, target: Target, keys: Material, work: Work = Work.ALL) -> None:
    """Ask everything that makes the work the same.

    Raises:
        ProofError: something was let through, refused, or not set.
    """
    token = keys.token()
    wanted = {
        Work.ALL: f"user-0000000|{ROLE}|{SCOPE}|",
        Work.BELIEVES: f"user-0000000|{ROLE}|{SCOPE}|",
        Work.FIXED: "nobody|none|none|",
        Work.NOTHING: f"mallory|||Bearer {token.decode()}",
    }
    good = ask(target, "/echo", token, **{"X-User-Id": "mallory"})
    if good != Answer(200, wanted[work]):
        raise ProofError(f"{title}: a good token must reach the service with its identity, not {good}")
    bad = bad_tokens(keys) if work is Work.ALL else {"no token": None} if work is Work.BELIEVES else {}
    for name, each in bad.items():
        answer = ask(target, "/echo", each)
        # Envoy answers 403 to another audience.
        if answer.status not in (401, 403):
            raise ProofError(f"{title}: {name} must be refused, not {answer.status}")


def prove_forwarding(title: str, target: Target, token: bytes, setup: Setup) -> None:
    """Check that the service gets the address that a trusted proxy gives, and never ends with one that a client gave.

    One proxy's connection carries many clients, so two of them share one here.

    Raises:
        ProofError: it gets another one.
    """
    with contextlib.closing(_http(target)) as connection:
        for client in (OTHER_CLIENT, CLIENT):
            headers = {"X-Forwarded-For": client, "Authorization": f"Bearer {token.decode()}"}
            connection.request("GET", "/echo-forwarded", headers=headers)
            seen = connection.getresponse().read().decode("latin-1").replace(" ", "").split(",")
            if not (seen[0] == client if setup.trusted else seen[-1] not in ("", client)):
                raise ProofError(f"{title}: the service must learn the client's address, not {seen}")


def prove_log(title: str, file: Path, setup: Setup) -> None:
    """See that the access log has what was asked until now, or, without one, nothing.

    Raises:
        ProofError: a line, a field or the client's address is missing, or lines are there that must not be.
    """
    if not setup.log:
        if any(_lines(file)):
            raise ProofError(f"{title}: there must be no access log")
        return
    wanted = CLIENT if setup.trusted else "127.0.0.1"
    end = time.monotonic() + LOG_SECONDS
    found: list[dict[str, Any]] = []
    # Of the two requests, the second one shows that a connection is not its first client's.
    while len(found) < 2 and time.monotonic() < end:
        time.sleep(0.02)
        found = [line for line in _lines(file) if line.get("path") == "/echo-forwarded"]
    if len(found) < 2:
        raise ProofError(f"{title}: the access log lacks a line")
    line = found[-1]
    if missing := FIELDS - line.keys() or {"subject"} - line.keys() - {key.removesuffix("_hash") for key in line}:
        raise ProofError(f"{title}: a line of the access log lacks {', '.join(sorted(missing))}")
    if (int(line["status"]), line["method"], line["client"]) != (200, "GET", wanted):
        raise ProofError(f"{title}: a line of the access log is wrong: {line}")


def _lines(file: Path) -> Iterator[dict[str, Any]]:
    """Yield the lines of an access log; what else is in its file is passed over."""
    for line in file.read_bytes().split(b"\n") if file.exists() else ():
        with contextlib.suppress(ValueError):
            content = json.loads(line)
            if isinstance(content, dict):
                yield content


def prove_mixed(title: str, target: Target, following: Callable[[], bytes], setup: Setup, work: Work) -> None:
    """Send real traffic over a few kept connections; each answer must be the one to its request.

    Raises:
        ProofError: an answer is missing, another request's, or has lost its length.
    """
    revisions = set()
    with contextlib.ExitStack() as stack:
        opened = [stack.enter_context(_connect(target)) for _ in range(4)]
        for number in range(32):
            request, connection = following(), opened[number % len(opened)]
            connection.sendall(request)
            response = http.client.HTTPResponse(connection)
            try:
                response.begin()
                json.loads(response.read())
            except (OSError, http.client.HTTPException, ValueError) as error:
                raise ProofError(f"{title}: real traffic must be answered, not {error!r}") from error
            caller = {Work.FIXED: "nobody", Work.NOTHING: None}.get(work, _subject(request))
            received = int(response.headers["X-Received"] or 0)
            found = (response.status, response.headers["X-Caller"], received)
            if found != (200, caller, _content_length(request)):
                raise ProofError(f"{title}: an answer must be that to its own request ({caller}), not {found}")
            # Who reads an answer in chunks to its end knows its length; the other way round makes no sense.
            if response.chunked and not setup.chunked:
                raise ProofError(f"{title}: an answer with a length must keep it")
            revisions.add(response.headers["ETag"])
    if len(revisions) < 32 and not setup.chunked:
        raise ProofError(f"{title}: answers must vary as the service's do")


@contextlib.contextmanager
def _connect(target: Target) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", target.port), timeout=10) as connection:
        yield connection


def _subject(request: bytes) -> str:
    """Return the ``sub`` of the token in a request."""
    found = _TOKEN(request)
    assert found is not None
    claims = json.loads(base64.urlsafe_b64decode(found[1] + b"=" * (-len(found[1]) % 4)))
    return str(claims["sub"])


def _content_length(request: bytes) -> int:
    return len(request) - request.index(b"\r\n\r\n") - 4
