"""Tokens bound to a key (RFC 9449) or to a client certificate (RFC 8705).

Declares the feature; what runs is imported when the feature is built.
"""

from __future__ import annotations

from collections.abc import Iterator

from gateway.features.sender_constrained.checks import sender_problems, sender_warnings
from gateway.features.sender_constrained.reasons import REASONS
from gateway.server.seam.feature import Core, Feature, Part
from gateway.settings.problems import Problem, Sound
from gateway.settings.tables.root import Kept, Settings


class SenderConstrainedFeature(Feature):
    """Tokens bound to a key (RFC 9449) or to a client certificate (RFC 8705)."""

    name = "sender_constrained"
    reasons = REASONS

    def check(self, settings: Settings, sound: Sound) -> Iterator[Problem]:
        return sender_problems(settings, sound)

    def warnings(self, settings: Settings) -> Iterator[Problem]:
        return sender_warnings(settings)

    def kept_in_redis(self, settings: Settings) -> Iterator[Kept]:
        if any(route.sender_constrained in ("required", "dpop") for route in settings.routes):
            yield Kept("used proofs", durable=True)

    def build(self, core: Core) -> Part | None:
        """Make the feature's part of one worker."""
        from gateway.features.sender_constrained.part import SenderConstrainedPart  # noqa: PLC0415 - only a worker needs it

        return SenderConstrainedPart(core)
