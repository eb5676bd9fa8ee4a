"""What API keys add to the command line."""

from __future__ import annotations

from gateway.features.api_keys.feature import ApiKeysFeature
from tests.support.composed import Settings


def test_it_adds_one_command() -> None:
    assert [command.name for command in ApiKeysFeature().commands(Settings)] == ["apikey"]
