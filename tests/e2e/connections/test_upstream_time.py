"""What ``upstream_ms`` counts when no response comes, or not at once."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.support.gateways.running import request, running_gateway, until
from tests.support.upstreams.recording import OK, Received, raw_upstream

PUBLIC: tuple[dict[str, Any], ...] = ({"path": "/", "auth": "public"},)


@pytest.mark.rule("R284")
async def test_a_client_that_leaves_once_its_request_was_sent_has_waited_for_the_upstream(tmp_path: Path) -> None:
    async def respond(received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with raw_upstream(respond) as upstream, running_gateway(upstream.url, tmp_path, routes=PUBLIC) as gateway:
        client = await gateway.client()
        await client.send(request(b"GET", "/"))
        await until(lambda: bool(upstream.requests))
        await client.close()
        (line,) = await gateway.log()
    assert (line["outcome"], line["status"]) == ("client_gone", 499)
    assert line["upstream_ms"] > 0


@pytest.mark.rule("R310")
async def test_the_time_of_a_request_that_was_sent_twice_counts_from_the_first_time(tmp_path: Path) -> None:
    """Here a connection that had served ends without a word, 50 ms after it got the next request."""

    async def respond(received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes | None:
        if len(upstream.requests) == 2:
            await asyncio.sleep(0.05)
            writer.close()
            return None
        return OK

    async with raw_upstream(respond) as upstream, running_gateway(upstream.url, tmp_path, routes=PUBLIC) as gateway:
        client = await gateway.client()
        for _ in range(2):
            assert (await client.exchange(request(b"GET", "/"))).status == 200
        _, line = await gateway.log()
    assert len(upstream.requests) == 3
    assert 45 <= line["upstream_ms"] <= line["duration_ms"]
