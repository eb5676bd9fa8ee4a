"""A running gateway between clients, an identity provider found by discovery, and an upstream, under a test's clock."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from pathlib import Path
from typing import Any

from tests.support.clock import FakeClock, eventually, settle
from tests.support.composed import Settings
from tests.support.gateways.running import configuration
from tests.support.gateways.timed import TimedGateway, timed_gateway
from tests.support.issuers.identity_provider import FakeIdp
from tests.support.tokens.minting import SigningKey
from tests.support.upstreams.recording import RawUpstream, raw_upstream

A, B, OTHER_A = SigningKey.rsa("a"), SigningKey.rsa("b"), SigningKey.rsa("a", variant=1)
ROUTES = ({"path": "/"}, {"path": "/public", "auth": "public"})


class Scene:
    """A gateway between clients, an identity provider and an upstream."""

    def __init__(self, gateway: TimedGateway, idp: FakeIdp, upstream: RawUpstream) -> None:
        self.gateway, self.idp, self.upstream = gateway, idp, upstream
        self.keys = gateway.app.issuers["main"]

    def token(self, key: SigningKey, **claims: Any) -> bytes:
        return self.gateway.token_of(key, iss=self.idp.issuer, **claims)

    async def status(self, token: bytes) -> int:
        return (await self.gateway.get("/", token=token)).status

    async def refresh(self) -> None:
        """Let time pass until the next scheduled fetch, and wait for its end."""
        await eventually(lambda: self.gateway.clock.naps)
        fetches = self.keys.fetches
        await self.gateway.clock.advance(self.gateway.clock.naps[0] + 0.001)
        await eventually(lambda: self.keys.fetches > fetches)
        await settle()


@asynccontextmanager
async def scene(
    directory: Path, *published: SigningKey, idp: FakeIdp | None = None, wait: bool = True, **issuer: Any
) -> AsyncIterator[Scene]:
    """Run a gateway that finds its keys by discovery, at a provider that publishes these.

    ``idp`` is a provider that runs already, and goes on to run; without it there is one for the time of the scene.
    """
    running = FakeIdp("/") if idp is None else nullcontext(idp)
    async with raw_upstream() as upstream, running as provider:
        if published:
            provider.publish(*published)
        options = {"issuer": provider.issuer, "jwks_file": "", **issuer}
        settings = Settings.model_validate(
            configuration(upstream.url, directory / "unused", routes=ROUTES, issuer=options)
        )
        async with timed_gateway(settings, A, FakeClock(), wait=wait) as gateway:
            yield Scene(gateway, provider, upstream)
