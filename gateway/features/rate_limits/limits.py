"""The limits of a route, compiled: from its options to what buckets are made of."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.features.rate_limits.options import RateLimit, burst_of
from gateway.policy.token_bucket import Limit, tolerance


def compile_limits(limits: Sequence[RateLimit]) -> tuple[Limit, ...]:
    """Return the limits of a route. Those that count by the same thing are numbered: ``sub``, ``sub-2``."""
    compiled: list[Limit] = []
    for configured in limits:
        number = 1 + sum(limit.by == configured.by for limit in compiled)
        burst, interval = burst_of(configured), configured.seconds / configured.requests
        compiled.append(
            Limit(
                name=configured.by if number == 1 else f"{configured.by}-{number}",
                by=configured.by,
                requests=configured.requests,
                seconds=configured.seconds,
                burst=burst,
                interval=interval,
                tolerance=tolerance(burst, interval),
            )
        )
    return tuple(compiled)
