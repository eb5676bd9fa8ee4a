"""The parts that decide on a token, put together as the gateway does it, under a test's clock.

Puts it together. Keys come over real sockets or from real files; nothing is
mocked.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from gateway.errors import GatewayError, Reason
from gateway.identity import Identity
from gateway.jwt.authenticator import Authenticator
from gateway.jwt.issuers.key_sources import make_source
from gateway.jwt.issuers.refresher import IssuerKeys
from tests.support.clock import FakeClock, eventually, settle
from tests.support.composed import Issuer
from tests.support.issuers.identity_provider import FakeIdp, gateway_settings, issuer_settings
from tests.support.tokens.minting import SigningKey, good_claims, mint


@dataclass
class Rig:
    """An authenticator, its clock, and the keys of each issuer by name."""

    authenticator: Authenticator
    clock: FakeClock
    issuers: dict[str, IssuerKeys]

    @property
    def keys(self) -> IssuerKeys:
        """The keys of the only issuer, or the first."""
        return next(iter(self.issuers.values()))

    async def ask(self, token: bytes) -> Identity:
        """Ask as the pipeline does: the cache first, then everything."""
        found = self.authenticator.cached(token)
        return found if found is not None else await self.authenticator.authenticate(token)

    async def reason(self, token: bytes) -> Reason | None:
        """Return why a token is refused, None when it is accepted. Any other exception fails the test."""
        try:
            await self.ask(token)
        except GatewayError as error:
            return error.reason
        return None

    def mint(self, key: SigningKey, header: dict[str, Any] | None = None, **claims: Any) -> bytes:
        """Return a token that is good now, but for ``header`` and ``claims``."""
        return mint(key, good_claims(self.clock.wall(), **claims), header=header)

    async def refresh(self) -> None:
        """Let time pass until the next scheduled fetch, and wait for its end."""
        fetches = self.keys.fetches
        await self.clock.advance(self.clock.naps[0] + 0.001)
        await eventually(lambda: self.keys.fetches > fetches)
        await settle()

    async def pass_time(self, seconds: float) -> None:
        """Let time pass with no fetch due; the test's own error otherwise."""
        assert not self.clock.naps or self.clock.naps[0] > seconds, "a fetch is due in that time: use refresh"
        await self.clock.advance(seconds)


@asynccontextmanager
async def rig(
    *issuers: Issuer,
    clock: FakeClock | None = None,
    wait: bool = True,
    jitter: Callable[[], float] | None = lambda: 0.5,
    **sections: Any,
) -> AsyncIterator[Rig]:
    """Start the keys of ``issuers``; with ``wait`` until each first fetch has ended.

    Args:
        issuers: what tokens may come from.
        clock: the time; a new one by default.
        wait: whether the first fetches have ended when the test begins.
        jitter: as for ``IssuerKeys``, always in the middle by default; None for the real one.
        sections: of the settings, instead of ``gateway_settings``' own.
    """
    clock = clock or FakeClock()
    settings = gateway_settings(*issuers, **sections)
    keys = {
        issuer.name: IssuerKeys(issuer, make_source(issuer), clock, jitter=jitter or random.random)
        for issuer in issuers
    }
    for each in keys.values():
        each.start()
    try:
        if wait:
            await eventually(lambda: all(each.fetches for each in keys.values()))
            await settle()
        yield Rig(Authenticator(settings, keys, clock), clock, keys)
    finally:
        for each in keys.values():
            await each.stop()


@asynccontextmanager
async def rig_with_idp(*published: SigningKey, **options: Any) -> AsyncIterator[tuple[Rig, FakeIdp]]:
    """Start one issuer whose ``jwks_url`` is a provider that publishes these keys."""
    async with FakeIdp() as idp:
        idp.publish(*published)
        async with rig(issuer_settings(jwks_url=idp.jwks_url, **options)) as made:
            yield made, idp
