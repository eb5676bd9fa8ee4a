"""What is sent, byte for byte: one description that wrk and the bundled generator both follow.

Only requests live here, no sockets. A request is fixed bytes around one place
that may change with each request: a token from a pool, or a running number. Or it
comes whole from a file (``mixed.py``).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from benchmarks import mixed

if TYPE_CHECKING:  # the load generator starts without what makes keys
    from benchmarks.tokens import Material

#: Digits of a running number.
DIGITS = 8
#: Tokens before the first one comes again, where each has to be new: beyond the reach of every cache here.
NEW_TOKENS = 40_000
ROTATING_TOKENS = 10_000

Credential = Literal["one", "rotating", "new", "none", "forged", "made-up"]


@dataclass(frozen=True)
class Sends:
    """What a scenario sends, in its own words.

    Attributes:
        credential: one good token, 10,000 in turn, each one new, none, each one with another bad signature, or each
            one opaque and made up.
        body: bytes of content of a POST; 0 = a GET.
        unique_header: a header field in every request whose value never comes again.
        close: one connection for each request.
        tokens: how many of the pool are used; 0 = as the credential says.
        mixed: requests of many clients in turn, as ``mixed.py`` makes them; credential and target are theirs.
        proxied: they came through a proxy, which names each client's address.
        nominates: Connection names a field, which takes a request off the plainest way.
        misplaced: the right answer is 400, because of the target.
        malformed: the right answer is 400 and the end of the connection: the name of a field has a space in it.
    """

    credential: Credential = "one"
    target: str = "/items/1"
    body: int = 0
    unique_header: bool = False
    close: bool = False
    tokens: int = 0
    mixed: bool = False
    proxied: bool = False
    nominates: bool = False
    misplaced: bool = False
    malformed: bool = False

    @property
    def refused(self) -> bool:
        """Whether the right answer is 4xx, or 503 for a token for whose introspection there is no time."""
        return self.misplaced or self.malformed or self.credential in ("none", "forged", "made-up")


@dataclass(frozen=True)
class Traffic:
    """Requests as bytes.

    Attributes:
        before, after: what stands around the place that changes.
        pool: a file of tokens for that place, one a line; None = the running number, or nothing.
        requests: a file of whole requests, which take turns; nothing else then says what is sent.
        size: tokens of the pool that take turns.
        counted: whether the running number stands there.
        first: how many were sent in earlier rounds.
    """

    before: bytes
    after: bytes
    pool: Path | None = None
    requests: Path | None = None
    size: int = 0
    counted: bool = False
    first: int = 0
    refused: bool = False
    close: bool = False

    def later(self, sent: int) -> Traffic:
        """Return what comes after ``sent`` requests of this."""
        return replace(self, first=self.first + sent)


def build(sends: Sends, keys: Material, scale: float = 1.0) -> Traffic:
    """Turn a scenario's words into bytes.

    Args:
        scale: makes pools smaller, for a first try.
    """
    if sends.mixed:
        clients = max(1, int((sends.tokens or mixed.CLIENTS) * scale))
        file = mixed.pool(keys.pool(clients), clients, body=sends.body, proxied=sends.proxied)
        return Traffic(b"", b"", requests=file, size=clients * mixed.VISITS)
    head = [f"{'POST' if sends.body else 'GET'} {sends.target} HTTP/1.1", "Host: api.test", "User-Agent: bench"]
    head += ["Accept: */*"]
    if sends.close:
        head.append("Connection: close")
    if sends.malformed:
        head.append("X Field: 1")
    if sends.nominates:
        head.append("Connection: keep-alive, x")
    if sends.body:
        head += ["Content-Type: application/octet-stream", f"Content-Length: {sends.body}"]
    start, end = "\r\n".join([*head, ""]).encode(), b"\r\n\r\n" + b"x" * sends.body
    bearer = b"Authorization: Bearer "
    made = Traffic(start, end, refused=sends.refused, close=sends.close)
    if sends.unique_header:
        good = bearer + keys.token() + b"\r\n"
        return replace(made, before=start + good + b"X-Trace: ", counted=True)
    match sends.credential:
        case "none":
            return replace(made, before=start.removesuffix(b"\r\n"))
        case "one":
            return replace(made, before=start + bearer + keys.token())
        case "forged":
            left, right = keys.forged()
            return replace(made, before=start + bearer + left, after=right + end, counted=True)
        case "made-up":
            return replace(made, before=start + bearer + b"2YotnFZFEjr1zCsicMWp", counted=True)
        case "rotating" | "new":
            usual = ROTATING_TOKENS if sends.credential == "rotating" else NEW_TOKENS
            size = max(1, int((sends.tokens or usual) * scale))
            return replace(made, before=start + bearer, pool=keys.pool(size), size=size)
