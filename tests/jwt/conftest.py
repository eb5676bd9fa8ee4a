"""Fixtures of the tests of the key lifecycle."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from gateway.jwt.issuers.key_sources import Fetched
from gateway.jwt.issuers.refresher import IssuerKeys
from tests.support.clock import FakeClock
from tests.support.issuers.fetching import ScriptedSource
from tests.support.issuers.identity_provider import FakeIdp, issuer_settings
from tests.support.tokens.minting import SigningKey

Make = Callable[..., tuple[IssuerKeys, ScriptedSource]]


@pytest.fixture
async def idp() -> AsyncIterator[FakeIdp]:
    """A provider that publishes one EC key, ``a``."""
    async with FakeIdp() as started:
        started.publish(SigningKey.ec("a"))
        yield started


@pytest.fixture
def clock() -> FakeClock:
    """The time of ``make``."""
    return FakeClock()


@pytest.fixture
async def make(clock: FakeClock) -> AsyncIterator[Make]:
    """Make the keys of an issuer whose source plays a script; they are stopped at the end."""
    made: list[IssuerKeys] = []

    def build(
        *steps: Fetched | BaseException, jitter: float = 0.5, **options: Any
    ) -> tuple[IssuerKeys, ScriptedSource]:
        source = ScriptedSource(*steps)
        settings = issuer_settings(jwks_file="/unused", **options)
        made.append(IssuerKeys(settings, source, clock, jitter=lambda: jitter))
        return made[-1], source

    yield build
    for keys in made:
        await keys.stop()
