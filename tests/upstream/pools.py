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
from gateway.upstream.pool.upstream_url import Lease, Origin

GET = b"GET / HTTP/1.1\r\nHost: up\r\n\r\n"


def settings(*urls: str, **options: Any) -> UpstreamSettings:
    return UpstreamSettings(name="main", urls=list(urls), **options)


@contextlib.asynccontextmanager
async def opened(*urls: str, **options: Any) -> AsyncIterator[Origin]:
    """One upstream; the pool of its first URL."""
    upstream = Upstream(settings(*urls, **options))
    try:
        yield upstream.origins[0]
    finally:
        await upstream.close()


async def served(lease: Lease) -> bytes:
    """Run one whole exchange and give the connection back."""
    reply = await exchange(lease, GET, None, head_only=False, response_timeout=5, idle_timeout=5)
    body = await reply.content.read()
    reply.finish()
    return body


async def refusal(origin: Origin) -> Reason:
    with pytest.raises(GatewayError) as raised:
        await origin.lease()
    assert origin.state().in_use == 0
    return raised.value.reason
