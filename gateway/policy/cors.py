"""What pages of other origins may do with a route, and the response headers that say so to browsers.

This file has the decision and the fields of its answer (Fetch standard, section
"HTTP CORS protocol"). The gateway does not protect anything by them: who may
call is decided by the token. They only tell a browser which pages may send that
token and read the answer. The danger of this file is the echo: what a request
says is repeated only when it equals a configured value or is a plain token.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from gateway.errors import GatewayError, Reasons
from gateway.http1.fields import METHOD, RawHeaders, is_token, list_members, values_of
from gateway.settings.tables.routes import RouteSettings

Fields = tuple[tuple[bytes, bytes], ...]

_METHOD = re.compile(METHOD).fullmatch

#: Methods that no page may use (Fetch standard, "forbidden method").
_FORBIDDEN = frozenset({b"CONNECT", b"TRACE", b"TRACK"})

#: Fields of the gateway's own answers that a page may read besides the harmless ones.
_EXPOSED = (b"Retry-After", b"WWW-Authenticate", b"X-Request-Id")

_PREFLIGHT_VARY = (b"Vary", b"Origin, Access-Control-Request-Method, Access-Control-Request-Headers")


@dataclass(frozen=True, slots=True)
class CorsPolicy:
    """The rules of one route.

    Attributes:
        origins: serialized origins whose pages may call; empty with ``any_origin``.
        any_origin: every page may.
        credentials: browsers may add cookies and certificates of their own.
        methods: what pages may send, in the order to tell it; empty for whatever the route serves.
        headers: lower-case names that pages may set, in the order to tell it; empty for any.
        exposed: names of the service's fields that pages may read.
        max_age: seconds that a browser may remember the answer to a preflight.
    """

    origins: frozenset[bytes]
    any_origin: bool
    credentials: bool
    methods: tuple[bytes, ...]
    headers: tuple[bytes, ...]
    exposed: tuple[bytes, ...]
    max_age: int


def compile_cors(route: RouteSettings) -> CorsPolicy | None:
    """Return the rules of a route; None when it has none."""
    if not route.cors_origins:
        return None
    return CorsPolicy(
        origins=frozenset(origin.encode("ascii") for origin in route.cors_origins if origin != "*"),
        any_origin="*" in route.cors_origins,
        credentials=route.cors_credentials,
        methods=tuple(method.encode("ascii") for method in route.cors_methods or route.methods),
        headers=tuple(name.encode("ascii") for name in route.cors_headers),
        exposed=tuple(name.encode("ascii") for name in route.cors_expose_headers),
        max_age=route.cors_max_age_seconds,
    )


def requested_method(headers: RawHeaders) -> str | None:
    """Return the method that an OPTIONS request asks for on a page's behalf; None when it is no preflight.

    A preflight has one Origin and one Access-Control-Request-Method.
    """
    methods = values_of(headers, b"access-control-request-method")
    if len(methods) != 1 or len(values_of(headers, b"origin")) != 1:
        return None
    return methods[0].decode("latin-1")


def preflight_fields(policy: CorsPolicy, headers: RawHeaders) -> Fields:
    """Return the fields of the answer to a preflight that is allowed.

    Args:
        headers: of the preflight, for which ``requested_method`` found a method.

    Raises:
        GatewayError: ``CORS_ORIGIN``, ``CORS_METHOD`` or ``CORS_HEADER``.
    """
    origin = _allowed_origin(policy, headers)
    if origin is None:
        raise GatewayError(Reasons.CORS_ORIGIN)
    method = values_of(headers, b"access-control-request-method")[0]
    if method in _FORBIDDEN or not _METHOD(method) or (policy.methods and method not in policy.methods):
        raise GatewayError(Reasons.CORS_METHOD)
    names = _requested_headers(headers)
    if not all(map(is_token, names)) or (policy.headers and not set(names) <= set(policy.headers)):
        raise GatewayError(Reasons.CORS_HEADER)
    fields = [
        *_origin_fields(policy, origin),
        (b"Access-Control-Allow-Methods", b", ".join(policy.methods or (method,))),
        (b"Access-Control-Max-Age", b"%d" % policy.max_age),
        _PREFLIGHT_VARY,
    ]
    if allowed := policy.headers or names:
        fields.append((b"Access-Control-Allow-Headers", b", ".join(allowed)))
    return tuple(fields)


def without_own(response: RawHeaders) -> Fields:
    """Return an upstream's fields without what it says about pages itself: on these routes the gateway speaks alone.

    Two that speak at once say more than either means: a browser joins the values
    of a field that comes twice, and takes a lone permission for one of the other's.
    """
    return tuple(pair for pair in response if pair[0][:15].lower() != b"access-control-")


def response_fields(policy: CorsPolicy, headers: RawHeaders, response: RawHeaders, added: RawHeaders = ()) -> Fields:
    """Return what is added to an upstream's response.

    Args:
        headers: of the request.
        response: the fields that the upstream sent.
        added: the fields that the gateway adds besides; pages may read them.
    """
    vary = [name for line in values_of(response, b"vary") for name in list_members(line.lower())]
    readable = (*policy.exposed, *(name for name, _ in added))
    return _answer_fields(policy, headers, readable, varies=b"origin" in vary or b"*" in vary)


def refusal_fields(policy: CorsPolicy, headers: RawHeaders, added: RawHeaders = ()) -> Fields:
    """Return what is added to an answer of the gateway itself, so that pages can read it; see ``response_fields``."""
    return _answer_fields(policy, headers, (*_EXPOSED, *(name for name, _ in added)), varies=False)


def _answer_fields(policy: CorsPolicy, headers: RawHeaders, readable: Sequence[bytes], *, varies: bool) -> Fields:
    """Return the fields that say who may read an answer. ``Vary`` names Origin also when no origin
    may: caches keep such answers, too."""
    origin = _allowed_origin(policy, headers)
    fields = [] if origin is None else list(_origin_fields(policy, origin))
    if not policy.any_origin and not varies:
        fields.append((b"Vary", b"Origin"))
    if origin is not None and readable:
        fields.append((b"Access-Control-Expose-Headers", b", ".join(dict.fromkeys(readable))))
    return tuple(fields)


def _origin_fields(policy: CorsPolicy, origin: bytes) -> Fields:
    allow = (b"Access-Control-Allow-Origin", origin)
    return (allow, (b"Access-Control-Allow-Credentials", b"true")) if policy.credentials else (allow,)


def _allowed_origin(policy: CorsPolicy, headers: RawHeaders) -> bytes | None:
    """Return the value of Access-Control-Allow-Origin; None when the request's page may not call."""
    if policy.any_origin:
        return b"*"  # also without Origin: caches then have one answer for all origins
    origins = values_of(headers, b"origin")
    return origins[0] if len(origins) == 1 and origins[0] in policy.origins else None


def _requested_headers(headers: RawHeaders) -> tuple[bytes, ...]:
    lines = values_of(headers, b"access-control-request-headers")
    return tuple(name.lower() for line in lines for name in list_members(line))
