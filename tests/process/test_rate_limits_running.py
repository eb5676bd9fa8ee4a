"""A rate limit shared by several gateways of several workers, as real processes with a real Redis."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from itertools import pairwise
from pathlib import Path

from tests.support.gateways.running import request
from tests.support.gateways.workers import WorkersGateway, config_text, workers_gateway
from tests.support.stores.redis import RedisServer
from tests.support.upstreams.recording import raw_upstream

#: What is offered and measured: connections to each gateway, and seconds.
CONNECTIONS, SECONDS = 8, 10

#: Longest gap without an answer in a second that is measured, in seconds: less than the burst lasts.
STALL = 0.04

#: How much has to be offered in a second that is measured.
ENOUGH = 200

# A machine that is busy with other tests may keep an exchange waiting longer than the default allows.
LIMIT = 'rate_limit = { requests = 100, seconds = 1, by = "address" }'


async def _ask_for_ever(gateway: WorkersGateway, served: list[float], refused: list[float], end: asyncio.Event) -> None:
    """Ask again and again over one connection, noting when each request was answered."""
    client = await gateway.client()
    while not end.is_set():
        answer = await client.exchange(request(b"GET", "/"))
        (served if answer.status == 200 else refused).append(time.monotonic())
        assert answer.status in (200, 429)
        await asyncio.sleep(0.002)
    await client.close()


async def test_two_gateways_of_two_workers_admit_a_hundred_a_second_together(tmp_path: Path, cache: Path) -> None:
    """Far more is offered to all four; in each second 100 pass, give or take 10, also in the first one."""
    async with contextlib.AsyncExitStack() as stack:
        server = await stack.enter_async_context(RedisServer(tmp_path / "redis"))
        upstream = await stack.enter_async_context(raw_upstream())
        running = []
        for name in ("one", "other"):
            (tmp_path / name).mkdir()
            text = (
                config_text(upstream.url, access_log="off")
                + f'\n{LIMIT}\n[redis]\nurl = "{server.url}"\ntimeout_seconds = 2\n'
            )
            running.append(await stack.enter_async_context(workers_gateway(tmp_path / name, cache, text)))
        for gateway in running:
            await gateway.running()
        served: list[float] = []
        refused: list[float] = []
        end = asyncio.Event()
        began = time.monotonic()
        asking = [
            asyncio.ensure_future(_ask_for_ever(gateway, served, refused, end))
            for gateway in running
            for _ in range(CONNECTIONS)
        ]
        await asyncio.sleep(SECONDS)
        end.set()
        await asyncio.gather(*asking)
        asked = [worker["open_connections"] for gateway in running for worker in (await gateway.status())["workers"]]
        fallbacks = [
            worker["rate_limits"]["fallbacks"] for gateway in running for worker in (await gateway.status())["workers"]
        ]
    by_second = Counter(int(moment - began) for moment in served)
    counts = [by_second[second] for second in range(SECONDS)]
    assert len(asked) == 4
    assert fallbacks == [0] * 4
    assert len(served) <= 100 * (served[-1] - began) + 10
    # Where this process itself had no time, others have asked too little, or were answered in another second.
    answered = sorted([began, *served, *refused])
    late = {int(moment - began) for last, moment in pairwise(answered) if moment - last > STALL}
    offered = Counter(int(moment - began) for moment in answered)
    late |= {second for second in range(SECONDS) if offered[second] < ENOUGH}
    sound = [second for second in range(SECONDS) if not late & {second - 1, second, second + 1}]
    assert refused
    assert all(90 <= counts[second] <= 110 for second in sound), (counts, late)
