"""Token introspection (RFC 7662).

Declares the feature; what runs is imported when the feature is built.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from gateway.features.introspection.checks import introspection_problems, introspection_warnings
from gateway.features.introspection.options import IssuerOptions, replaces_keys
from gateway.features.introspection.reasons import REASONS
from gateway.server.seam.feature import Core, Feature, Part
from gateway.settings.problems import Problem, Sound
from gateway.settings.tables.issuers import Issuer
from gateway.settings.tables.root import Settings

#: The options that say for how long a gateway uses an answer that another one got.
_OF_SHARED_ANSWERS = ("introspection_cache_seconds", "introspection_inactive_cache_seconds")


class IntrospectionFeature(Feature):
    """Token introspection (RFC 7662)."""

    name = "introspection"
    reasons = REASONS
    options = {"issuers": IssuerOptions}

    def check(self, settings: Settings, sound: Sound) -> Iterator[Problem]:
        return introspection_problems(settings, sound)

    def warnings(self, settings: Settings) -> Iterator[Problem]:
        return introspection_warnings(settings)

    def replaces_keys(self, issuer: Issuer, settings: Settings) -> bool:
        return replaces_keys(issuer, settings.routes)

    def calls_issuer(self, issuer: Issuer) -> bool:
        return bool(IssuerOptions.of(issuer).introspection_url)

    def open_files(self, settings: Settings) -> int:
        asked = (IssuerOptions.of(issuer) for issuer in settings.issuers)
        return sum(options.introspection_max_concurrent for options in asked if options.introspection_url)

    def must_agree(self, settings: Settings) -> Mapping[str, float]:
        return {
            f"issuers.{issuer.name}.{name}": float(getattr(issuer, name))
            for issuer in settings.issuers
            for name in _OF_SHARED_ANSWERS
        }

    def build(self, core: Core) -> Part | None:
        """Make the feature's part of one worker."""
        from gateway.features.introspection.part import IntrospectionPart  # noqa: PLC0415 - only a worker needs it

        return IntrospectionPart(core)
