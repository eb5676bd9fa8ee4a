"""Short forms for tests of one fetch of keys, and a source that plays a script.

``ScriptedSource`` stands in for sockets where only the schedule is tested.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gateway.jwt.issuers.key_sources import Fetched, Source, make_source
from gateway.jwt.jose.keys import KeySet, import_jwks
from gateway.outbound.http import FetchError
from tests.support.issuers.identity_provider import issuer_settings


async def fetch(source: Source, *, discover: bool = True) -> Fetched:
    """Fetch once and give up the connections."""
    try:
        return await source.fetch(discover=discover)
    finally:
        await source.close()


async def failure(**options: Any) -> FetchError:
    """Return why a fetch with these issuer settings fails; its text is fit for a log."""
    with pytest.raises(FetchError) as caught:
        await fetch(make_source(issuer_settings(**options)))
    assert str(caught.value).isprintable()
    return caught.value


def kids(fetched: Fetched) -> list[str]:
    """Return the names in a set that was fetched whole."""
    assert fetched.keys is not None
    return list(fetched.keys.kids)


class ScriptedSource:
    """A source that gives one step after the other, and then the last one again and again.

    Attributes:
        steps: what is still to come; an exception is raised.
        discovered: the ``discover`` of each fetch so far.
        gate: fetches wait until it is set.
        closed: how often it was closed.
    """

    url = "script"

    def __init__(self, *steps: Fetched | BaseException) -> None:
        self.steps = list(steps)
        self.discovered: list[bool] = []
        self.gate: asyncio.Event | None = None
        self.closed = 0

    async def read(self, document: bytes) -> KeySet:
        return import_jwks(document)

    async def fetch(self, *, discover: bool) -> Fetched:
        self.discovered.append(discover)
        if self.gate is not None:
            await self.gate.wait()
        step = self.steps.pop(0) if len(self.steps) > 1 else self.steps[0]
        if isinstance(step, BaseException):
            raise step
        return step

    async def close(self) -> None:
        self.closed += 1
