"""benchmarks/drive.py, process.py, affinity.py: who makes the load, on which core, and what is not accepted."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

import pytest

from benchmarks import wrk
from benchmarks.affinity import Cores, pinned, plan
from benchmarks.drive import Driver, LoadError, Target, checked
from benchmarks.load import Outcome
from benchmarks.process import Process, ProcessError
from benchmarks.traffic import Traffic
from tests.benchmarks.service import OK, REFUSED, service
from tests.conftest import require

GET = Traffic(b"GET / HTTP/1.1\r\nHost: a", b"\r\n\r\n")
BAD = Traffic(b"GET / HTTP/1.1\r\nHost: a", b"\r\n\r\n", refused=True)


def test_the_bundled_generator_makes_the_load_where_wrk_cannot(tmp_path: Path) -> None:
    """A part of a second, an exact number, and a fixed rate."""
    driver = Driver(plan().load, tmp_path)
    with service(lambda _: [OK]) as port:
        assert driver.closed(GET, Target(port), 2, 0.2).answers > 10
        assert driver.send(GET, Target(port), 2, 50).answers == 50
        assert driver.offered(GET, Target(port), 2, 0.2, 100).answers == 20


def test_wrk_makes_the_load_where_it_is(tmp_path: Path) -> None:
    require(wrk.found() is not None, "wrk is missing: apt install wrk, or the like")
    with service(lambda _: [OK]) as port:
        outcome = Driver(None, tmp_path, wrk=True).closed(GET, Target(port), 4, 1)
    assert outcome.answers > 50
    assert outcome.seconds >= 0.9
    assert wrk.version()


def test_load_beside_a_block_is_there_from_its_first_moment(tmp_path: Path) -> None:
    seen: list[bytes] = []

    def answer(request: bytes) -> list[bytes]:
        seen.append(request)
        return [REFUSED]

    with service(answer) as port, Driver(None, tmp_path).beside(BAD, Target(port), 2, 0.1, 50) as outcomes:
        assert outcomes == []
    assert outcomes[0].answers == len(seen) == 30


def test_load_that_is_not_read_has_no_answers_and_is_no_fault(tmp_path: Path) -> None:
    """Load that should have had answers and got none is one."""
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        port = deaf.getsockname()[1]
        with Driver(None, tmp_path).beside(BAD, Target(port, unread=True), 2, 0.1, 50) as outcomes:
            pass
        assert (outcomes[0].answers, outcomes[0].failures) == (0, {"unanswered": 30})
        with pytest.raises(LoadError), Driver(None, tmp_path).beside(BAD, Target(port), 2, 0.1, 50):
            pass


def test_a_generator_beside_a_block_that_fails_is_ended(tmp_path: Path) -> None:
    with service(lambda _: [REFUSED]) as port, pytest.raises(ZeroDivisionError):  # noqa: SIM117  (the order matters)
        with Driver(None, tmp_path).beside(BAD, Target(port), 2, 60, 50):
            raise ZeroDivisionError


def test_tls_needs_wrk(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match="wrk"):
        Driver(None, tmp_path, wrk=False).closed(GET, Target(1, tls=True), 1, 1)


def test_wrong_answers_are_no_measurement() -> None:
    """A gateway that refuses what it must serve, or serves what it must refuse, has no rate."""
    assert checked(Outcome(answers=5), GET).answers == 5
    assert checked(Outcome(answers=5, refusals=5), BAD).answers == 5
    for outcome, traffic in ((Outcome(), GET), (Outcome(answers=5, refusals=1), GET), (Outcome(answers=5), BAD)):
        with pytest.raises(LoadError):
            checked(outcome, traffic)


def test_children_start_on_the_core_that_they_were_given() -> None:
    cores = plan()
    require(cores != Cores(None, None), "needs a machine with two CPU cores, or a container that may use two")
    before = os.sched_getaffinity(0)
    with pinned(cores.load):
        assert os.sched_getaffinity(0) == {cores.load}
    assert os.sched_getaffinity(0) == before
    with pinned(None):
        assert os.sched_getaffinity(0) == before


def test_a_process_that_ends_before_it_is_ready_says_what_it_wrote(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "import sys; sys.exit('no such port')"]
    with Process(command, tmp_path / "log", None) as process, pytest.raises(ProcessError, match="no such port"):
        process.wait_until(lambda: False)


def test_memory_is_that_of_the_whole_family(tmp_path: Path) -> None:
    """A parent with a child that holds 64 MiB."""
    ready = tmp_path / "ready"
    child = f"import pathlib; held = b'x' * (64 << 20); pathlib.Path({str(ready)!r}).touch(); input()"
    parent = (
        "import subprocess, sys\n"
        f"child = subprocess.Popen([sys.executable, '-c', {child!r}], stdin=subprocess.PIPE)\n"
        "child.wait()"
    )
    with Process([sys.executable, "-c", parent], tmp_path / "log", None) as process:
        process.wait_until(ready.exists)
        assert 64 << 20 < process.resident_bytes() < 256 << 20
