"""A gateway on a stage: the oracle's policy and keys, a standing clock, and a list of what went wrong in it.

Puts it together, for the long run and for the tests.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvloop

from gateway.errors import GatewayError
from tests.fuzz.oracle import ALGORITHMS
from tests.fuzz.tokens import PUBLISHED
from tests.support.clock import FakeClock
from tests.support.composed import Settings
from tests.support.gateways.running import configuration, request
from tests.support.gateways.timed import TimedGateway, timed_gateway
from tests.support.leaks import everything_logged
from tests.support.tokens.minting import jwks
from tests.support.upstreams.recording import RawUpstream, Responder, raw_upstream

#: Runs something on the stage's event loop.
Run = Callable[[Coroutine[Any, Any, Any]], Any]


@dataclass
class Stage:
    """A running gateway at a standing moment, and what went wrong in it."""

    gateway: TimedGateway
    upstream: RawUpstream
    now: float
    faults: list[str] = field(default_factory=list)

    async def outcome(self, token: bytes) -> str:
        """Put a token to the verification; return ``accepted`` or the code of the refusal.

        Raises:
            Exception: whatever else the verification let out: a finding.
        """
        authenticator = self.gateway.app.authenticator
        try:
            found = authenticator.cached(token)
            if found is None:
                await authenticator.authenticate(token)
        except GatewayError as refusal:
            if refusal.reason.kind.status not in (400, 401, 403):
                raise
            return refusal.reason.code
        return "accepted"

    async def status(self, token: bytes) -> int:
        """Send a token in a request; return the status of the answer, 0 for none."""
        client = await self.gateway.client()
        try:
            await client.send(request(b"GET", "/", (b"Connection", b"close"), token=token))
            return (await client.response()).status
        except (asyncio.IncompleteReadError, ConnectionError):
            return 0
        finally:
            await client.close()
            self.gateway.clients.remove(client)


@asynccontextmanager
async def stage(directory: Path, respond: Responder | None = None, **sections: Any) -> AsyncIterator[Stage]:
    """Run a gateway with the oracle's policy and keys, whose clock stands still; ``respond`` is its upstream's."""
    clock = FakeClock()
    file = directory / "jwks.json"
    file.write_bytes(jwks(*PUBLISHED.values()))
    async with raw_upstream(respond) as upstream:
        issuer = {"algorithms": list(ALGORITHMS), **sections.pop("issuer", {})}
        settings = Settings.model_validate(configuration(upstream.url, file, issuer=issuer, **sections))
        with everything_logged() as logged:
            async with timed_gateway(settings, PUBLISHED["a"], clock) as gateway:
                made = Stage(gateway, upstream, clock.wall())
                loop = asyncio.get_running_loop()
                loop.set_exception_handler(lambda _loop, context: made.faults.append(f"loop: {context['message']}"))
                yield made
            made.faults += [
                line for line, record in zip(logged.lines, logged.records, strict=True) if _is_fault(record)
            ]


def _is_fault(record: logging.LogRecord) -> bool:
    """Say whether a log record tells of a fault of the gateway."""
    return record.levelname in ("ERROR", "CRITICAL") or bool(record.exc_info)


@contextmanager
def on_stage(manager: AbstractAsyncContextManager[Stage]) -> Iterator[tuple[Stage, Run]]:
    """Run a gateway between the examples of a test; whatever went wrong in it fails the test at the end."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        made = runner.run(_entered(manager))
        try:
            yield made, runner.run
        finally:
            runner.run(_left(manager))
    assert not made.faults, made.faults[:5]
    reasons = made.gateway.app.telemetry.refusals
    assert not reasons.keys() & {"internal", "verification_failed"}, reasons


async def _entered(manager: AbstractAsyncContextManager[Stage]) -> Stage:
    return await manager.__aenter__()


async def _left(manager: AbstractAsyncContextManager[Stage]) -> None:
    await manager.__aexit__(None, None, None)
