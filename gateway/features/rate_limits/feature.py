"""How many requests each caller may send.

Declares the feature; what runs is imported when the feature is built.
"""

from __future__ import annotations

from collections.abc import Iterator

from gateway.features.rate_limits.checks import limits_of, rate_limit_problems, rate_limit_warnings
from gateway.features.rate_limits.options import LimitRouteOptions, LimitTables, claims_of_limits
from gateway.features.rate_limits.reasons import REASONS
from gateway.server.seam.feature import Core, Feature, Part
from gateway.settings.problems import Problem, Sound
from gateway.settings.tables.root import Kept, Settings, Weakness
from gateway.settings.tables.routes import RouteSettings


class RateLimitsFeature(Feature):
    """How many requests each caller may send."""

    name = "rate_limits"
    reasons = REASONS
    tables = LimitTables
    options = {"routes": LimitRouteOptions}
    express = frozenset({"rate_limit"})  # its guard is asked each time

    def check(self, settings: Settings, sound: Sound) -> Iterator[Problem]:
        return rate_limit_problems(settings, sound)

    def warnings(self, settings: Settings) -> Iterator[Problem]:
        return rate_limit_warnings(settings)

    def weakness(self, route: RouteSettings, other: RouteSettings) -> Weakness | None:
        if limits_of(route) and not limits_of(other):
            return Weakness("has no `rate_limit`", lets_in=False)
        return None

    def claims(self, settings: Settings) -> frozenset[str]:
        return frozenset().union(*(claims_of_limits(limits_of(route)) for route in settings.routes))

    def kept_in_redis(self, settings: Settings) -> Iterator[Kept]:
        if any(map(limits_of, settings.routes)):
            yield Kept("counts of rate limits", durable=False)

    def build(self, core: Core) -> Part | None:
        """Make the feature's part of one worker."""
        from gateway.features.rate_limits.part import RateLimitsPart  # noqa: PLC0415 - only a worker needs it

        return RateLimitsPart(core)
