"""The whole configuration: which tables there are.

Every option of the gateway is declared once. Flags, environment names, the
configuration reference, the example file and the JSON Schema are all derived
from these models; nothing may be declared a second time elsewhere. A table of
its own size is in a file of its own name; here are the small ones, and what
all of them make together. Checks of one value are in ``values.py``; checks
that need several options are in ``checks.py``.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from gateway.features.abuse_watch.options import Watch
from gateway.features.api_keys.options import ApiKey
from gateway.features.rate_limits.options import Limits
from gateway.features.resource_metadata.options import Resource
from gateway.features.revocation.options import Revocation
from gateway.features.sender_constrained.options import Dpop
from gateway.settings import values
from gateway.settings.tables.base import NonEmptyText, Section
from gateway.settings.tables.issuers import Issuer
from gateway.settings.tables.redis import Redis
from gateway.settings.tables.routes import Route
from gateway.settings.tables.server import Server
from gateway.settings.tables.tokens import Tokens
from gateway.settings.tables.upstreams import Upstream

HeaderName = Annotated[str, AfterValidator(values.identity_header_name)]
ClaimSource = Annotated[str | list[NonEmptyText], AfterValidator(values.claim_source)]

#: The ``[identity]`` mapping used when the configuration has none.
DEFAULT_IDENTITY: dict[str, str | list[str]] = {
    "x-user-id": "sub",
    "x-user-role": "role",
    "x-scope": "$scopes",
}


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
