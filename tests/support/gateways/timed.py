"""A running gateway whose time is a test's: for ages, expiry and back-off without waiting.

Starts it under another clock; everything else is ``gateway.py``'s. Sockets and
their time limits stay real.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import AsyncIterator
from typing import Any

from gateway.app import GatewayApp
from tests.support.clock import FakeClock
from tests.support.composed import Settings
from tests.support.gateways.running import RunningGateway, started
from tests.support.tokens.minting import SigningKey, good_claims, mint


class TimedGateway(RunningGateway):
    """A gateway on a ``FakeClock``; its tokens are minted at that clock's time."""

    clock: FakeClock

    def token(self, **overrides: Any) -> bytes:
        return self.token_of(self.key, **overrides)

    def token_of(self, key: SigningKey, header: dict[str, Any] | None = None, **overrides: Any) -> bytes:
        """Return a token that is good now but for ``header`` and ``overrides``, signed by ``key``."""
        return mint(key, good_claims(self.clock.wall(), **overrides), header=header)


@contextlib.asynccontextmanager
async def timed_gateway(
    settings: Settings, key: SigningKey, clock: FakeClock, *, wait: bool = True
) -> AsyncIterator[TimedGateway]:
    """Run a gateway on ``clock``; with ``wait``, until its issuers have had their first try."""
    out = io.StringIO()
    gateway = TimedGateway(GatewayApp(settings, clock=clock, out=out), out, key)
    gateway.clock = clock
    async with started(gateway, wait=wait):
        yield gateway
