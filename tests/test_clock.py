"""The machine's clocks: which one is for what."""

from __future__ import annotations

import time

import pytest

from gateway.clock import Clock, SystemClock


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
