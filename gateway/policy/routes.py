"""Which route serves a request.

This file has the compiled routes, the choice among them and the path that a
route sends upstream. The order is the contract's: exact before prefix before
regex, longer path before shorter, with hosts before without, with methods
before without. A route whose hosts or methods do not fit is passed over and the
next one is tried; without any, nothing is served. Regexes of the same length
are tried in the order of the configuration.

The cost of a look-up depends on the path, not on the number of routes: one
dictionary look-up for each segment border up to the longest configured prefix.
Only regex routes are tried one after the other. Their patterns are the
operator's, and Python's ``re`` cannot be interrupted: a pattern such as
``(a+)+`` lets a client burn time. Paths over ``MAX_REGEX_PATH`` characters
never reach a pattern, which bounds every pattern but an exponential one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from gateway.http1.host import canonical_host
from gateway.http1.target import Target
from gateway.policy.cors import CorsPolicy, compile_cors
from gateway.policy.express_options import REMEMBERED, SERVED, is_within
from gateway.settings.tables.base import Text
from gateway.settings.tables.routes import Credential, RouteSettings

#: Longest path, in characters, that is compared with a regex; a longer one matches none.
MAX_REGEX_PATH = 2048

#: The methods that a service may be expected to know (RFC 9110 section 9.3, RFC 5789).
USUAL_METHODS = frozenset({"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"})

SenderConstrained = Literal["optional", "required", "dpop", "mtls"]

# A token that is bound to a certificate is sent as Bearer (RFC 8705 section 3). Where any token will do, only clients
# that use DPoP get its challenge.
_TOKEN_SCHEMES: dict[SenderConstrained, tuple[str, ...]] = {
    "optional": ("Bearer",),
    "required": ("DPoP", "Bearer"),
    "dpop": ("DPoP",),
    "mtls": ("Bearer",),
}


@dataclass(frozen=True, slots=True)
class ClaimRule:
    """The accepted values of one top-level claim, apart by JSON type: ``true``, ``1`` and ``"1"`` are three values."""

    name: str
    texts: frozenset[str]
    numbers: frozenset[float]
    booleans: frozenset[bool]


@dataclass(frozen=True, slots=True, eq=False)
class Route:
    """One configured route, compiled.

    Attributes:
        name: stable label for logs and metrics: the configured path, with ``#2``
            and so on where several routes have the same.
        settings: the configuration that this was made from.
        auth: whether a token is required, optional, or not looked at.
        upstream: the upstream's name.
        credentials: what callers may show.
        issuers: names of the accepted issuers; empty: all.
        scopes: all of them are needed.
        any_scopes: one of them is needed; empty: none.
        claim_rules: each must hold.
        hosts: canonical hosts; empty: all.
        methods: methods, case-sensitive (RFC 9110 section 9.1); empty: all.
        strip_segments: how many leading segments are removed before forwarding.
        allow_encoded_slash: ``%2F`` in the path is served.
        sender_constrained: which tokens are accepted: all, or those bound in a certain way.
        token_schemes: the schemes under which tokens may be sent, as challenges name them.
        forward_authorization: the Authorization field is sent on.
        observe: refusals for the token are counted and logged, not answered.
        cors: what pages of other origins may do with it; None when nothing is said.
        websocket: WebSocket handshakes are sent on.
        websocket_protocol_token: a WebSocket's token may stand among its subprotocols.
        websocket_max_message_bytes: most payload of one message; 0 for no limit.
        end_at_expiry: a response ends with its token.
        express_serves: the express lane may serve it (``express_options.py``).
        express_remembers: it may also remember what follows from a head on it.
    """

    name: str
    settings: RouteSettings
    auth: Literal["required", "optional", "public"]
    upstream: str
    credentials: frozenset[Credential]
    issuers: frozenset[str]
    scopes: frozenset[str]
    any_scopes: frozenset[str]
    claim_rules: tuple[ClaimRule, ...]
    hosts: frozenset[str]
    methods: frozenset[str]
    strip_segments: int
    allow_encoded_slash: bool
    sender_constrained: SenderConstrained
    token_schemes: tuple[str, ...]
    forward_authorization: bool
    observe: bool
    cors: CorsPolicy | None
    websocket: bool
    websocket_protocol_token: bool
    websocket_max_message_bytes: int
    end_at_expiry: bool
    express_serves: bool
    express_remembers: bool


class RouteTable:
    """All routes, arranged so that the most specific one is found first.

    Args:
        routes: as configured.
        express: options of features with which the express lane may serve a route.

    Raises:
        ValueError: for a route whose path or host cannot be compiled. The checks of
            the settings find such faults first, with the path of their key.
    """

    def __init__(self, routes: Sequence[RouteSettings], express: frozenset[str] = frozenset()) -> None:
        #: In the order of the configuration.
        self.routes: tuple[Route, ...] = tuple(_compile_all(routes, express))
        self._exact: dict[str, _Bucket] = {}
        # Prefix without its final slash -> (prefixes that end in a slash, prefixes that do not).
        self._prefixes: dict[str, tuple[_Bucket, _Bucket]] = {}
        regexes: list[Route] = []
        for route in sorted(self.routes, key=_unspecific):
            path = route.settings.path
            match route.settings.match:
                case "exact":
                    self._exact.setdefault(path, _Bucket()).add(route)
                case "prefix":
                    pair = self._prefixes.setdefault(path.removesuffix("/"), (_Bucket(), _Bucket()))
                    pair[0 if path.endswith("/") else 1].add(route)
                case "regex":
                    regexes.append(route)
        self._longest_prefix = max(map(len, self._prefixes), default=-1)
        regexes.sort(key=lambda route: -len(route.settings.path))
        self._regexes: tuple[tuple[Callable[[str], object], Route], ...] = tuple(
            (re.compile(route.settings.path).fullmatch, route) for route in regexes
        )

    def match(self, host: str, method: str, path: str) -> Route | None:
        """Return the most specific route, or None: then nothing is served.

        Args:
            host: canonical host of the request; empty when it has none.
            method: as received.
            path: the rules' reading of the path (``Target.match_path``).
        """
        bucket = self._exact.get(path)
        if bucket is not None and (route := bucket.find(host, method)) is not None:
            return route
        prefixes = self._prefixes
        pair = prefixes.get(path)
        if pair is not None and (route := pair[1].find(host, method)) is not None:
            return route
        border = path.rfind("/", 0, self._longest_prefix + 1)
        while border >= 0:
            pair = prefixes.get(path[:border])
            if pair is not None:
                route = pair[0].find(host, method) or pair[1].find(host, method)
                if route is not None:
                    return route
            border = path.rfind("/", 0, border)
        return self._match_regex(host, method, path) if self._regexes else None

    def methods(self, host: str, path: str) -> list[str]:
        """Return the methods with which a path is served, of those that are usual or that some route names."""
        named = {method for route in self.routes for method in route.methods}
        return sorted(method for method in named | USUAL_METHODS if self.match(host, method, path) is not None)

    def _match_regex(self, host: str, method: str, path: str) -> Route | None:
        if len(path) > MAX_REGEX_PATH:
            return None
        for fullmatch, route in self._regexes:
            if _fits(route.hosts, host) and _fits(route.methods, method) and fullmatch(path):
                return route
        return None


def upstream_path(route: Route, target: Target) -> bytes:
    """Return the path for the upstream: as received, without the segments that the route strips.

    Segments are counted on the raw bytes, because the spelling of a segment
    (``/%6Frders``, ``/orders;v=1``) can be longer than the configured prefix.
    The result begins with ``/`` and never with ``//``.
    """
    path, border = target.path, 0
    for _ in range(route.strip_segments):
        border = path.find(b"/", border + 1)
        if border < 0:
            return b"/"
    return path[border:]


class _Bucket:
    """The routes of one path: by host first, then those for any host; with methods first in each."""

    __slots__ = ("any_host", "by_host")

    def __init__(self) -> None:
        self.by_host: dict[str, list[Route]] = {}
        self.any_host: list[Route] = []

    def add(self, route: Route) -> None:
        for host in route.hosts:
            self.by_host.setdefault(host, []).append(route)
        if not route.hosts:
            self.any_host.append(route)

    def find(self, host: str, method: str) -> Route | None:
        if self.by_host:
            for route in self.by_host.get(host, ()):
                if not route.methods or method in route.methods:
                    return route
        for route in self.any_host:
            if not route.methods or method in route.methods:
                return route
        return None


def _fits(accepted: frozenset[str], value: str) -> bool:
    return not accepted or value in accepted


def _unspecific(route: Route) -> tuple[bool, bool]:
    """Sort key within one path; the sort is stable, so the configuration's order decides the rest."""
    return (not route.hosts, not route.methods)


def _compile_all(routes: Iterable[RouteSettings], express: frozenset[str]) -> Iterable[Route]:
    taken: set[str] = set()
    for settings in routes:
        name, number = settings.path, 1
        while name in taken:
            number += 1
            name = f"{settings.path}#{number}"
        taken.add(name)
        yield _compile(name, settings, express)


def _compile(name: str, settings: RouteSettings, express: frozenset[str]) -> Route:
    if settings.match != "regex" and not settings.path.startswith("/"):
        raise ValueError(f"the path of a route begins with '/': {settings.path!r}")
    segments = sum(1 for segment in settings.path.split("/") if segment)
    return Route(
        name=name,
        settings=settings,
        auth=settings.auth,
        upstream=settings.upstream,
        credentials=frozenset(settings.credentials),
        issuers=frozenset(settings.issuers),
        scopes=frozenset(settings.scopes),
        any_scopes=frozenset(settings.any_scopes),
        claim_rules=tuple(_compile_rule(claim, accepted) for claim, accepted in settings.claims.items()),
        hosts=frozenset(_compile_host(host) for host in settings.hosts),
        methods=frozenset(settings.methods),
        strip_segments=segments if settings.strip_prefix and settings.match != "regex" else 0,
        allow_encoded_slash=settings.allow_encoded_slash,
        sender_constrained=settings.sender_constrained,
        token_schemes=_TOKEN_SCHEMES[settings.sender_constrained],
        forward_authorization=settings.forward_authorization,
        observe=settings.observe,
        cors=compile_cors(settings),
        websocket=settings.websocket,
        websocket_protocol_token=settings.websocket_protocol_token,
        websocket_max_message_bytes=settings.websocket_max_message_bytes,
        end_at_expiry=settings.end_at_expiry,
        express_serves=is_within(settings, SERVED | express),
        express_remembers=is_within(settings, REMEMBERED | express),
    )


def _compile_host(host: str) -> str:
    try:
        return canonical_host(host.encode("ascii", "replace"))
    except Exception as error:
        raise ValueError(f"not a host: {host!r}") from error


def _compile_rule(claim: str, accepted: Text | list[Text]) -> ClaimRule:
    values = accepted if isinstance(accepted, list) else [accepted]
    return ClaimRule(
        name=claim,
        texts=frozenset(value for value in values if isinstance(value, str)),
        numbers=frozenset(value for value in values if isinstance(value, int | float) and not isinstance(value, bool)),
        booleans=frozenset(value for value in values if isinstance(value, bool)),
    )
