"""Finds what looks like abuse, and refuses it for a while.

Declares the feature; what runs is imported when the feature is built.
"""

from __future__ import annotations

from collections.abc import Iterator

from gateway.features.abuse_watch.checks import watch_problems, watch_warnings
from gateway.features.abuse_watch.options import WatchTables
from gateway.features.abuse_watch.reasons import REASONS
from gateway.server.seam.feature import Core, Feature, Part
from gateway.settings.problems import Problem, Sound
from gateway.settings.tables.root import Settings


class AbuseWatchFeature(Feature):
    """Finds what looks like abuse, and refuses it for a while."""

    name = "abuse_watch"
    reasons = REASONS
    tables = WatchTables

    def check(self, settings: Settings, sound: Sound) -> Iterator[Problem]:
        return watch_problems(settings, sound)

    def warnings(self, settings: Settings) -> Iterator[Problem]:
        return watch_warnings(settings)

    def build(self, core: Core) -> Part | None:
        """Make the feature's part of one worker."""
        from gateway.features.abuse_watch.part import AbuseWatchPart  # noqa: PLC0415 - only a worker needs it

        return AbuseWatchPart(core)
