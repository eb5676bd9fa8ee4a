"""Pools of upstream connections for tests of what leases and uses them. Nothing here is a test."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway.errors import GatewayError, Reason
from gateway.settings.tables.upstreams import UpstreamSettings
from gateway.upstream.exchange.exchange import exchange
from gateway.upstream.pool.upstream import Upstream
from gateway.upstream.pool.upstream_url import Lease, OriginState

GET = b"GET / HTTP/1.1\r\nHost: up\r\n\r\n"


def settings(*urls: str, **options: Any) -> UpstreamSettings:
    return UpstreamSettings(name="main", urls=list(urls), **options)


class Pool:
    """An upstream with one URL, seen as the pool of that: what tests of one pool ask both."""

    def __init__(self, upstream: Upstream) -> None:
        self.upstream = upstream
        (self.origin,) = upstream.origins

    def __getattr__(self, name: str) -> Any:
        return getattr(self.origin, name)

    async def lease(self, *, fresh: bool = False) -> Lease:
        return (await self.upstream.lease(fresh=fresh))[1]

    def lease_now(self) -> Lease | None:
        return None if (leased := self.upstream.lease_now()) is None else leased[1]

    def state(self) -> OriginState:
        return self.upstream.states()[0]

    async def close(self) -> None:
        await self.upstream.close()


@contextlib.asynccontextmanager
async def opened(*urls: str, **options: Any) -> AsyncIterator[Pool]:
    """One upstream; the pool of its only URL."""
    upstream = Upstream(settings(*urls, **options))
    try:
        yield Pool(upstream)
    finally:
        await upstream.close()


async def served(lease: Lease) -> bytes:
    """Run one whole exchange and give the connection back."""
    reply = await exchange(lease, GET, None, head_only=False, response_timeout=5, idle_timeout=5)
    body = await reply.content.read()
    reply.finish()
    return body


async def refusal(pool: Pool) -> Reason:
    with pytest.raises(GatewayError) as raised:
        await pool.lease()
    assert pool.state().in_use == 0
    return raised.value.reason
