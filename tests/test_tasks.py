"""Background tasks: held until they end, and their faults reported without their text."""

from __future__ import annotations

import asyncio
import gc
import logging

import pytest

from gateway import tasks
from gateway.clock import SystemClock
from gateway.tasks import LOG_SECONDS, Periodic, note_failure, periodic, spawn, where
from tests.support.clock import FakeClock, eventually, settle

SECRET = "eyJhbGciOi.secret.token"


async def fails() -> None:
    await asyncio.sleep(0)
    raise ValueError(SECRET)


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [f"{line.name} {line.levelname} {line.getMessage()}" for line in caplog.records]


@pytest.mark.rule("R393")
async def test_task_that_nobody_keeps_runs_to_its_end() -> None:
    """The event loop alone would hold it weakly."""
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


@pytest.mark.rule("R196", "R393")
async def test_fault_is_logged_once_by_type_and_place_without_its_text(caplog: pytest.LogCaptureFixture) -> None:
    _ = spawn(fails(), "refresher")
    await settle(4)
    gc.collect()
    assert len(lines(caplog)) == 1
    assert lines(caplog)[0].startswith("gateway ERROR task refresher failed: ValueError at fails:")
    assert caplog.records[0].exc_info is None
    assert SECRET not in caplog.text


@pytest.mark.rule("R393")
async def test_fault_that_somebody_waits_for_is_his_alone(caplog: pytest.LogCaptureFixture) -> None:
    """Raised to the waiter, not logged, and not reported as lost when the waiter has left."""
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
    """A task that was cancelled has done nothing wrong."""
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


async def test_a_task_that_is_given_up_is_cancelled_and_remembered() -> None:
    """The process then knows that it has no orderly end to wait for."""
    before = list(tasks.given_up)
    task = spawn(asyncio.Event().wait(), "hangs")
    tasks.give_up(task)
    assert tasks.given_up == [*before, "hangs"]
    del tasks.given_up[len(before) :]
    await asyncio.wait({task})
    assert task.cancelled()


async def test_result_reaches_the_waiter() -> None:
    """The ordinary case."""

    async def work() -> int:
        return 7

    assert await spawn(work(), "works", awaited=True) == 7


@pytest.mark.rule("R196")
def test_where_names_the_innermost_place() -> None:
    """Enough to find the line, nothing of the exception's text."""

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


class Rounds:
    """What each round does: an exception to raise, or None."""

    def __init__(self, *outcomes: BaseException | None, kind: str = "rounds") -> None:
        self.clock = FakeClock()
        self.began: list[float] = []
        self.heard: list[BaseException] = []
        self._start = self.clock.monotonic()
        self._outcomes = list(outcomes)
        self.periodic = Periodic(kind, self._round, self.clock, 5.0, about="a test", on_failure=self.heard.append)

    async def _round(self) -> None:
        self.began.append(self.clock.monotonic() - self._start)
        outcome = self._outcomes.pop(0) if self._outcomes else None
        if isinstance(outcome, asyncio.CancelledError):
            child = asyncio.ensure_future(asyncio.sleep(60))
            child.cancel()
            await child
        if outcome is not None:
            raise outcome


class Odd(BaseException):
    """An exception of a kind that no handler expects."""


@pytest.mark.rule("R406")
async def test_no_round_is_the_last_one_whatever_it_ends_with(caplog: pytest.LogCaptureFixture) -> None:
    """Also when something that it waited for was cancelled; each failure is counted, and few are logged."""
    outcomes = [None, ValueError(SECRET), MemoryError(), RecursionError(), asyncio.CancelledError(), Odd(SECRET), None]
    rounds = Rounds(*outcomes, kind="rounds of all kinds")  # of which nothing was logged before
    rounds.periodic.start()
    rounds.periodic.start()
    await settle()
    assert rounds.periodic in periodic()
    for _ in outcomes:
        await rounds.clock.advance(5)
    assert rounds.began == [5.0 * number for number in range(1, 8)]
    assert (rounds.periodic.rounds, rounds.periodic.failures, rounds.periodic.last_error) == (7, 5, "")
    assert [type(error) for error in rounds.heard] == [type(one) for one in outcomes if one is not None]
    assert tasks.failures["rounds of all kinds"] == 5
    assert len(lines(caplog)) == 1
    assert lines(caplog)[0].startswith("gateway ERROR rounds of all kinds of a test failed (1 so far): ValueError at ")
    assert SECRET not in caplog.text
    await rounds.periodic.stop()
    assert rounds.periodic not in periodic()


@pytest.mark.parametrize("at_once", [True, False])
async def test_the_first_round_comes_at_once_or_after_the_first_wait(at_once: bool) -> None:
    rounds = Rounds()
    rounds.periodic.start(at_once=at_once)
    await settle()
    assert len(rounds.began) == at_once
    await rounds.clock.advance(5)
    assert len(rounds.began) == 1 + at_once
    await rounds.periodic.stop()


@pytest.mark.rule("R406")
async def test_a_wait_that_fails_does_not_make_rounds_follow_each_other() -> None:
    """Neither is it the end."""
    faults = [ValueError()]

    def seconds() -> float:
        if faults:
            raise faults.pop()
        return 1.0

    clock, done = FakeClock(), list[int]()

    async def work() -> None:
        done.append(1)

    made = Periodic("rounds", work, clock, seconds)
    made.start()
    await settle()
    assert (made.failures, done) == (1, [])
    await eventually(lambda: done == [1])
    await clock.advance(1)
    assert done == [1, 1]
    await made.stop()


@pytest.mark.rule("R406")
async def test_what_hears_of_a_failure_may_fail_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a full log does."""
    rounds = Rounds(ValueError(), None)
    made = Periodic("rounds", rounds._round, rounds.clock, 5.0, on_failure=lambda error: 1 / 0)  # type: ignore[arg-type]

    def broken(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr(logging.getLogger("gateway"), "error", broken)
    made.start()
    await settle()
    await rounds.clock.advance(10)
    assert (made.rounds, made.failures) == (2, 1)
    await made.stop()


@pytest.mark.rule("R371")
async def test_a_stop_ends_work_that_swallows_it() -> None:
    clock = FakeClock()

    async def stubborn() -> None:
        try:
            await clock.sleep(60)
        except asyncio.CancelledError:
            return

    made = Periodic("rounds", stubborn, clock, 1.0)
    made.start(at_once=True)
    await settle()
    async with asyncio.timeout(5):
        await made.stop()


@pytest.mark.rule("R406")
async def test_a_loop_goes_on_after_failures_and_ends_with_its_task(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pause behind each, and an end that was asked for is not a failure."""
    monkeypatch.setattr(tasks, "PAUSE_SECONDS", 60.0)
    before, rounds = tasks.failures["a loop"], 0

    async def run() -> None:
        nonlocal rounds
        while True:
            rounds += 1
            try:
                raise Odd
            except BaseException as error:
                await tasks.go_on_after(error, "a loop")

    running = asyncio.ensure_future(run())
    await settle()
    assert (rounds, tasks.failures["a loop"]) == (1, before + 1)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    with pytest.raises(SystemExit):
        await tasks.go_on_after(SystemExit(), "a loop")
    assert tasks.failures["a loop"] == before + 1


@pytest.mark.parametrize("last", [SystemExit, KeyboardInterrupt])
async def test_the_end_of_the_process_is_no_failed_round(last: type[BaseException]) -> None:
    assert not tasks.survivable(last())
    assert not tasks.survivable(GeneratorExit())
    assert tasks.survivable(asyncio.CancelledError())


@pytest.mark.rule("R406")
async def test_failures_are_logged_once_in_a_while(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By kind, and with the number of those that were not logged."""
    clock = FakeClock()
    monkeypatch.setattr(SystemClock, "monotonic", clock.monotonic)
    for _ in range(3):
        for _ in range(5):
            note_failure("a kind that was never logged", ValueError(SECRET))
        clock.jump(LOG_SECONDS)
    numbers = [int(line.split("(")[1].split()[0]) for line in lines(caplog)]
    assert numbers == [1, 6, 11]
