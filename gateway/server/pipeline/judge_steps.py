"""The path of one request, in order: what both lanes call.

Guard the target, find the route, know the caller and whether it may
(``authentication/identify.py``), build the upstream's head. Each step is a pure function
of its own file; here is only their order and what happens between them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from gateway.clock import Clock
from gateway.errors import GatewayError, Reasons, printable
from gateway.http1.host import parse_host
from gateway.http1.target import Target, parse_target
from gateway.http1.websocket import UPGRADE_FIELDS, asks_for_websocket, without_token
from gateway.identity import Identity
from gateway.jwt.authenticator import Authenticator
from gateway.jwt.batch import VerificationBatch
from gateway.policy.cors import requested_method
from gateway.policy.routes import Route, RouteTable, upstream_path
from gateway.server.authentication.credentials import Credentials
from gateway.server.authentication.identify import Identification
from gateway.server.authentication.jwt_kind import JwtKind
from gateway.server.request.challenges import OtherKind, RouteChallenges
from gateway.server.request.endpoint import Endpoint
from gateway.server.request.facts import Facts, forwards_left, framing, scan, with_fewer_forwards
from gateway.server.request.request import Admitted, RequestHead
from gateway.server.seam.feature import Part
from gateway.server.seam.guard import Guards
from gateway.server.seam.observer import only
from gateway.settings.feature_faults import Hook
from gateway.settings.tables.root import Settings
from gateway.telemetry.counters import Record
from gateway.upstream.headers.forwarded import client_address
from gateway.upstream.headers.header_policy import HeaderPolicy, compile_header_policy
from gateway.upstream.headers.rewrite import passed_before, render_head, request_headers, without_key
from gateway.upstream.pool.upstream_url import Origin

#: Methods that a gateway must not pass on (RFC 9110 sections 9.3.6, 9.3.8).
_REFUSED_METHODS = frozenset({"CONNECT", "TRACE"})


class Pipeline:
    """Steps 2 to 7 of a request's path, compiled from one configuration.

    Args:
        settings: the whole configuration.
        routes: its routes, compiled.
        authenticator: verifies JWTs.
        parts: those of the features by the feature's name, in the order of their list.
        clock: the time.
        pseudonym: this gateway's name in Via.

    Attributes:
        authenticator: as given.
        credentials: the kinds of credentials, and which of them a route takes.
        identification: the steps from route to caller.
        new_tokens: verifies, at the end of the loop's turn, tokens that it does not know.
        observer: looks at refused requests, and may refuse client addresses.
        covered: whether guards are asked about each request of a route.
        challenges: the challenges of refusals, by the route's name; the empty name is for no route.
        header_policy: which request fields pass.
        pseudonym: as given.
    """

    def __init__(
        self,
        settings: Settings,
        routes: RouteTable,
        authenticator: Authenticator,
        parts: Mapping[str, Part],
        clock: Clock,
        pseudonym: bytes,
    ) -> None:
        self.authenticator = authenticator
        self.pseudonym = pseudonym
        self._routes = routes
        self.observer = only([part.observer for part in parts.values() if part.observer is not None])
        guarding = [(name, guard) for name, part in parts.items() for guard in part.guards]
        guards = Guards(guarding, routes.routes, self.observer)
        self._guards = guards
        self.covered = guards.covered
        offered = [*(kind for part in parts.values() for kind in part.credentials), JwtKind(authenticator, clock)]
        self.credentials = Credentials(offered, routes.routes, authenticator.revocations)
        self.identification = Identification(self.credentials, guards, clock)
        self.header_policy: HeaderPolicy = compile_header_policy(settings, pseudonym, self.credentials.fields)
        self.new_tokens = VerificationBatch(authenticator)
        self._endpoints = [part.endpoints for part in parts.values() if part.endpoints is not None]
        self._guarded = frozenset(route for route in routes.routes if guards.covered(route))
        self._fields = {route: kinds.fields for route in routes.routes if (kinds := self.credentials.of(route)).fields}
        self._overridden = frozenset(route for route in routes.routes if self.credentials.overridden(route))
        self.challenges = {route.name: self._challenges_of(route, parts) for route in routes.routes}
        self.challenges[""] = self._challenges_of(None, parts)
        self._max_body = settings.server.max_body_bytes

    def _challenges_of(self, route: Route | None, parts: Mapping[str, Part]) -> RouteChallenges:
        parameters: dict[str, str] = {}
        for name, part in parts.items():
            with Hook(name, "challenge_parameters"):
                parameters |= part.challenge_parameters(route)
        if route is None:
            return RouteChallenges(parameters=parameters)
        kinds = self.credentials.of(route)
        others = tuple(OtherKind(kind.title, kind.challenge) for kind in kinds.fields.values())
        return RouteChallenges(bool(kinds.bearer), route.token_schemes, others, parameters)

    def read(self, head: RequestHead) -> Facts:
        """Return what the header section says to the gateway itself."""
        facts = scan(head.headers, self.credentials.fields)
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
        endpoint = self._endpoint(host, target.match_path) if self._endpoints else None
        route = self._preflight_route(host, head, target) if head.method == "OPTIONS" and endpoint is None else None
        preflight = route is not None
        if endpoint is not None:
            route, preflight = endpoint.route, head.method == "OPTIONS" and requested_method(head.headers) is not None
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
        barring = self.observer.barring and route.auth != "public" and self.observer.bars(record.client)
        guarded, overridden = route in self._guarded or barring, route in self._overridden
        left = forwards_left(facts) if head.method == "OPTIONS" else None
        return Admitted(route, target, host, facts, preflight, websocket, endpoint, guarded, overridden, left)

    def _endpoint(self, host: str, path: str) -> Endpoint | None:
        for endpoints in self._endpoints:
            if (found := endpoints.find(host, path)) is not None:
                return found
        return None

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
        line, preserve = request_line(head.method, admitted, origin), origin.preserve_host and bool(client_host)
        given = head.headers
        if admitted.websocket and admitted.route.websocket_protocol_token:
            given = without_token(given)
        for field in self._fields.get(admitted.route, ()):
            given = without_key(given, field)
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
        return render_head(line, headers)


def request_line(method: str, admitted: Admitted, origin: Origin) -> bytes:
    """Return the request line that the upstream gets, without its end."""
    path, query = upstream_path(admitted.route, admitted.target), admitted.target.query
    target = origin.base_path + (path if query is None else b"%b?%b" % (path, query))
    return b"%b %b HTTP/1.1" % (method.encode("ascii"), target)
