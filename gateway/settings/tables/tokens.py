"""The options of the table ``[tokens]``.

This file has declarations only.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from gateway.settings import values
from gateway.settings.tables.base import NonEmptyText, Section


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
    # Of two features, and of whatever else is to be used once.
    replay_size: Annotated[int, Field(ge=1, le=10_000_000)] = 100_000
    """Ids of used DPoP proofs, and of used tokens of routes with `single_use`, that each worker remembers: so many of
    each kind. When full, further ones get 503; with `redis.url`, which remembers all, the one that ends first makes
    room."""
