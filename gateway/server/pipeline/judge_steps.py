"""The path of one request, in order: what both lanes call.

Guard the target, find the route, know the caller and whether it may
(``identification.py``), build the upstream's head. Each step is a pure function
of its own file; here is only their order and what happens between them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from gateway.clock import Clock
from gateway.errors import GatewayError, Reasons, printable
from gateway.features.abuse_watch.watch import AbuseWatch
from gateway.features.api_keys.keys import ApiKeys
from gateway.features.introspection.choice import OpaqueTokens
from gateway.features.introspection.introspector import Introspector
from gateway.features.resource_metadata.documents import Resources
from gateway.features.sender_constrained.proof import Proofs, make_proofs
from gateway.http1.host import parse_host
from gateway.http1.target import Target, parse_target
from gateway.http1.websocket import UPGRADE_FIELDS, asks_for_websocket, without_token
from gateway.identity import Identity
from gateway.jwt.authenticator import Authenticator
from gateway.jwt.batch import VerificationBatch
from gateway.policy.cors import requested_method
from gateway.policy.routes import Route, RouteTable, upstream_path
from gateway.server.authentication.credentials import Callers
from gateway.server.authentication.identify import Identification
from gateway.server.request.facts import Facts, forwards_left, framing, scan, with_fewer_forwards
from gateway.server.request.request import Admitted, RequestHead
from gateway.server.seam.guard import Guard, Guards
from gateway.settings.tables.root import Settings
from gateway.telemetry.counters import Record
from gateway.upstream.headers.rewrite import (
    HeaderPolicy,
    client_address,
    compile_header_policy,
    passed_before,
    render_head,
    request_headers,
    without_key,
)
from gateway.upstream.pool.upstream import Origin

#: Methods that a gateway must not pass on (RFC 9110 sections 9.3.6, 9.3.8).
_REFUSED_METHODS = frozenset({"CONNECT", "TRACE"})


class Pipeline:
    """Steps 2 to 7 of a request's path, compiled from one configuration.

    Attributes:
        cache: the tokens that the authenticator has verified.
        recall, refuse_unread: the authenticator's, for whoever takes its steps one by one.
        identify, identify_now, token, recognise, verify, hold: the steps from route to caller (``Identification``).
        still_good: why a credential that was good is so no longer; None while it is.
        revocations: what is revoked, and whether anybody knows.
        new_tokens: verifies, at the end of the loop's turn, tokens that it does not know.
        opaque: who is asked about tokens that only their issuer can read.
        resources: the protected resources, with their documents.
        watch: what looks like abuse.
        covered: whether guards are asked about each request of a route.
    """

    def __init__(
        self,
        settings: Settings,
        authenticator: Authenticator,
        clock: Clock,
        pseudonym: bytes,
        api_keys: ApiKeys | None = None,
        guards: Iterable[Guard] = (),
        introspectors: Mapping[str, Introspector] | None = None,
        proofs: Proofs | None = None,
        watch: AbuseWatch | None = None,
    ) -> None:
        self.header_policy: HeaderPolicy = compile_header_policy(settings, pseudonym)
        self.pseudonym = pseudonym
        self._routes = RouteTable(settings.routes)
        self.watch = AbuseWatch(settings.watch, clock) if watch is None else watch
        self._guards = Guards(guards, self._routes.routes, self.watch)
        self.covered = self._guards.covered
        self.opaque = OpaqueTokens(settings, introspectors or {}, self._routes.routes)
        keys = ApiKeys(settings, clock) if api_keys is None else api_keys
        callers = Callers(authenticator, self.opaque, keys, clock)
        proofs = make_proofs(settings, clock) if proofs is None else proofs
        who = Identification(callers, self._guards, proofs, clock)
        self.identify, self.identify_now, self.verify, self.hold = who.identify, who.identify_now, who.verify, who.hold
        self.token, self.recognise = who.token, who.recognise
        self.still_good = callers.still_good
        self.revocations = authenticator.revocations
        self.cache = authenticator.cache
        self.recall, self.refuse_unread = authenticator.recall, authenticator.refuse_unread
        self.new_tokens = VerificationBatch(authenticator)
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
                raise GatewayError(Reasons.METHOD_REFUSED)
            target = parse_target(head.method, head.target, secure=head.peer.secure)
        except GatewayError:
            if head.target.startswith(b"/"):  # other forms may hold credentials, as query and fragment may
                record.path = printable(re.split(rb"[?#]", head.target, maxsplit=1)[0].decode("latin-1"), 512)
            raise
        record.path = target.path.decode("ascii")
        host = parse_host(facts.host, target.authority, head.http_11)
        if facts.looped:
            raise GatewayError(Reasons.LOOP)
        document = self.resources.find(host, target.match_path)
        route = self._preflight_route(host, head, target) if head.method == "OPTIONS" and document is None else None
        preflight = route is not None
        if document is not None:
            route, preflight = document.route, head.method == "OPTIONS" and requested_method(head.headers) is not None
        if route is None:
            route = self._routes.match(host, head.method, target.match_path)
        if route is None:
            raise GatewayError(Reasons.NO_ROUTE)
        record.route = route.name
        if target.encoded_slash and not route.allow_encoded_slash:
            raise GatewayError(Reasons.ENCODED_SLASH)
        if facts.expect and head.http_11 and any(value.lower() != b"100-continue" for value in facts.expect):
            raise GatewayError(Reasons.EXPECTATION)
        websocket = bool(facts.upgrade) and route.websocket and asks_for_websocket(facts.upgrade)
        guarded, asks = self._guards.watch_over(route, record.client), self.opaque.asks_about_jwts(route)
        left = forwards_left(facts) if head.method == "OPTIONS" else None
        return Admitted(route, target, host, facts, preflight, websocket, document, guarded, asks, left)

    def _preflight_route(self, host: str, head: RequestHead, target: Target) -> Route | None:
        """Return the route that a preflight is about, if it has rules for pages of other origins."""
        method = requested_method(head.headers)
        if method is None:
            return None
        route = self._routes.match(host, method, target.match_path)
        return None if route is None or route.cors is None else route

    def allowed_methods(self, admitted: Admitted) -> list[str]:
        """Return the methods with which the request's target is served on some route."""
        return self._routes.methods(admitted.host, admitted.target.match_path)

    def client_address(self, head: RequestHead) -> bytes:
        """Return the client's address, seen through trusted proxies (R257)."""
        return client_address(head.headers, self.header_policy, head.peer)

    def check_content(self, facts: Facts) -> None:
        """Refuse content that says of itself that it is too large (RFC 9110 section 15.5.14)."""
        if self._max_body and facts.content_length and int(facts.content_length[0]) > self._max_body:
            raise GatewayError(Reasons.BODY_TOO_LARGE)

    def upstream_head(
        self, head: RequestHead, admitted: Admitted, identity: Identity | None, origin: Origin, request_id: bytes
    ) -> bytes:
        """Return the head that the upstream gets, built new; its last field is the request id."""
        return self._upstream_head(head, admitted, origin, identity, request_id)

    def upstream_head_start(self, head: RequestHead, admitted: Admitted, origin: Origin) -> bytes:
        """Return that head up to the fields of one request: without those of an identity, the id and the empty line."""
        return self._upstream_head(head, admitted, origin, None, None)[: -len(b"\r\n")]

    def _upstream_head(
        self,
        head: RequestHead,
        admitted: Admitted,
        origin: Origin,
        identity: Identity | None,
        request_id: bytes | None,
    ) -> bytes:
        facts, authority = admitted.facts, admitted.target.authority
        client_host = authority or (facts.host[0] if facts.host else b"")
        preserve = origin.preserve_host and bool(client_host)
        given = head.headers
        if admitted.websocket and admitted.route.websocket_protocol_token:
            given = without_token(given)
        if admitted.route.api_key_header:
            given = without_key(given, admitted.route.api_key_header)
        if admitted.forwards_left:
            given = with_fewer_forwards(given, admitted.forwards_left)
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
