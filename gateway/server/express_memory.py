"""What a kept connection's requests mean, remembered.

Only the reading of a header section for the express lane lives here, and the
memory of a connection's last ones. A section that is byte for byte the one
just read means the same; so does one in which nothing but the bearer token
differs. Likewise a request line: under one section, it leads to one route,
and to one head for the upstream but for the identity, or to one refusal. What can change from
one moment to the next is never remembered: what the token stands for, whether
the route lets it pass, which connection is free.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

from gateway.errors import Reason
from gateway.identity import Identity
from gateway.policy.authorize import authorize
from gateway.proxy.headers import request_id
from gateway.proxy.origin import Origin
from gateway.proxy.upstreams import Upstream
from gateway.server.facts import Facts
from gateway.server.framing import MalformedError, parse_fields, request_framing
from gateway.server.pipeline import Admitted, Pipeline, RequestHead
from gateway.telemetry import Record, Telemetry, method_class

#: Fields of a section that the express lane takes.
MAX_FIELDS = 200

#: Request lines of a connection that are remembered.
MAX_PLANS = 32

_FIELDS = re.compile(rb"(?:[!#$%&'*+\-.^_`|~0-9A-Za-z]+:[\t -~\x80-\xff]*\r\n)*+\r\n").fullmatch
_BEARER = re.compile(rb"\r\n([Aa]uthorization: [Bb]earer )([!-+\--~]+)\r\n").search

# What the one token of a bearer credential is made of: no white space, no comma, no control. Not a pattern: every new
# token is looked at, and to take these bytes away is four times faster.
_TOKEN = bytes(code for code in range(0x21, 0x7F) if code != 0x2C)

# Fields that make a request more than the express lane takes.
_UNUSUAL = frozenset({b"transfer-encoding", b"expect", b"upgrade"})


class Section(NamedTuple):
    """A header section that was read.

    Attributes:
        before, after: its bytes around the bearer token; ``after`` is empty without one.
        scheme: what stands before the token in the Authorization value.
        headers: its pairs; the Authorization value in them is the token of the moment.
        facts: what it says to the gateway itself; the same holds for its ``authorization``.
        length: of the request's content.
        request_id: the client's, if it gave a sane one.
    """

    before: bytes
    after: bytes
    scheme: bytes
    headers: tuple[tuple[bytes, bytes], ...]
    facts: Facts
    length: int
    request_id: bytes | None

    def headers_with(self, token: bytes) -> tuple[tuple[bytes, bytes], ...]:
        """Return the pairs with another token in them."""
        value = self.scheme + token
        return tuple((name, value if name.lower() == b"authorization" else old) for name, old in self.headers)

    def facts_with(self, token: bytes) -> Facts:
        """Return the facts with another token in them."""
        return self.facts._replace(authorization=[self.scheme + token])

    def token(self, block: bytes) -> bytes | None:
        """Return the bearer token of ``block`` if nothing else in it differs from this section; else None."""
        start, stop = len(self.before), len(block) - len(self.after)
        if not self.after or start >= stop or block[:start] != self.before or block[stop:] != self.after:
            return None
        token = block[start:stop]
        return token if is_token(token) else None


def read_section(block: bytes, pipeline: Pipeline, head: RequestHead) -> tuple[Section, bytes | None] | None:
    """Read a header section, from behind the request line to the empty line.

    Args:
        block: the section.
        pipeline: judges what it says to the gateway.
        head: everything of the request's head but its header pairs.

    Returns:
        The section and its bearer token, if its form can be remembered; None
        for a section that is malformed or more than the express lane takes.
    """
    if _FIELDS(block) is None:
        return None
    headers = parse_fields(block[:-4]) if len(block) > 2 else ()
    if len(headers) > MAX_FIELDS or any(_unusual(name.lower(), value) for name, value in headers):
        return None
    try:
        length, _ = request_framing(headers, http_11=True)
    except MalformedError:
        return None
    facts = pipeline.read(head._replace(headers=headers))
    if len(facts.host) != 1:
        return None
    given = request_id(headers, _none) or None
    before, token, after, scheme = block, None, b"", b""
    # Behind a line end that is put in front, so that the first line counts too.
    if len(facts.authorization) == 1 and (found := _BEARER(b"\r\n" + block)):
        before, token, after = block[: found.start(2) - 2], found[2], block[found.end(2) - 2 :]
        scheme = found[1][-len(b"Bearer ") :]
    return Section(before, after, scheme, headers, facts, length, given), token


class Refusal:
    """The same refusal each time, under one header section of one connection: of a request line, or for a reason.

    Attributes:
        parts: the answer around its request id, which stands between them.
        counter: the key under which the request is counted.
        reason: the refusal's code.
    """

    __slots__ = ("counter", "parts", "reason")

    def __init__(self, data: bytes, record: Record) -> None:
        self.parts = data.split(record.request_id.encode("ascii"))
        self.counter = (record.route, method_class(record.method), record.status, record.outcome)
        self.reason = record.reason

    def give(self, send: Callable[[bytes], None], request_id: bytes, telemetry: Telemetry, seconds: float) -> None:
        """Send and count it, for a request of which nobody wants a line."""
        send(request_id.join(self.parts))
        telemetry.finish_refused(self.counter, self.reason, seconds)


class Plan:
    """Where a request line leads, under one header section of one connection.

    Attributes:
        method: the request's method.
        admitted: the target and its route.
        anonymous: nobody asks who the caller is.
        upstream: the route's.
        heads: by URL, the head for the upstream up to the identity.
        counters: by status, the key under which the request is counted.
        granted: the last caller whom the route's rules let pass.
        granted_scopes, granted_issuer: theirs, where the route asks for nothing else.
        refusals: by reason, what callers got whom their token did not let pass.
    """

    __slots__ = (
        "admitted",
        "anonymous",
        "counters",
        "granted",
        "granted_issuer",
        "granted_scopes",
        "heads",
        "method",
        "refusals",
        "upstream",
    )

    def __init__(self, method: str, admitted: Admitted, upstream: Upstream, *, anonymous: bool) -> None:
        self.method = method
        self.admitted = admitted
        self.anonymous = anonymous
        self.upstream = upstream
        self.heads: dict[Origin, bytes] = {}
        self.counters: dict[int, tuple[str, str, int, str]] = {}
        self.granted: Identity | None = None
        self.granted_scopes: tuple[str, ...] | None = None
        self.granted_issuer = ""
        self.refusals: dict[Reason, Refusal] = {}

    def let_pass(self, identity: Identity) -> None:
        """Ask the route's rules for a caller, and remember that it may pass.

        Raises:
            GatewayError: it may not.
        """
        route = self.admitted.route
        authorize(route, identity)
        self.granted = identity
        if not route.claim_rules:
            self.granted_scopes, self.granted_issuer = identity.scopes, identity.issuer_name

    def head(self, origin: Origin, pipeline: Pipeline, head: RequestHead) -> bytes:
        """Return the head for the upstream up to the identity.

        Args:
            origin: the URL.
            pipeline: makes it, once.
            head: a request's head of the same section; its token is not used.
        """
        common = self.heads.get(origin)
        if common is None:
            whole = pipeline.upstream_head(head, self.admitted, None, origin, b"")
            common = self.heads[origin] = whole.removesuffix(b"X-Request-Id: \r\n\r\n")
        return common

    def counter(self, status: int) -> tuple[str, str, int, str]:
        """Return the key under which a forwarded request with this status is counted."""
        key = self.counters.get(status)
        if key is None:
            key = self.counters[status] = (self.admitted.route.name, method_class(self.method), status, "forwarded")
        return key


def is_token(text: bytes) -> bool:
    """Return whether bytes may be the one token of a bearer credential."""
    return bool(text) and not text.translate(None, _TOKEN)


def plannable(admitted: Admitted) -> bool:
    """Whether all that a request line leads to can be remembered."""
    route = admitted.route
    return not (
        admitted.preflight
        or route.cors is not None
        or route.end_at_expiry
        or route.observe
        or route.forward_authorization
        or admitted.target.authority is not None
        or b"access_token" in (admitted.target.query or b"")
    )


def _unusual(name: bytes, value: bytes) -> bool:
    return name in _UNUSUAL or (name == b"connection" and value.lower() != b"keep-alive")


def _none() -> bytes:
    return b""
