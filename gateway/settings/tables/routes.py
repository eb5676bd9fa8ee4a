"""The options of ``[[routes]]``.

This file has declarations only.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from gateway.settings import values
from gateway.settings.tables.base import NonEmptyText, Scope, Section, Text

#: What a caller may show.
Credential = Literal["jwt", "opaque", "api_key"]

#: The kinds that are bearer tokens (RFC 6750).
BEARER = frozenset({"jwt", "opaque"})

FieldName = Annotated[str, AfterValidator(values.field_name)]
WebOrigin = Annotated[str, AfterValidator(values.web_origin)]


class RouteSettings(Section):
    """Which requests go to an upstream, and what they must prove first."""

    note = """\
The most specific route wins, wherever it stands: `exact` before `prefix` before `regex`, a longer path before a shorter
one, with hosts before without, with methods before without. Two routes that one request could match and that are equal
in all of this are a fault. The path guard comes first: requests with dot segments, empty segments, backslashes or
encoded control characters never reach a route. Paths are compared decoded, case counts, and so does a last slash:
`/orders/` covers what is below, not `/orders` itself.
"""

    path: Annotated[str, Field(min_length=1, examples=["/orders"])]
    """A path, decoded: `/orders` also covers `/orders/1`, never `/ordersX`. With `match = "regex"`: a pattern for the
    whole path."""
    match: Literal["prefix", "exact", "regex"] = "prefix"
    """How `path` is compared: `prefix` on a segment border, `exact`, or `regex`."""
    hosts: list[Annotated[str, AfterValidator(values.host)]] = []
    """Only for these hosts, without port. Empty: any."""
    methods: list[Annotated[str, AfterValidator(values.method)]] = []
    """Only for these methods. Empty: any."""
    upstream: Annotated[NonEmptyText, Field(examples=["orders"])]
    """Name of the upstream that serves this route."""
    strip_prefix: bool = False
    """Remove `path` from the front of the request's path before forwarding."""
    auth: Literal["required", "optional", "public"] = "required"
    """`required`; `optional`: identity if a good token is there, a bad one is still 401; `public`: tokens are not
    looked at."""
    credentials: Annotated[list[Credential], Field(min_length=1)] = ["jwt"]
    """What callers may show: bearer tokens that the gateway verifies itself (`jwt`), bearer tokens that it introspects
    (`opaque`, see `introspection_url`), API keys (`api_key`), or any of these; never two at once."""
    # The rules for headers and the reading of credentials know the field of each route; so it is an option of the core.
    api_key_header: Annotated[str, AfterValidator(values.credential_header_name)] = "x-api-key"
    """The header that holds an API key, where `credentials` has them. It is never sent to the upstream then."""
    issuers: list[str] = []
    """Names of the issuers whose tokens are accepted; API keys have none. Empty: any configured issuer."""
    scopes: list[Scope] = []
    """All of these scopes are needed; else 403."""
    any_scopes: list[Scope] = []
    """At least one of these scopes is needed; else 403."""
    claims: dict[str, Text | Annotated[list[Text], Field(min_length=1)]] = {}
    """Claim and its accepted values; a claim that is a list needs any one of them. Else 403. `$tenant` is
    the tenant of an issuer that is a template."""
    sender_constrained: Literal["optional", "required", "dpop", "mtls"] = "optional"
    """Which tokens are accepted: bearer tokens, too; only those that are bound to their sender; only those bound to a
    key (`dpop`, RFC 9449) or to a client certificate (`mtls`, RFC 8705). A bound token always needs its proof."""
    forward_authorization: bool = False
    """Send the Authorization and DPoP headers on to the upstream."""
    observe: bool = False
    """Let requests pass that would be refused for their credential; count and log why. For a safe roll-out."""
    allow_encoded_slash: bool = False
    """Accept `%2F` in the path as an ordinary character of a segment, for APIs that put it there. Otherwise 400."""
    websocket: bool = True
    """Let WebSocket handshakes through to the upstream. Off: their Upgrade is removed, like any other protocol's."""
    websocket_protocol_token: bool = False
    """For browsers, which cannot send an Authorization header with a WebSocket: take the token from
    `Sec-WebSocket-Protocol: bearer, <token>`. The upstream sees neither of the two."""
    websocket_max_message_bytes: Annotated[int, Field(ge=0)] = 67108864
    """Largest WebSocket message in either direction, as it is on the wire; above: both ends are closed with 1009.
    0 = no limit."""
    end_at_expiry: bool = False
    """Cut off a response that is still coming when its token or API key expires or is withdrawn. WebSockets always end
    then."""
    # The step that looks at revocations is the core's, whatever they are read from.
    revocation_failure: Literal["closed", "open"] = "closed"
    """While the revocation list is unavailable: `closed`: requests with a good credential get 503; `open`: they pass by
    the last known list, and are counted."""
    cors_origins: list[WebOrigin] = []
    """Origins whose pages may call from a browser, such as `https://app.example.com`, or `"*"` for any. The gateway
    then answers preflights itself, without a token. Empty: an OPTIONS request is like any other."""
    cors_methods: list[Annotated[str, AfterValidator(values.method)]] = []
    """Methods that these pages may use. Empty: what the route serves."""
    cors_headers: list[FieldName] = []
    """Request headers that these pages may set, besides those that need no permission. Empty: any."""
    cors_expose_headers: list[FieldName] = []
    """Headers of the service's responses that these pages may read, besides those that need no permission."""
    cors_max_age_seconds: Annotated[int, Field(ge=0, le=86400)] = 600
    """How long a browser may remember the answer to a preflight. Whole seconds; 0 = not at all."""
    cors_credentials: bool = False
    """Let browsers add cookies and client certificates of their own. Bearer tokens do not need it."""


def takes_keys(route: RouteSettings) -> bool:
    """Return whether callers of a route may show a credential in a field of its own: an API key."""
    return route.auth != "public" and not BEARER.issuperset(route.credentials)


def takes_tokens(route: RouteSettings) -> bool:
    """Return whether callers of a route may show a bearer token."""
    return route.auth != "public" and not BEARER.isdisjoint(route.credentials)
