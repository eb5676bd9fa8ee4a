"""How lines of the access log are collected and written: none is lost or doubled, and what waits is bounded."""

from __future__ import annotations

import io
import json
import random
from collections.abc import Callable
from typing import Any

import pytest

from gateway.telemetry import access_log
from gateway.telemetry.access_log import COLLECT_SECONDS, AccessLog
from gateway.telemetry.record import Record
from tests.support.clock import FakeClock


def record(**values: Any) -> Record:
    return Record(**{"started": 0.0, "client": "192.0.2.1", "method": "GET", "path": "/a", "status": 200, **values})


class HeldThread:
    """Keeps the jobs that the log hands over until the test lets them run."""

    def __init__(self) -> None:
        self.jobs: list[tuple[Callable[[], None], Callable[[], None]]] = []

    def run(self, work: Callable[[], None], done: Callable[[], None]) -> None:
        self.jobs.append((work, done))

    def work(self) -> Callable[[], None]:
        """Run the oldest job's blocking part; return the part that runs on the loop."""
        work, done = self.jobs.pop(0)
        work()
        return done


class Timers:
    """Keeps what is to be called later."""

    def __init__(self) -> None:
        self.waiting: list[Callable[[], None]] = []

    def later(self, seconds: float, call: Callable[[], None]) -> None:
        assert seconds == COLLECT_SECONDS
        self.waiting.append(call)

    def end(self) -> None:
        self.waiting.pop(0)()


def log_with(out: Any, thread: HeldThread, timers: Timers | None = None) -> AccessLog:
    return AccessLog("json", out, FakeClock(), thread.run, timers.later if timers else None)


def paths(text: str) -> list[str]:
    return [json.loads(line)["path"] for line in text.splitlines()]


def test_off_writes_nothing() -> None:
    """Contract: access_log = "off"."""
    out = io.StringIO()
    log = AccessLog("off", out, FakeClock())
    log.write(record(), 0)
    log.flush()
    assert (out.getvalue(), log.enabled) == ("", False)


@pytest.mark.parametrize(("form", "begins"), [("json", '{"time":"2027-'), ("text", "time=2027-")])
def test_line_has_the_form_that_is_configured(form: Any, begins: str) -> None:
    out = io.StringIO()
    AccessLog(form, out, FakeClock()).write(record(), 0)
    assert out.getvalue().startswith(begins)


# --- when lines are written ---


def test_lines_wait_for_others_and_are_written_together() -> None:
    """One timer and one write for all that came meanwhile; without lines, neither."""
    out, thread, timers = io.StringIO(), HeldThread(), Timers()
    log = log_with(out, thread, timers)
    for number in range(3):
        log.write(record(path=f"/{number}"), 0)
    assert (len(timers.waiting), thread.jobs) == (1, [])
    timers.end()
    assert (len(timers.waiting), len(thread.jobs)) == (0, 1)
    thread.work()()
    assert paths(out.getvalue()) == ["/0", "/1", "/2"]
    assert (timers.waiting, thread.jobs) == ([], [])
    log.write(record(path="/3"), 0)
    timers.end()
    thread.work()()
    assert paths(out.getvalue())[3:] == ["/3"]


def test_many_lines_do_not_wait_for_the_timer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access_log, "COLLECT_CHARS", 1000)
    monkeypatch.setattr(access_log, "RENDERED_TOGETHER", 1)
    out, thread, timers = io.StringIO(), HeldThread(), Timers()
    log = log_with(out, thread, timers)
    count = 0
    while not thread.jobs:
        log.write(record(path=f"/{count}"), 0)
        count += 1
    thread.work()()
    assert paths(out.getvalue()) == [f"/{number}" for number in range(count)]
    assert 1000 <= len(out.getvalue()) < 1500
    log.write(record(path="/next"), 0)
    assert len(timers.waiting) == 1
    timers.end()
    thread.work()()
    assert paths(out.getvalue())[-1] == "/next"


class Odd(str):
    """A text that cannot be written."""

    def __format__(self, form: str) -> str:
        raise RuntimeError


def test_line_that_cannot_be_rendered_costs_no_other(caplog: pytest.LogCaptureFixture) -> None:
    """It is counted as dropped, and reported without what it shows."""
    out, thread, timers = io.StringIO(), HeldThread(), Timers()
    log = log_with(out, thread, timers)
    for path in ("/0", Odd("/1"), "/2"):
        log.write(record(path=path), 0)
    log.flush()
    thread.work()()
    assert (paths(out.getvalue()), log.dropped) == (["/0", "/2"], 1)
    assert "access log failed" in caplog.text


def test_flush_writes_what_has_not_been_written_also_behind_a_running_write() -> None:
    """The end of a gateway loses no line of a request that was answered."""
    out, thread, timers = io.StringIO(), HeldThread(), Timers()
    log = log_with(out, thread, timers)
    log.flush()
    assert thread.jobs == []
    log.write(record(path="/0"), 0)
    log.flush()
    done = thread.work()
    log.write(record(path="/1"), 0)
    log.flush()
    assert thread.jobs == []
    done()
    thread.work()()
    assert paths(out.getvalue()) == ["/0", "/1"]


def test_timer_that_ends_during_a_write_is_not_forgotten() -> None:
    out, thread, timers = io.StringIO(), HeldThread(), Timers()
    log = log_with(out, thread, timers)
    log.write(record(path="/0"), 0)
    timers.end()
    log.write(record(path="/1"), 0)
    timers.end()
    thread.work()()
    thread.work()()
    assert paths(out.getvalue()) == ["/0", "/1"]


def test_without_a_timer_lines_that_come_during_a_write_follow_it_in_order_and_in_one_piece() -> None:
    """One write at a time: what is collected meanwhile is the next one."""
    out, thread = io.StringIO(), HeldThread()
    log = log_with(out, thread)
    log.write(record(path="/0"), 0)
    assert len(thread.jobs) == 1
    for number in range(1, 4):
        log.write(record(path=f"/{number}"), 0)
    assert len(thread.jobs) == 1
    done = thread.work()
    log.write(record(path="/4"), 0)
    assert (len(thread.jobs), paths(out.getvalue())) == (0, ["/0"])
    done()
    assert len(thread.jobs) == 1
    thread.work()()
    assert paths(out.getvalue()) == ["/0", "/1", "/2", "/3", "/4"]
    assert not thread.jobs


@pytest.mark.parametrize("timed", [False, True])
def test_no_line_is_lost_or_doubled_in_any_order_of_events(timed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Model test: writes, timers and both halves of a hand-over in random order give every line once, in order."""
    monkeypatch.setattr(access_log, "COLLECT_CHARS", 1000)
    monkeypatch.setattr(access_log, "RENDERED_TOGETHER", 3)
    for seed in range(200):
        choice = random.Random(seed)
        out, thread, timers = io.StringIO(), HeldThread(), Timers()
        log = log_with(out, thread, timers if timed else None)
        done: Callable[[], None] | None = None
        for number in range(40):
            log.write(record(path=f"/{number}"), 0)
            for _ in range(choice.randrange(3)):
                if timers.waiting and choice.random() < 0.3:
                    timers.end()
                elif done is not None:
                    finished, done = done, None
                    finished()
                elif thread.jobs:
                    done = thread.work()
        while done is not None or thread.jobs or timers.waiting:
            if done is not None:
                done()
            while timers.waiting:
                timers.end()
            done = thread.work() if thread.jobs else None
        assert paths(out.getvalue()) == [f"/{number}" for number in range(40)]


# --- outputs that take nothing ---


def test_stuck_reader_costs_bounded_memory_and_later_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    """CWE-770: MAX_BUFFERED counts what is being written too; drops are counted; afterwards all is as before."""
    monkeypatch.setattr(access_log, "MAX_BUFFERED", 1000)
    out, thread = io.StringIO(), HeldThread()
    log = log_with(out, thread)
    for number in range(100):
        log.write(record(path=f"/{number}"), 0)
    kept = 100 - log.dropped
    assert log.dropped > 80
    done = thread.work()
    first = out.getvalue()
    log.write(record(path="/during"), 0)
    dropped = log.dropped
    done()
    while thread.jobs:
        thread.work()()
    assert paths(out.getvalue())[:kept] == [f"/{number}" for number in range(kept)]
    assert len(out.getvalue()) <= 1000 + len(first)
    log.write(record(path="/after"), 0)
    thread.work()()
    assert paths(out.getvalue())[-1] == "/after"
    assert log.dropped == dropped


class BrokenOut(io.StringIO):
    """An output whose reader is gone."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error

    def flush(self) -> None:
        raise self.error


@pytest.mark.parametrize("error", [BrokenPipeError(), OSError(28, "no space"), ValueError("I/O on closed file")])
@pytest.mark.parametrize("threaded", [False, True])
def test_output_that_fails_costs_lines_never_requests(error: Exception, threaded: bool) -> None:
    """A closed or full output is no fault of a request: the lines are counted as dropped."""
    out, thread = BrokenOut(error), HeldThread()
    log = AccessLog("json", out, FakeClock(), thread.run if threaded else None)
    for _ in range(3):
        log.write(record(), 0)
    while thread.jobs:
        thread.work()()
    assert log.dropped == 3


def test_lines_of_a_write_that_fails_in_any_other_way_are_counted_too() -> None:
    """The thread goes on after a failed job, and so does the log."""
    out, thread = BrokenOut(MemoryError()), HeldThread()
    log = log_with(out, thread)
    log.write(record(), 0)
    work, done = thread.jobs.pop()
    with pytest.raises(MemoryError):
        work()
    done()
    assert log.dropped == 1


def test_closed_output_is_survived() -> None:
    """The same with a real closed file."""
    out = io.StringIO()
    out.close()
    log = AccessLog("json", out, FakeClock())
    log.write(record(), 0)
    assert log.dropped == 1
