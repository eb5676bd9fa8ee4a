"""The path of one request, in order: what both lanes call.

Guard the target, find the route, know the caller and whether it may
(``authentication/identify.py``), build the upstream's head. Each step is a pure function
of its own file; here is only their order and what happens between them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from hashlib import sha256

from gateway.clock import Clock
from gateway.errors import GatewayError, Reasons, printable
from gateway.http1.host import parse_host
from gateway.http1.request_head import HeadReader, RequestHead
from gateway.http1.target import Target, parse_target
from gateway.http1.trusted_proxies import Peer
from gateway.http1.websocket import asks_for_websocket
from gateway.identity import Identity
from gateway.jwt.authenticator import Authenticator
from gateway.policy.cors import requested_method
from gateway.policy.routes import Route, RouteTable, upstream_path
from gateway.server.authentication.credentials import Credentials
from gateway.server.authentication.identify import Identification
from gateway.server.authentication.jwt_kind import JwtKind
from gateway.server.request.challenges import OtherKind, RouteChallenges
from gateway.server.request.endpoint import Endpoint
from gateway.server.request.facts import UPGRADE_LINES, forwards_left, framing
from gateway.server.request.request import Admitted
from gateway.server.seam.feature import Part
from gateway.server.seam.guard import Guards
from gateway.server.seam.observer import only
from gateway.settings.feature_faults import Hook
from gateway.settings.tables.root import Settings
from gateway.telemetry.record import Record
from gateway.upstream.headers.forwarded import Forwarding
from gateway.upstream.headers.header_policy import HeaderPolicy, compile_header_policy
from gateway.upstream.headers.rewrite import client_lines, names_no_field, passed_before, upstream_head
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
        reader: reads heads.
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
        reads = self.credentials.fields.union(*(part.reads for part in parts.values()))
        self.header_policy: HeaderPolicy = compile_header_policy(settings, pseudonym, reads)
        self.reader = HeadReader(self.header_policy.meaning, self.header_policy.usual)
        self._forwarding = Forwarding(self.header_policy.trusted, pseudonym, self.header_policy.stripped)
        self._endpoints = [part.endpoints for part in parts.values() if part.endpoints is not None]
        self._guarded = frozenset(route for route in routes.routes if guards.covered(route))
        self._fields = {route: kinds.fields for route in routes.routes if (kinds := self.credentials.of(route)).fields}
        self._selective = frozenset(
            route for route in routes.routes if route.forward_authorization or route in self._fields
        )
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

    def admit(self, head: RequestHead, peer: Peer, record: Record) -> Admitted:
        """Guard the target and find the route.

        Raises:
            GatewayError: 400, 404, 405, 417 or 508.
        """
        try:
            if head.method in _REFUSED_METHODS:
                raise GatewayError(Reasons.METHOD_REFUSED)
            target = parse_target(head.method, head.target, secure=peer.secure)
        except GatewayError:
            if head.target.startswith(b"/"):  # other forms may hold credentials, as query and fragment may
                record.path = printable(re.split(rb"[?#]", head.target, maxsplit=1)[0].decode("latin-1"), 512)
            raise
        record.path = target.path.decode("ascii")
        host = parse_host(head.hosts, target.authority, head.http_11)
        if head.read and passed_before(head.read, self.pseudonym):
            raise GatewayError(Reasons.LOOP)
        endpoint = self._endpoint(host, target.match_path) if self._endpoints else None
        route = self._preflight_route(host, head, target) if head.method == "OPTIONS" and endpoint is None else None
        preflight = route is not None
        if endpoint is not None:
            route, preflight = endpoint.route, head.method == "OPTIONS" and requested_method(head.read) is not None
        if route is None:
            route = self._routes.match(host, head.method, target.match_path)
        if route is None:
            raise GatewayError(Reasons.NO_ROUTE)
        record.route = route.name
        if target.encoded_slash and not route.allow_encoded_slash:
            raise GatewayError(Reasons.ENCODED_SLASH)
        websocket = False
        if head.read:
            if head.http_11 and any(value.lower() != b"100-continue" for value in head.values(b"expect")):
                raise GatewayError(Reasons.EXPECTATION)
            websocket = route.websocket and asks_for_websocket(head.values(b"upgrade"))
        barring = self.observer.barring and route.auth != "public" and self.observer.bars(record.client)
        guarded, overridden = route in self._guarded or barring, route in self._overridden
        left = forwards_left(head) if head.method == "OPTIONS" else None
        return Admitted(route, target, host, head, preflight, websocket, endpoint, guarded, overridden, left)

    def _endpoint(self, host: str, path: str) -> Endpoint | None:
        for endpoints in self._endpoints:
            if (found := endpoints.find(host, path)) is not None:
                return found
        return None

    def _preflight_route(self, host: str, head: RequestHead, target: Target) -> Route | None:
        """Return the route that a preflight is about, if it has rules for pages of other origins."""
        method = requested_method(head.read)
        if method is None:
            return None
        route = self._routes.match(host, method, target.match_path)
        return None if route is None or route.cors is None else route

    def allowed_methods(self, admitted: Admitted) -> list[str]:
        """Return the methods with which the request's target is served on some route."""
        return self._routes.methods(admitted.host, admitted.target.match_path)

    def client_address(self, head: RequestHead, peer: Peer) -> str:
        """Return the client's address, seen through trusted proxies (R257)."""
        return self._forwarding.client(peer, head.forwarding)

    def knows(self, head: RequestHead) -> bool:
        """Return whether a request comes with a JWT that is known to be good; what its route says is another matter."""
        if len(head.authorization) != 1 or head.authorization[0][:7].lower() != b"bearer ":
            return False
        digest = sha256(head.authorization[0][7:].lstrip(b" ")).digest()
        return self.authenticator.cache.peek(digest) is not None

    def check_content(self, head: RequestHead) -> None:
        """Refuse content that says of itself that it is too large (RFC 9110 section 15.5.14)."""
        if self._max_body and head.content_length and head.content_length > self._max_body:
            raise GatewayError(Reasons.BODY_TOO_LARGE)

    def upstream_head(
        self,
        head: RequestHead,
        peer: Peer,
        admitted: Admitted,
        identity: Identity | None,
        origin: Origin,
        request_id: bytes,
    ) -> bytes:
        """Return the head that the upstream gets, built new; its last field is the request id."""
        route = admitted.route
        client_host = admitted.target.authority or head.host
        line, preserve = request_line(head, admitted, origin), origin.preserve_host and bool(client_host)
        lines = head.kept
        if route in self._selective or not names_no_field(head.options) or admitted.websocket or admitted.forwards_left:
            lines = client_lines(
                head,
                send_credentials=route.forward_authorization,
                without=self._fields.get(route, ()),
                websocket_token=admitted.websocket and route.websocket_protocol_token,
                forwards_left=admitted.forwards_left,
            )
        return upstream_head(
            line,
            client_host if preserve else origin.host,
            lines,
            UPGRADE_LINES if admitted.websocket else framing(head),
            self._forwarding.lines(peer, head.forwarding, client_host, http_11=head.http_11),
            identity.lines if identity is not None else b"",
            request_id,
        )


def request_line(head: RequestHead, admitted: Admitted, origin: Origin) -> bytes:
    """Return the request line that the upstream gets, without its end."""
    if head.http_11 and admitted.target.authority is None and not (admitted.route.strip_segments or origin.base_path):
        return head.line
    path, query = upstream_path(admitted.route, admitted.target), admitted.target.query
    target = origin.base_path + (path if query is None else b"%b?%b" % (path, query))
    return b"%b %b HTTP/1.1" % (head.method.encode("ascii"), target)
