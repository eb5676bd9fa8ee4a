"""Clients that send ahead as fast as it goes: they fill no memory, and hold nobody up (R429, C119)."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.peers.process import Process
from tests.support.certificates import authority
from tests.support.gateway import RawClient, request
from tests.support.gateway_process import GatewayProcess
from tests.support.pace import paced
from tests.support.upstream import raw_upstream

pytestmark = [
    pytest.mark.every_log,
    pytest.mark.skipif(
        not sys.platform.startswith("linux"), reason="reads the memory of a process from /proc, which Linux alone has"
    ),
]

MIB = 1 << 20

#: How long others pipeline, in seconds; how much the gateway may grow by it; and how long a good client may wait.
SECONDS, GROWTH, WAIT = 1.2, 100 * MIB, 0.1


async def good_client(gateway: GatewayProcess, until: asyncio.Event) -> list[float]:
    """Send a request every few milliseconds over one connection; return how long each took."""
    client = RawClient(*await asyncio.open_connection("127.0.0.1", gateway.port))
    waits = []
    try:
        while not until.is_set():
            began = time.monotonic()
            assert (await client.exchange(request(b"GET", "/good"), within=20)).status == 200
            waits.append(time.monotonic() - began)
            await asyncio.sleep(0.005)
    finally:
        await client.close()
    return waits


@contextlib.asynccontextmanager
async def pipelined(gateway: GatewayProcess, *arguments: str) -> AsyncIterator[asyncio.Event]:
    command = [sys.executable, "-m", "tests.support.pipelining", str(gateway.port), *arguments]
    yield asyncio.Event()
