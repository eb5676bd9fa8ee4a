"""The machine's clocks: which one is for what."""

from __future__ import annotations

import asyncio
import time

import pytest

from gateway.clock import Clock, SystemClock
from tests.support.clock import PATIENCE_STEP_SECONDS, patience


@pytest.mark.rule("R168", "R387")
def test_wall_is_the_epoch_and_monotonic_never_goes_back() -> None:
    """Claims are compared with the one, ages with the other."""
    clock: Clock = SystemClock()
    before = time.time()
    assert before <= clock.wall() <= time.time()
    readings = [clock.monotonic() for _ in range(1000)]
    assert readings == sorted(readings)
    assert abs(clock.monotonic() - time.monotonic()) < 1


async def test_sleep_lasts_at_least_as_long_as_told() -> None:
    """The one place that sleeps; zero only gives others a turn."""
    clock = SystemClock()
    began = clock.monotonic()
    await clock.sleep(0)
    await clock.sleep(0.01)
    assert clock.monotonic() - began >= 0.009


async def test_patience_ends_when_nothing_comes() -> None:
    with pytest.raises(TimeoutError):
        async with patience(2 * PATIENCE_STEP_SECONDS):
            await asyncio.Event().wait()


async def test_patience_counts_a_loop_that_stood_still_as_one_step() -> None:
    loop, came = asyncio.get_running_loop(), asyncio.Event()
    loop.call_later(3 * PATIENCE_STEP_SECONDS, came.set)
    async with patience(4 * PATIENCE_STEP_SECONDS):
        time.sleep(5 * PATIENCE_STEP_SECONDS)  # noqa: ASYNC251  the loop stands still
        await came.wait()
