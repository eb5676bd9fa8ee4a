"""How late the event loop is (R385)."""

from __future__ import annotations

import asyncio
import io
import time
from typing import Any

import pytest

from gateway.clock import SystemClock
from gateway.telemetry import loop_lag as overload
from gateway.telemetry.counters import AccessLog, Telemetry
from gateway.telemetry.loop_lag import LoopLag


def telemetry() -> Telemetry:
    return Telemetry(AccessLog("off", io.StringIO(), SystemClock()))


@pytest.mark.rule("R334")
async def test_a_loop_that_stands_still_is_seen() -> None:
    """The longest stop is shown, and stays for a while."""
    counters = telemetry()
    lag = LoopLag(counters)
    lag.start()
    await asyncio.sleep(0.15)
    assert counters.loop_lag < 0.3
    time.sleep(0.4)  # noqa: ASYNC251  (this is what is measured)
    await asyncio.sleep(0.15)
    assert 0.25 < counters.loop_lag < 5
    worst = counters.loop_lag
    await asyncio.sleep(0.25)
    assert counters.loop_lag == worst
    lag.stop()


async def test_old_lags_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bad moment at the start must not ring alarms all day."""
    monkeypatch.setattr(overload, "LAG_WINDOW_SECONDS", 0.3)
    counters = telemetry()
    lag = LoopLag(counters)
    lag.start()
    time.sleep(0.5)  # noqa: ASYNC251  (this is what is measured)
    await asyncio.sleep(0.12)
    worst = counters.loop_lag
    assert worst > 0.3
    await asyncio.sleep(1.2)
    assert counters.loop_lag < worst
    lag.stop()


async def test_nothing_is_measured_after_the_end() -> None:
    counters: Any = telemetry()
    lag = LoopLag(counters)
    lag.stop()
    lag.start()
    lag.stop()
    counters.loop_lag = None
    await asyncio.sleep(0.25)
    assert counters.loop_lag is None
