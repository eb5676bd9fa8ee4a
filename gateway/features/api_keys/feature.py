"""API keys as credentials.

Declares the feature; what runs is imported when the feature is built.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from gateway.features.api_keys.checks import key_problems, key_warnings
from gateway.features.api_keys.options import ApiKeyTables, TokensOptions
from gateway.features.api_keys.reasons import REASONS
from gateway.server.seam.feature import Core, Feature, Part
from gateway.settings.problems import Problem, Sound
from gateway.settings.tables.root import Settings

if TYPE_CHECKING:
    import click


class ApiKeysFeature(Feature):
    """API keys as credentials."""

    name = "api_keys"
    reasons = REASONS
    tables = ApiKeyTables
    options = {"tokens": TokensOptions}

    def check(self, settings: Settings, sound: Sound) -> Iterator[Problem]:
        return key_problems(settings, sound)

    def warnings(self, settings: Settings) -> Iterator[Problem]:
        return key_warnings(settings)

    def commands(self, model: type[Settings]) -> Iterable[click.Command]:
        from gateway.features.api_keys.commands import apikey  # noqa: PLC0415 - only a command line needs it

        return (apikey,)

    def build(self, core: Core) -> Part | None:
        """Make the feature's part of one worker."""
        from gateway.features.api_keys.part import ApiKeysPart  # noqa: PLC0415 - only a worker needs it

        return ApiKeysPart(core)
