"""The path of one request, in order: what both lanes call.

Guard the target, find the route, take the one credential, know the caller,
check the route's rules, build the upstream's head. Each step is a pure
function of its own file; here is only their order and what happens between
them. Nothing here does I/O but the wait for an issuer's keys.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gateway.clock import Clock
from gateway.errors import MISSING_TOKEN, GatewayError, Reason
from gateway.identity import Identity
from gateway.policy.authorize import authorize
from gateway.policy.hosts import parse_host
from gateway.policy.paths import Target, parse_target
from gateway.policy.routes import Route, RouteTable, upstream_path
from gateway.proxy.headers import (
    HeaderPolicy,
    Peer,
    RawHeaders,
    client_address,
    compile_header_policy,
    passed_before,
    render_head,
    request_headers,
)
from gateway.proxy.upstreams import Origin
from gateway.settings.schema import Settings
from gateway.telemetry import Record
from gateway.tokens.authenticate import Authenticator
from gateway.tokens.extract import bearer_token

#: Methods that a gateway must not pass on (RFC 9110 sections 9.3.6, 9.3.8).
_REFUSED_METHODS = frozenset({"CONNECT", "TRACE"})


@dataclass(frozen=True, slots=True)
class RequestHead:
    """A request's head as received, with who sent it."""

    method: str
    target: bytes
    http_11: bool
    headers: RawHeaders
    peer: Peer


@dataclass(slots=True)
class Fields:
    """The fields that the gateway itself acts on: every value of each, in order."""

    authorization: list[bytes]
    host: list[bytes]
    content_length: list[bytes]
    transfer_encoding: list[bytes]
    expect: list[bytes]


@dataclass(frozen=True, slots=True)
class Admitted:
    """A request that may go on to its credential: its target is sound and a route serves it."""

    route: Route
    target: Target
    host: str
    fields: Fields


class Pipeline:
    """Steps 2 to 7 of a request's path, compiled from one configuration."""

    def __init__(self, settings: Settings, authenticator: Authenticator, clock: Clock, pseudonym: bytes) -> None:
        self.header_policy: HeaderPolicy = compile_header_policy(settings, pseudonym)
        self.pseudonym = pseudonym
        self._authenticator = authenticator
        self._clock = clock
        self._routes = RouteTable(settings.routes)
        self._max_body = settings.server.max_body_bytes

    def admit(self, head: RequestHead, record: Record) -> Admitted:
        """Guard the target and find the route.

        Raises:
            GatewayError: 400, 404, 405, 417 or 508.
        """
        if head.method in _REFUSED_METHODS:
            raise GatewayError(Reason.METHOD_REFUSED)
        target = parse_target(head.method, head.target, secure=head.peer.secure)
        record.path = target.path.decode("ascii")
        fields = scan(head.headers)
        host = parse_host(fields.host, target.authority, head.http_11)
        if passed_before(head.headers, self.pseudonym):
            raise GatewayError(Reason.LOOP)
        route = self._routes.match(host, head.method, target.match_path)
        if route is None:
            raise GatewayError(Reason.NO_ROUTE)
        record.route = route.name
        if target.encoded_slash and not route.settings.allow_encoded_slash:
            raise GatewayError(Reason.ENCODED_SLASH)
        if fields.expect and head.http_11 and any(value.lower() != b"100-continue" for value in fields.expect):
            raise GatewayError(Reason.EXPECTATION)
        return Admitted(route, target, host, fields)

    def client_address(self, head: RequestHead) -> bytes:
        """Return the client's address, seen through trusted proxies (R257)."""
        return client_address(head.headers, self.header_policy, head.peer)

    async def identify(self, admitted: Admitted, record: Record) -> Identity | None:
        """Return who is asking, and that the route lets them; None for nobody in particular.

        Raises:
            GatewayError: 400, 401, 403 or 503.
        """
        route = admitted.route.settings
        if route.auth == "public":
            return None
        try:
            token = self.credential(admitted)
            if token is None:
                return None
            identity = await self._authenticate(token, record)
            authorize(admitted.route, identity)
        except GatewayError as error:
            if not route.observe:
                raise
            record.observed = error.reason.code
            record.detail = error.detail
            return None
        return identity

    def credential(self, admitted: Admitted) -> bytes | None:
        """Return the request's one token; None when it has none and the route does not insist."""
        try:
            return bearer_token(admitted.fields.authorization, admitted.target.query or b"")
        except GatewayError as error:
            if admitted.route.settings.auth == "optional" and error.reason.kind is MISSING_TOKEN:
                return None
            raise

    async def _authenticate(self, token: bytes, record: Record) -> Identity:
        identity = self._authenticator.cached(token)
        record.cache_hit = identity is not None
        if identity is None:
            began = self._clock.monotonic()
            try:
                identity = await self._authenticator.authenticate(token)
            finally:
                record.verify_seconds = self._clock.monotonic() - began
        record.identity = identity
        return identity

    def check_content(self, fields: Fields) -> None:
        """Refuse content that says of itself that it is too large (RFC 9110 section 15.5.14)."""
        if self._max_body and fields.content_length and int(fields.content_length[0]) > self._max_body:
            raise GatewayError(Reason.BODY_TOO_LARGE)

    def upstream_head(
        self, head: RequestHead, admitted: Admitted, identity: Identity | None, origin: Origin, request_id: bytes
    ) -> bytes:
        """Return the head that the upstream gets, built new."""
        route = admitted.route
        path = origin.base_path + upstream_path(route, admitted.target)
        query = admitted.target.query
        target = path if query is None else b"%b?%b" % (path, query)
        client_host = admitted.target.authority or (admitted.fields.host[0] if admitted.fields.host else b"")
        preserve = origin.preserve_host and bool(client_host)
        headers = request_headers(
            head.headers,
            policy=self.header_policy,
            peer=head.peer,
            identity=identity.headers if identity is not None else (),
            request_id=request_id,
            host=client_host if preserve else origin.host,
            client_host=client_host,
            forward_authorization=route.settings.forward_authorization,
            framing=framing(admitted.fields),
        )
        return render_head(b"%b %b HTTP/1.1" % (head.method.encode("ascii"), target), headers)


def framing(fields: Fields) -> tuple[tuple[bytes, bytes], ...]:
    """Return the fields that frame the request's content upstream, made afresh (RFC 9112 section 6.3)."""
    if fields.transfer_encoding:
        return ((b"Transfer-Encoding", b"chunked"),)
    if fields.content_length:
        return ((b"Content-Length", b"%d" % int(fields.content_length[0])),)
    return ()


def scan(headers: Sequence[tuple[bytes, bytes]]) -> Fields:
    """Collect, in one pass, the fields that the gateway itself acts on."""
    fields = Fields([], [], [], [], [])
    wanted = {
        b"authorization": fields.authorization,
        b"host": fields.host,
        b"content-length": fields.content_length,
        b"transfer-encoding": fields.transfer_encoding,
        b"expect": fields.expect,
    }
    for name, value in headers:
        values = wanted.get(name.lower())
        if values is not None:
            values.append(value)
    return fields
