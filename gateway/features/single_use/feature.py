"""Tokens for one request each.

Declares the feature; what runs is imported when the feature is built.
"""

from __future__ import annotations

from collections.abc import Iterator

from gateway.features.single_use.checks import single_use_problems
from gateway.features.single_use.options import SingleUseRouteOptions
from gateway.features.single_use.reasons import REASONS
from gateway.server.seam.feature import Core, Feature, Part
from gateway.settings.problems import Problem, Sound
from gateway.settings.tables.root import Kept, Settings, Weakness
from gateway.settings.tables.routes import RouteSettings


class SingleUseFeature(Feature):
    """Tokens for one request each."""

    name = "single_use"
    reasons = REASONS
    options = {"routes": SingleUseRouteOptions}
    express = frozenset({"single_use", "single_use_failure"})  # its guard is asked each time

    def check(self, settings: Settings, sound: Sound) -> Iterator[Problem]:
        return single_use_problems(settings, sound)

    def weakness(self, route: RouteSettings, other: RouteSettings) -> Weakness | None:
        asked = route.auth != "public" and not route.observe and SingleUseRouteOptions.of(route).single_use
        if asked and not SingleUseRouteOptions.of(other).single_use:
            return Weakness("accepts a token more than once", lets_in=True)
        return None

    def kept_in_redis(self, settings: Settings) -> Iterator[Kept]:
        if any(SingleUseRouteOptions.of(route).single_use for route in settings.routes):
            yield Kept("used tokens", durable=True)

    def build(self, core: Core) -> Part | None:
        """Make the feature's part of one worker."""
        from gateway.features.single_use.part import SingleUsePart  # noqa: PLC0415 - only a worker needs it

        return SingleUsePart(core)
