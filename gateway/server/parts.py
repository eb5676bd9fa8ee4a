"""What one worker consists of, for the pages that tell of it.

Only the declaration lives here; ``app.py`` builds the parts, ``admin.py`` and
``metrics.py`` read them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gateway.proxy.upstreams import Upstream
from gateway.server.abuse_watch import AbuseWatch
from gateway.server.proofs import Proofs
from gateway.server.rate_limit_guard import RateLimitGuard
from gateway.server.single_use import SingleUse
from gateway.store.conditions import Conditions
from gateway.store.fleet import Fleet
from gateway.store.redis_link import RedisLink
from gateway.telemetry import Telemetry
from gateway.tokens.api_keys import ApiKeys
from gateway.tokens.authenticate import Authenticator
from gateway.tokens.introspection import Introspector
from gateway.tokens.jwks_refresh import IssuerKeys
from gateway.tokens.tenants import Tenants


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of one worker that have something to tell."""

    telemetry: Telemetry
    authenticator: Authenticator
    issuers: Mapping[str, IssuerKeys | Tenants]
    upstreams: Mapping[str, Upstream]
    api_keys: ApiKeys
    introspectors: Mapping[str, Introspector]
    proofs: Proofs
    single_use: SingleUse
    rate_limits: RateLimitGuard
    watch: AbuseWatch
    redis: RedisLink | None
    fleet: Fleet | None
    conditions: Conditions | None
