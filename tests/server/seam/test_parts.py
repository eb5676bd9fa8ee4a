"""The parts of features: their start in order, and their stop within a limit."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack

import pytest

from gateway.app import LOG_STOP_SECONDS
from gateway.process.supervisor import WORKER_CLOSING_SECONDS
from gateway.server.seam import parts as seam
from gateway.server.seam.feature import Part
from gateway.server.seam.parts import PARTS_STOP_SECONDS, start_parts, stop_parts
from gateway.settings.feature_faults import FeatureError
from gateway.tasks import given_up
from tests.support.gateways.running import until
from tests.support.pace import paced


class Noted(Part):
    """Writes down what becomes of it, and fails where it is told to."""

    def __init__(
        self,
        name: str,
        said: list[str],
        start: BaseException | None = None,
        stop: BaseException | None = None,
        after: asyncio.Event | None = None,
    ) -> None:
        self._name, self._said, self._start, self._stop, self._after = name, said, start, stop, after

    async def start(self) -> None:
        self._said.append(f"{self._name} started")
        if self._start is not None:
            raise self._start.with_traceback(None)  # it is one object for all tests

    async def stop(self) -> None:
        self._said.append(f"{self._name} stops")
        if self._after is not None:
            await self._after.wait()
        if self._stop is not None:
            raise self._stop
        self._said.append(f"{self._name} stopped")


@pytest.fixture
def patience(monkeypatch: pytest.MonkeyPatch) -> float:
    """How long parts may take to stop here."""
    monkeypatch.setattr(seam, "PARTS_STOP_SECONDS", 0.05)
    return 0.05


async def test_a_part_that_hangs_is_logged_once_by_its_feature_and_the_others_are_stopped(
    patience: float, caplog: pytest.LogCaptureFixture
) -> None:
    """Two that hang take no longer than one."""
    said: list[str] = []
    never = asyncio.Event()
    parts = {
        "one": Noted("one", said),
        "hangs": Noted("hangs", said, after=never),
        "fails": Noted("fails", said, stop=LookupError("s3cret")),
        "too": Noted("too", said, after=never),
    }
    before = len(given_up)
    began = time.monotonic()
    await stop_parts(parts)
    assert time.monotonic() - began < paced(10 * patience)
    assert said == ["too stops", "fails stops", "hangs stops", "one stops", "one stopped"]
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 3
    assert lines[0] == 'feature "too" did not stop within 0.05 s: going on without it'
    assert lines[1].startswith('feature "fails" failed to stop: LookupError at Noted.stop:')
    assert lines[2] == 'feature "hangs" did not stop within 0.05 s: going on without it'
    assert given_up[before:] == ["stop of too", "stop of hangs"]
    del given_up[before:]


async def test_parts_stop_at_the_same_time(caplog: pytest.LogCaptureFixture) -> None:
    """So that the limit of one is that of all; one that waits holds up no other."""
    said: list[str] = []
    released = asyncio.Event()
    parts = {"first": Noted("first", said), "waits": Noted("waits", said, after=released)}
    stopping = asyncio.ensure_future(stop_parts(parts))
    await until(lambda: "first stopped" in said)
    released.set()
    await stopping
    assert said == ["waits stops", "first stops", "first stopped", "waits stopped"]
    assert caplog.records == []


async def test_a_stop_that_was_cancelled_from_within_is_a_failure_like_others(caplog: pytest.LogCaptureFixture) -> None:
    await stop_parts({"odd": Noted("odd", [], stop=asyncio.CancelledError())})
    assert caplog.messages == ['feature "odd" failed to stop: CancelledError']


async def test_whoever_is_cancelled_meanwhile_leaves_no_stop_running() -> None:
    said: list[str] = []
    stopping = asyncio.ensure_future(stop_parts({"waits": Noted("waits", said, after=asyncio.Event())}))
    await until(lambda: bool(said))
    stopping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await stopping


async def test_nothing_to_stop() -> None:
    await stop_parts({})


@pytest.mark.parametrize("error", [LookupError("s3cret"), asyncio.CancelledError()])
async def test_a_start_that_fails_stops_what_had_been_started_and_itself(error: BaseException) -> None:
    """What stands behind it is not started, and not stopped."""
    said: list[str] = []
    parts = {"one": Noted("one", said), "two": Noted("two", said, start=error), "three": Noted("three", said)}
    expected = type(error) if isinstance(error, asyncio.CancelledError) else FeatureError
    with pytest.raises(expected) as caught:
        async with AsyncExitStack() as stop:
            await start_parts(parts, stop)
    assert said == ["one started", "two started", "two stops", "two stopped", "one stops", "one stopped"]
    if expected is FeatureError:
        assert str(caught.value).startswith('feature "two": start failed: LookupError at Noted.start:')


def test_a_worker_is_not_killed_before_its_parts_and_its_log_were_given_up() -> None:
    assert PARTS_STOP_SECONDS + LOG_STOP_SECONDS < WORKER_CLOSING_SECONDS
