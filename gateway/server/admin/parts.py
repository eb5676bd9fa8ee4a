"""What one worker consists of, for the pages that tell of it.

Only the declaration lives here; ``app.py`` builds the parts, ``admin.py`` and
``metrics.py`` read them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gateway.features.abuse_watch.watch import AbuseWatch
from gateway.features.api_keys.keys import ApiKeys
from gateway.features.introspection.introspector import Introspector
from gateway.features.rate_limits.guard import RateLimitGuard
from gateway.features.sender_constrained.proof import Proofs
from gateway.features.single_use.guard import SingleUse
from gateway.jwt.authenticator import Authenticator
from gateway.jwt.issuers.refresher import IssuerKeys
from gateway.jwt.issuers.tenants import Tenants
from gateway.store.conditions import Conditions
from gateway.store.fleet import Fleet
from gateway.store.redis_link import RedisLink
from gateway.telemetry.counters import Telemetry
from gateway.upstream.pool.upstream import Upstream


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
