"""API keys as credentials.

Declares the feature; what runs is imported when the feature is built.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from gateway.features.api_keys.options import ApiKeyTables, TokensOptions
from gateway.features.api_keys.reasons import REASONS
from gateway.server.seam.feature import Core, Feature, Part
from gateway.settings.problems import Problem, Sound
from gateway.settings.tables.root import Settings
from gateway.settings.tables.routes import takes_keys

if TYPE_CHECKING:
    import click


class ApiKeysFeature(Feature):
    """API keys as credentials."""

    name = "api_keys"
    reasons = REASONS
    tables = ApiKeyTables
    options = {"tokens": TokensOptions}

    def is_used(self, settings: Settings) -> bool:
        given = ApiKeyTables.of(settings).api_keys or TokensOptions.of(settings.tokens).api_keys_file
        return bool(given) or any(map(takes_keys, settings.routes))

    def check(self, settings: Settings, sound: Sound) -> Iterator[Problem]:
        from gateway.features.api_keys.checks import key_problems  # noqa: PLC0415 - only who reads a configuration checks it

        return key_problems(settings, sound)

    def warnings(self, settings: Settings) -> Iterator[Problem]:
        from gateway.features.api_keys.checks import key_warnings  # noqa: PLC0415 - only who reads a configuration checks it

        return key_warnings(settings)

    def commands(self, model: type[Settings]) -> Iterable[click.Command]:
        from gateway.features.api_keys.commands import apikey  # noqa: PLC0415 - only a command line needs it

        return (apikey,)

    def build(self, core: Core) -> Part | None:
        """Make the feature's part of one worker."""
        from gateway.features.api_keys.part import ApiKeysPart  # noqa: PLC0415 - only a worker needs it

        return ApiKeysPart(core)
