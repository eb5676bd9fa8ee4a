"""The whole configuration: which tables there are.

Every option of the gateway is declared once. Flags, environment names, the
configuration reference, the example file and the JSON Schema are all derived
from these models; nothing may be declared a second time elsewhere. A table of
its own size is in a file of its own name; here are the small ones, and what
all of them make together. Checks of one value are in ``values.py``; checks
that need several options are in ``checks.py``.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from gateway.features.abuse_watch.options import Watch
from gateway.features.api_keys.options import ApiKey
from gateway.features.rate_limits.options import Limits, RateLimit
from gateway.features.resource_metadata.options import Resource
from gateway.features.revocation.options import Revocation
from gateway.features.sender_constrained.options import Dpop
from gateway.settings import values
from gateway.settings.tables.base import NonEmptyText, Section
from gateway.settings.tables.issuers import Algorithm, Issuer, issuer_values
from gateway.settings.tables.redis import Redis
from gateway.settings.tables.routes import Credential, Route
from gateway.settings.tables.server import Server
from gateway.settings.tables.upstreams import Upstream

__all__ = [
    "DEFAULT_IDENTITY",
    "Algorithm",
    "ApiKey",
    "Credential",
    "Dpop",
    "Issuer",
    "Limits",
    "RateLimit",
    "Redis",
    "Resource",
    "Revocation",
    "Route",
    "Server",
    "Settings",
    "Tokens",
    "Upstream",
    "Watch",
    "issuer_values",
]

HeaderName = Annotated[str, AfterValidator(values.identity_header_name)]
ClaimSource = Annotated[str | list[NonEmptyText], AfterValidator(values.claim_source)]

#: The ``[identity]`` mapping used when the configuration has none.
DEFAULT_IDENTITY: dict[str, str | list[str]] = {
    "x-user-id": "sub",
    "x-user-role": "role",
    "x-scope": "$scopes",
}


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
    replay_size: Annotated[int, Field(ge=1, le=10_000_000)] = 100_000
    """DPoP proofs, and tokens of routes with `single_use`, that each worker remembers as used, of either kind so many.
    When there are more at one time, further ones get 503; with `redis.url`, which remembers all, the one that ends
    first makes room."""
    api_keys_file: str = ""
    """A file of further API keys: a JSON object a line, with the keys of `[[api_keys]]`. Read again when it changes."""


class Settings(Section):
    """The whole configuration."""

    server: Server = Server()
    tokens: Tokens = Tokens()
    limits: Limits = Limits()
    watch: Watch = Watch()
    issuers: list[Issuer] = []
    api_keys: list[ApiKey] = []
    upstreams: Annotated[list[Upstream], Field(min_length=1)]
    routes: Annotated[list[Route], Field(min_length=1)]
    resources: list[Resource] = []
    dpop: Dpop = Dpop()
    redis: Redis = Redis()
    revocation: Revocation = Revocation()
    identity: dict[HeaderName, ClaimSource] = Field(default_factory=lambda: dict(DEFAULT_IDENTITY))
    """Header -> claim. A list is a path into nested claims; `$scopes`, `$issuer`, `$client` and `$tenant` are the
    gateway's own.
    """
