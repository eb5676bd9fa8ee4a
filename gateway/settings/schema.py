"""Every option of the gateway, declared once.

Only declarations live here: names, types, defaults, bounds, units, meaning.
Flags, environment names, the configuration reference, the example file and
the JSON Schema are all derived from these models; nothing may be declared a
second time elsewhere. The table ``[[resources]]`` is in ``resources.py``; an API
key's options are in ``api_keys.py``, because a file may hold them, too. Checks
of one value are in ``values.py``; checks that need several options are in
``checks.py``.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from gateway.settings import values
from gateway.settings.api_keys import ApiKey, key_field
from gateway.settings.redis import Redis
from gateway.settings.resources import Resource
from gateway.settings.section import Name, NonEmptyText, Scope, Section, Text

#: What tokens may be signed with: asymmetric algorithms only (RFC 8725 section 3.2).
Algorithm = Literal["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "Ed25519"]

#: What a caller may show.
Credential = Literal["jwt", "api_key"]

Address = Annotated[str, AfterValidator(values.listen_address)]
Network = Annotated[str, AfterValidator(values.network)]
FieldName = Annotated[str, AfterValidator(values.field_name)]
WebOrigin = Annotated[str, AfterValidator(values.web_origin)]
HeaderName = Annotated[str, AfterValidator(values.identity_header_name)]
ClaimSource = Annotated[str | list[NonEmptyText], AfterValidator(values.claim_source)]

#: The ``[identity]`` mapping used when the configuration has none.
DEFAULT_IDENTITY: dict[str, str | list[str]] = {
    "x-user-id": "sub",
    "x-user-role": "role",
    "x-scope": "$scopes",
}


class Server(Section):
    """The listener, the admin port, and the limits of one connection."""

    listen: Address = "0.0.0.0:8080"
    """Where clients connect: `host:port`, `[v6]:port`, or `unix:/path`. Port 0 lets the system pick."""
    admin_listen: Address = "127.0.0.1:9090"
    """Health, readiness, metrics and status: never on the public port. Same forms as `listen`."""
    workers: Annotated[int, Field(ge=1, le=256)] | Literal["auto"] = 1
    """Worker processes that share `listen`; `"auto"` is one for each CPU core that the gateway may run on. From two on,
    a supervisor starts them, replaces dead ones, and shows all of them on the one admin port."""
    tls_cert: str = ""
    """PEM certificate chain; with `tls_key`, `listen` speaks HTTPS."""
    tls_key: str = ""
    """PEM private key of `tls_cert`."""
    tls_client_ca: str = ""
    """PEM bundle of authorities: clients must then present a certificate that one of them signed."""
    trusted_proxies: list[Network] = []
    """CIDRs of proxies whose X-Forwarded-* and Forwarded are believed. Empty: nobody's."""
    tls_handshake_timeout_seconds: Annotated[float, Field(gt=0, le=3600)] = 10
    """From the connection to the end of its TLS handshake; then it is closed."""
    request_head_timeout_seconds: Annotated[float, Field(gt=0, le=3600)] = 10
    """From the first byte of a request to the end of its header section; then the connection is closed."""
    request_body_timeout_seconds: Annotated[float, Field(ge=0, le=86400)] = 60
    """Longest wait for the next piece of a request's content: then 408, or the end of a response that has begun.
    0 = no limit."""
    response_write_timeout_seconds: Annotated[float, Field(ge=0, le=86400)] = 60
    """How long a client that has a response to read may take none of it; then the connection is cut. 0 = no limit."""
    keepalive_timeout_seconds: Annotated[float, Field(gt=0, le=86400)] = 75
    """How long an idle client connection is kept."""
    max_head_bytes: Annotated[int, Field(ge=1024, le=1048576)] = 65536
    """The whole header section of a request; above: 431."""
    max_body_bytes: Annotated[int, Field(ge=0)] = 0
    """A request's content; above: 413. 0 = no limit."""
    max_connections: Annotated[int, Field(ge=1)] = 10000
    """Client connections per worker; the next one is answered 503 and closed."""
    max_concurrent_requests: Annotated[int, Field(ge=0)] = 0
    """Requests that are served at one time per worker, streams included and open WebSockets not; the next one is
    answered 503 at once. 0 = no limit."""
    drain_seconds: Annotated[float, Field(ge=0, le=3600)] = 30
    """How long running requests may take to finish after SIGTERM or SIGINT."""
    express: bool = True
    """Serve plain requests without aiohttp's machinery, over the same rules and pools; off: aiohttp serves them all."""
    access_log: Literal["json", "text", "off"] = "json"
    """One line a request on standard output, in this form."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Least severity of the gateway's own messages on standard error."""


class Tokens(Section):
    """What is accepted as a credential, and how long a verified token is remembered."""

    max_bytes: Annotated[int, Field(ge=256, le=65536)] = 8192
    """Longer bearer tokens and API keys are refused unread."""
    cache_size: Annotated[int, Field(ge=0, le=10_000_000)] = 10000
    """Verified tokens kept, per worker. 0 = off."""
    cache_seconds: Annotated[float, Field(gt=0, le=86400)] = 300
    """A cached token is verified anew after this, whatever its `exp`."""
    scope_claims: Annotated[list[NonEmptyText], Field(min_length=1)] = ["scope", "scp", "scopes"]
    """Claims that may hold the scopes; the first one present wins."""
    invalid_token_status: Literal[401, 403] = 401
    """Status for bad tokens and keys: 401 (RFC 6750), or 403 for clients written against gateways that answer 403."""
    realm: Annotated[str, AfterValidator(values.quoted_text)] = "gateway"
    """The realm of every `WWW-Authenticate` challenge."""
    api_keys_file: str = ""
    """A file of further API keys: a JSON object a line, with the keys of `[[api_keys]]`. Read again when it changes."""


class Issuer(Section):
    """Who signs tokens, where the keys are, and what every token of this issuer must say."""

    name: Annotated[Name, Field(examples=["main"])]
    """What routes, logs and metrics call this issuer."""
    issuer: Annotated[
        NonEmptyText | Annotated[list[NonEmptyText], Field(min_length=1)], Field(examples=["https://idp.example.com/"])
    ]
    """The exact `iss` value, or a list of them. Compared byte for byte: a trailing slash counts (RFC 8725 section
    3.8)."""
    jwks_url: Annotated[str, AfterValidator(values.optional_http_url)] = ""
    """Where the keys are. Empty, without `jwks_file`: OIDC discovery from the first issuer value."""
    jwks_file: str = ""
    """Instead of a URL: a JWKS or PEM file, read again when it changes."""
    audience: Annotated[list[NonEmptyText], Field(min_length=1, examples=[["api"]])]
    """The token must be for any of these (RFC 8725 section 3.9)."""
    audience_claim: NonEmptyText = "aud"
    """The claim that names the audience, e.g. `client_id` for providers that set no `aud`."""
    algorithms: Annotated[list[Algorithm], Field(min_length=1)] = ["RS256", "ES256"]
    """Accepted signature algorithms: asymmetric only. EdDSA and Ed25519 are two names of one algorithm for Ed25519
    keys: either admits both."""
    token_type: Literal["any", "at+jwt"] = "any"  # noqa: S105  (a type, no secret)
    """`at+jwt`: the header's `typ` must say so (RFC 9068 section 4)."""
    required_claims: list[NonEmptyText] = ["exp", "sub"]
    """Claims without which a token is refused. `iss` and the audience are always required."""
    claims: dict[str, Text] = {}
    """Exact values that every token of this issuer must carry, e.g. `{ token_use = "access" }`."""
    leeway_seconds: Annotated[float, Field(ge=0, le=300)] = 30
    """Allowed clock difference for `exp`, `nbf` and `iat`."""
    max_lifetime_seconds: Annotated[float, Field(ge=0)] = 86400
    """A token whose `exp` is further than this after its `iat` (or after now, without `iat`) is refused. 0 = off."""
    jwks_refresh_seconds: Annotated[float, Field(ge=1, le=86400)] = 300
    """Time between two fetches of the keys. An answer with Cache-Control sets its own, within 15 s and 24 h."""
    jwks_cooldown_seconds: Annotated[float, Field(ge=0.1, le=3600)] = 10
    """Least time between two fetches caused by tokens with an unknown `kid`."""
    jwks_max_stale_seconds: Annotated[float, Field(gt=0, le=2592000)] = 86400
    """After this long without a good fetch the keys are no longer believed: 503."""
    jwks_timeout_seconds: Annotated[float, Field(gt=0, le=60)] = 3
    """Bound on one fetch, from connecting to the last byte."""
    jwks_ca_file: str = ""
    """PEM bundle for the issuer's TLS certificate, instead of the system's authorities."""
    jwks_token_file: str = ""
    """File with a bearer token for the JWKS and discovery endpoints; read again at each fetch, sent to no other host.
    """
    allow_http: bool = False
    """Accept `http://` addresses that are not loopback, for an issuer inside a private network."""


class Upstream(Section):
    """A service behind the gateway, and the pool of connections to it."""

    name: Annotated[Name, Field(examples=["orders"])]
    """What routes, logs and metrics call this upstream."""
    urls: Annotated[
        list[Annotated[str, AfterValidator(values.upstream_url)]],
        Field(min_length=1, examples=[["http://127.0.0.1:9000"]]),
    ]
    """Base URLs: `http://`, `https://`, or `unix:/path/to.sock`. Requests go in turn to those that are up. A path is
    put before the request's; for a socket it is written behind a second colon, `unix:/path/to.sock:/base`."""
    pool_size: Annotated[int, Field(ge=1, le=65536)] = 256
    """Connections per worker and URL."""
    pool_wait_seconds: Annotated[float, Field(gt=0, le=3600)] = 2
    """Waiting longer than this for a connection of a full pool: 503."""
    connect_timeout_seconds: Annotated[float, Field(gt=0, le=3600)] = 2
    """To an open connection, TLS included; above: 504."""
    response_timeout_seconds: Annotated[float, Field(gt=0, le=86400)] = 30
    """From the end of the request to the end of the response's header section; above: 504."""
    idle_timeout_seconds: Annotated[float, Field(ge=0, le=86400)] = 300
    """Between two reads of a response body; then the response is cut off. 0 = none, for server-sent events."""
    pool_idle_seconds: Annotated[float, Field(gt=0, le=3600)] = 4
    """How long an idle connection is kept. Below the upstream's own limit, so that it is not used as it closes."""
    pool_max_age_seconds: Annotated[float, Field(ge=0, le=86400)] = 300
    """A connection older than this serves no further request, so that busy ones follow a changed DNS answer, too.
    0 = no limit."""
    preserve_host: bool = False
    """Send the client's Host to the upstream instead of the URL's."""
    eject_after_failures: Annotated[int, Field(ge=0, le=1000)] = 3
    """After this many failures in a row to connect, a URL gets no requests for 1 s, and for twice as long each time
    that a single request then fails to connect. 0 = never."""
    eject_max_seconds: Annotated[float, Field(gt=0, le=86400)] = 60
    """Longest time between two such tries."""
    health_path: Annotated[str, AfterValidator(values.health_path)] = ""
    """Ask each URL's host for this path (without the URL's own), to know whether it is up: 2xx and 3xx are. Two bad
    answers in a row take it out of the turn, one good one puts it back. Empty: not asked."""
    health_interval_seconds: Annotated[float, Field(ge=0.1, le=3600)] = 5
    """Time between two questions to one URL, give or take a tenth."""
    health_timeout_seconds: Annotated[float, Field(gt=0, le=60)] = 1
    """An answer that takes longer than this is a bad one."""
    tls_ca_file: str = ""
    """PEM bundle for the certificates of `https://` URLs, instead of the system's authorities. They are always checked.
    """
    tls_client_cert: str = ""
    """PEM certificate chain to present to `https://` URLs; with `tls_client_key`."""
    tls_client_key: str = ""
    """PEM private key of `tls_client_cert`."""
    tls_server_name: Annotated[str, AfterValidator(values.tls_name)] = ""
    """Name to ask for (SNI) and to find in the certificate, instead of the URL's host: for URLs that are addresses."""


class Route(Section):
    """Which requests go to an upstream, and what they must prove first."""

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
    """What callers may show: bearer tokens (`jwt`), API keys (`api_key`), or either; never both at once."""
    api_key_header: Annotated[str, AfterValidator(key_field)] = "x-api-key"
    """The header field that holds an API key, where `credentials` has them. It is never sent to the upstream then."""
    issuers: list[str] = []
    """Names of the issuers whose tokens are accepted; API keys have none. Empty: any configured issuer."""
    scopes: list[Scope] = []
    """All of these scopes are needed; else 403."""
    any_scopes: list[Scope] = []
    """At least one of these scopes is needed; else 403."""
    claims: dict[str, Text | Annotated[list[Text], Field(min_length=1)]] = {}
    """Claim and its accepted values; a claim that is a list needs any one of them. Else 403."""
    forward_authorization: bool = False
    """Send the Authorization header on to the upstream."""
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
    resource: str = ""
    """Identifier of the resource that this route is part of. Empty: the most specific of `resources` that fits."""
    cors_origins: list[WebOrigin] = []
    """Origins whose pages may call from a browser, such as `https://app.example.com`, or `"*"` for any. The gateway
    then answers preflights itself, without a token. Empty: an OPTIONS request is like any other."""
    cors_methods: list[Annotated[str, AfterValidator(values.method)]] = []
    """Methods that these pages may use. Empty: what the route serves."""
    cors_headers: list[FieldName] = []
    """Header fields that these pages may set, besides those that need no permission. Empty: any."""
    cors_max_age_seconds: Annotated[int, Field(ge=0, le=86400)] = 600
    """How long a browser may remember the answer to a preflight. Whole seconds; 0 = not at all."""
    cors_credentials: bool = False
    """Let browsers add cookies and client certificates of their own. Bearer tokens do not need it."""


class Settings(Section):
    """The whole configuration."""

    server: Server = Server()
    tokens: Tokens = Tokens()
    issuers: list[Issuer] = []
    api_keys: list[ApiKey] = []
    upstreams: Annotated[list[Upstream], Field(min_length=1)]
    routes: Annotated[list[Route], Field(min_length=1)]
    resources: list[Resource] = []
    redis: Redis = Redis()
    identity: dict[HeaderName, ClaimSource] = Field(default_factory=lambda: dict(DEFAULT_IDENTITY))
    """Header -> claim. A list is a path into nested claims; `$scopes`, `$issuer` and `$client` are the gateway's own.
    """


def issuer_values(issuer: Issuer) -> tuple[str, ...]:
    """Return the exact ``iss`` values of an issuer entry, the first one first."""
    return (issuer.issuer,) if isinstance(issuer.issuer, str) else tuple(issuer.issuer)
