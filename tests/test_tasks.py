"""Background tasks: held until they end, and their faults told without their text."""

from __future__ import annotations

import asyncio
import gc
import logging

import pytest

from gateway import tasks
from gateway.tasks import spawn, where
from tests.support.clock import settle

SECRET = "eyJhbGciOi.secret.token"


async def fails() -> None:
    await asyncio.sleep(0)
    raise ValueError(SECRET)


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [f"{line.name} {line.levelname} {line.getMessage()}" for line in caplog.records]


async def test_task_that_nobody_keeps_runs_to_its_end() -> None:
    """R393: the event loop alone would hold it weakly."""
    ended = asyncio.Event()
    gate: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def work() -> None:
        await gate
        ended.set()

    spawned = spawn(work(), "kept")
    del spawned
    await settle(2)
    gc.collect()
    assert [task.get_name() for task in tasks.running() if not task.done()] == ["kept"]
    gate.set_result(None)
    await settle(3)
    assert ended.is_set()
    assert not tasks.running()


async def test_fault_is_logged_once_by_type_and_place_without_its_text(caplog: pytest.LogCaptureFixture) -> None:
    """R196, R393."""
    _ = spawn(fails(), "refresher")
    await settle(4)
    gc.collect()
    assert len(lines(caplog)) == 1
    assert lines(caplog)[0].startswith("gateway ERROR task refresher ended by ValueError at fails:")
    assert caplog.records[0].exc_info is None
    assert SECRET not in caplog.text


async def test_fault_that_somebody_waits_for_is_his_alone(caplog: pytest.LogCaptureFixture) -> None:
    """R393: raised to the waiter, not logged, and not reported as lost when the waiter has left."""
    with caplog.at_level(logging.DEBUG):
        with pytest.raises(ValueError, match="secret"):
            await spawn(fails(), "upload", awaited=True)
        left = spawn(fails(), "upload", awaited=True)
        await settle(4)
        assert left.done()
        del left
        gc.collect()
    assert lines(caplog) == []
    assert not tasks.running()


@pytest.mark.parametrize("awaited", [False, True])
async def test_cancelled_task_is_no_fault(awaited: bool, caplog: pytest.LogCaptureFixture) -> None:
    """A task that was told to end has done nothing wrong."""
    task = spawn(asyncio.Event().wait(), "waits", awaited=awaited)
    await settle(1)
    task.cancel()
    await settle(3)
    assert task.cancelled()
    assert lines(caplog) == []
    assert not tasks.running()


async def test_ending_a_task_waits_for_its_end(caplog: pytest.LogCaptureFixture) -> None:
    """Whatever a task does on its way out is done then; one that has ended, or fails, is no trouble."""
    left = []

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            left.append(True)

    task = spawn(work(), "works")
    await settle(1)
    await tasks.cancelled(task)
    await tasks.cancelled(task)
    assert left == [True]
    assert lines(caplog) == []


async def test_result_reaches_the_waiter() -> None:
    """The ordinary case."""

    async def work() -> int:
        return 7

    assert await spawn(work(), "works", awaited=True) == 7


def test_where_names_the_innermost_place() -> None:
    """R196: enough to find the line, nothing of the exception's text."""

    class Inner:
        def method(self) -> None:
            raise KeyError(SECRET)

    with pytest.raises(KeyError) as raised:
        Inner().method()
    told = where(raised.value)
    assert told.startswith("KeyError at ")
    assert "Inner.method:" in told
    assert SECRET not in told


def test_where_of_an_exception_that_was_never_raised() -> None:
    """Only its type is known."""
    assert where(TimeoutError(SECRET)) == "TimeoutError"
