"""The path of one request, in order: what both lanes call.

Guard the target, find the route, take the one credential, know the caller,
check the route's rules, build the upstream's head. Each step is a pure
function of its own file; here is only their order and what happens between
them. Nothing here does I/O but the wait for an issuer's keys.
"""

from __future__ import annotations

import re
from enum import Enum
from typing import NamedTuple

from gateway.clock import Clock
from gateway.errors import MISSING_TOKEN, GatewayError, Reason, printable
from gateway.identity import Identity
from gateway.policy.authorize import authorize
from gateway.policy.cors import requested_method
from gateway.policy.hosts import parse_host
from gateway.policy.paths import Target, parse_target
from gateway.policy.resources import MetadataDocument, Resources
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
    without_key,
)
from gateway.proxy.upstreams import Origin
from gateway.proxy.websocket import UPGRADE_FIELDS, asks_for_websocket, without_token
from gateway.server.credentials import Callers, Held, credential
from gateway.server.facts import Facts, framing, scan
from gateway.settings.schema import Settings
from gateway.telemetry import Record
from gateway.tokens.api_keys import ApiKeys
from gateway.tokens.authenticate import Authenticator
from gateway.tokens.batch import VerificationBatch

#: Methods that a gateway must not pass on (RFC 9110 sections 9.3.6, 9.3.8).
_REFUSED_METHODS = frozenset({"CONNECT", "TRACE"})


class RequestHead(NamedTuple):
    """A request's head as received, with who sent it."""

    method: str
    target: bytes
    http_11: bool
    headers: RawHeaders
    peer: Peer


class Unsettled(Enum):
    """The answer of a step that would have to wait."""

    UNSETTLED = "unsettled"


UNSETTLED = Unsettled.UNSETTLED


class Admitted(NamedTuple):
    """A request that may go on to its credential: its target is sound and a route serves it.

    Attributes:
        preflight: a browser asks whether a page may send a request that this route would serve.
        websocket: it asks for a WebSocket, and the route offers that.
        document: it is about a document that the gateway itself serves, on a route of its own.
    """

    route: Route
    target: Target
    host: str
    facts: Facts
    preflight: bool = False
    websocket: bool = False
    document: MetadataDocument | None = None


class Pipeline:
    """Steps 2 to 7 of a request's path, compiled from one configuration.

    Attributes:
        recall, refuse_unread: the authenticator's, for whoever takes its steps one by one.
        still_good: why a credential that was good is so no longer; None while it is.
        new_tokens: verifies, at the end of the loop's turn, tokens that it does not know.
        resources: the protected resources, with their documents.
    """

    def __init__(
        self,
        settings: Settings,
        authenticator: Authenticator,
        clock: Clock,
        pseudonym: bytes,
        api_keys: ApiKeys | None = None,
    ) -> None:
        self.header_policy: HeaderPolicy = compile_header_policy(settings, pseudonym)
        self.pseudonym = pseudonym
        self._authenticator = authenticator
        keys = ApiKeys(settings, clock) if api_keys is None else api_keys
        self._callers = Callers(authenticator, keys, clock)
        self.still_good = self._callers.still_good
        self.recall, self.refuse_unread = authenticator.recall, authenticator.refuse_unread
        self.new_tokens = VerificationBatch(authenticator)
        self._clock = clock
        self._routes = RouteTable(settings.routes)
        self.resources = Resources(settings, self._routes.routes)
        self._key_names = frozenset(route.api_key_header for route in self._routes.routes if route.api_key_header)
        self._max_body = settings.server.max_body_bytes

    def read(self, head: RequestHead) -> Facts:
        """Return what the header section says to the gateway itself."""
        facts = scan(head.headers, self._key_names)
        return facts._replace(looped=True) if passed_before(head.headers, self.pseudonym) else facts

    def admit(self, head: RequestHead, facts: Facts, record: Record) -> Admitted:
        """Guard the target and find the route.

        Raises:
            GatewayError: 400, 404, 405, 417 or 508.
        """
        try:
            if head.method in _REFUSED_METHODS:
                raise GatewayError(Reason.METHOD_REFUSED)
            target = parse_target(head.method, head.target, secure=head.peer.secure)
        except GatewayError:
            if head.target.startswith(b"/"):  # other forms may hold credentials, as query and fragment may
                record.path = printable(re.split(rb"[?#]", head.target, maxsplit=1)[0].decode("latin-1"), 512)
            raise
        record.path = target.path.decode("ascii")
        host = parse_host(facts.host, target.authority, head.http_11)
        if facts.looped:
            raise GatewayError(Reason.LOOP)
        document = self.resources.find(host, target.match_path)
        route = self._preflight_route(host, head, target) if head.method == "OPTIONS" and document is None else None
        preflight = route is not None
        if document is not None:
            route, preflight = document.route, head.method == "OPTIONS" and requested_method(head.headers) is not None
        if route is None:
            route = self._routes.match(host, head.method, target.match_path)
        if route is None:
            raise GatewayError(Reason.NO_ROUTE)
        record.route = route.name
        if target.encoded_slash and not route.allow_encoded_slash:
            raise GatewayError(Reason.ENCODED_SLASH)
        if facts.expect and head.http_11 and any(value.lower() != b"100-continue" for value in facts.expect):
            raise GatewayError(Reason.EXPECTATION)
        websocket = bool(facts.upgrade) and route.websocket and asks_for_websocket(facts.upgrade)
        return Admitted(route, target, host, facts, preflight, websocket, document)

    def _preflight_route(self, host: str, head: RequestHead, target: Target) -> Route | None:
        """Return the route that a preflight is about, if it has rules for pages of other origins."""
        method = requested_method(head.headers)
        if method is None:
            return None
        route = self._routes.match(host, method, target.match_path)
        return None if route is None or route.cors is None else route

    def client_address(self, head: RequestHead) -> bytes:
        """Return the client's address, seen through trusted proxies (R257)."""
        return client_address(head.headers, self.header_policy, head.peer)

    async def identify(self, admitted: Admitted, record: Record) -> Identity | None:
        """Return who is asking, and that the route lets them; None for nobody in particular.

        Raises:
            GatewayError: 400, 401, 403 or 503.
        """
        token = self.token(admitted, record)
        if token is None:
            return None
        identity = self.recognise(token, admitted, record)
        if identity is UNSETTLED:
            return await self.verify(token, admitted, record)
        return identity

    def token(self, admitted: Admitted, record: Record) -> bytes | None:
        """Return the request's one token or API key; None when nobody asks for it, or it has none and may have none.

        Raises:
            GatewayError: 400 or 401.
        """
        auth = admitted.route.auth
        if auth == "public":
            return None
        try:
            return _credential(admitted, admitted.target.query or b"")
        except GatewayError as error:
            if auth != "optional" or error.reason.kind is not MISSING_TOKEN:
                _let_pass_if_observed(admitted.route, error, record)
            return None

    def recognise(self, token: bytes, admitted: Admitted, record: Record) -> Identity | Unsettled | None:
        """Return who shows the credential, if that needs no waiting; None when an observed route lets it pass.

        Raises:
            GatewayError: 401, 403 or 503.
        """
        try:
            identity = self._callers.known(token, record)
            if identity is None:
                return UNSETTLED
            record.identity = identity
            authorize(admitted.route, identity)
        except GatewayError as error:
            _let_pass_if_observed(admitted.route, error, record)
            return None
        return identity

    async def verify(self, token: bytes, admitted: Admitted, record: Record) -> Identity | None:
        """Return who the token speaks for, waiting for keys.

        Raises:
            GatewayError: 401, 403 or 503.
        """
        began = self._clock.monotonic()
        try:
            identity = await self._authenticator.authenticate(token)
            record.identity = identity
            authorize(admitted.route, identity)
        except GatewayError as error:
            _let_pass_if_observed(admitted.route, error, record)
            return None
        finally:
            record.verify_seconds = self._clock.monotonic() - began
        return identity

    def hold(self, admitted: Admitted) -> Held:
        """Return what the verdict on the request's credential, which was good, rests on; see ``still_good``.

        Raises:
            GatewayError: it is no longer good.
        """
        try:
            return self._callers.hold(_credential(admitted, b""))
        except GatewayError as error:
            error.credentials = admitted.route.credentials
            raise

    def check_content(self, facts: Facts) -> None:
        """Refuse content that says of itself that it is too large (RFC 9110 section 15.5.14)."""
        if self._max_body and facts.content_length and int(facts.content_length[0]) > self._max_body:
            raise GatewayError(Reason.BODY_TOO_LARGE)

    def upstream_head(
        self, head: RequestHead, admitted: Admitted, identity: Identity | None, origin: Origin, request_id: bytes
    ) -> bytes:
        """Return the head that the upstream gets, built new; its last field is the request id."""
        facts, authority = admitted.facts, admitted.target.authority
        client_host = authority or (facts.host[0] if facts.host else b"")
        preserve = origin.preserve_host and bool(client_host)
        given = head.headers
        if admitted.websocket and admitted.route.websocket_protocol_token:
            given = without_token(given)
        if admitted.route.api_key_header:
            given = without_key(given, admitted.route.api_key_header)
        headers = request_headers(
            given,
            policy=self.header_policy,
            peer=head.peer,
            identity=identity.headers if identity is not None else (),
            request_id=request_id,
            host=client_host if preserve else origin.host,
            client_host=client_host,
            forward_authorization=admitted.route.forward_authorization,
            framing=UPGRADE_FIELDS if admitted.websocket else framing(facts),
            http_version=b"1.1" if head.http_11 else b"1.0",
        )
        return render_head(request_line(head.method, admitted, origin), headers)


def request_line(method: str, admitted: Admitted, origin: Origin) -> bytes:
    """Return the request line that the upstream gets, without its end."""
    path, query = upstream_path(admitted.route, admitted.target), admitted.target.query
    target = origin.base_path + (path if query is None else b"%b?%b" % (path, query))
    return b"%b %b HTTP/1.1" % (method.encode("ascii"), target)


def _credential(admitted: Admitted, query: bytes) -> bytes:
    return credential(admitted.route, admitted.facts, query, websocket=admitted.websocket)


def _let_pass_if_observed(route: Route, error: GatewayError, record: Record) -> None:
    """Note a refusal that an observed route does not act on; raise it on every other route."""
    if not route.observe:
        error.credentials = route.credentials
        raise error
    record.observed = error.reason.code
    record.detail = error.detail
