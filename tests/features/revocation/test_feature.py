"""What revocation says of settings to the core."""

from __future__ import annotations

import pytest

from gateway.features.revocation.feature import RevocationFeature
from gateway.features.revocation.options import Revocation
from gateway.settings.tables.redis import Redis
from gateway.settings.tables.root import Kept
from tests.support.composed import Settings

FEATURE = RevocationFeature()


@pytest.mark.parametrize(
    ("url", "redis", "kept"),
    [
        ("redis://127.0.0.1", True, [Kept("revocations", durable=True)]),
        ("redis://127.0.0.1", False, []),
        ("", True, []),
    ],
)
def test_revocations_in_redis_must_not_be_lost(url: str, redis: bool, kept: list[Kept]) -> None:
    made = Settings.model_construct(upstreams=[], routes=[], redis=Redis(url=url), revocation=Revocation(redis=redis))
    assert list(FEATURE.kept_in_redis(made)) == kept


def test_it_adds_one_command() -> None:
    assert [command.name for command in FEATURE.commands(Settings)] == ["revoke"]
