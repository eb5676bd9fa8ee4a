"""What one worker consists of, for the pages that show it.

Declares these parts; ``app.py`` builds what it names, ``pages.py`` and
``collector.py`` read it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gateway.jwt.authenticator import Authenticator
from gateway.jwt.issuers.refresher import IssuerKeys
from gateway.jwt.issuers.tenants import Tenants
from gateway.server.seam.credential import CredentialKind
from gateway.server.seam.feature import Part
from gateway.store.conditions import Conditions
from gateway.store.fleet import Fleet
from gateway.store.one_time_ids import ReplayStore
from gateway.store.redis_link import RedisLink
from gateway.telemetry.counters import Telemetry
from gateway.upstream.pool.upstream import Upstream


@dataclass(frozen=True, slots=True)
class WorkerView:
    """The core's parts of one worker, and those of the features."""

    telemetry: Telemetry
    authenticator: Authenticator
    kinds: Sequence[CredentialKind]
    issuers: Mapping[str, IssuerKeys | Tenants]
    upstreams: Mapping[str, Upstream]
    used_ids: Mapping[str, ReplayStore]
    parts: Sequence[Part]
    redis: RedisLink | None
    fleet: Fleet | None
    conditions: Conditions | None
