"""The thread behind the access log: order, the end of it, and an output that is not read."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.tasks import failures
from gateway.telemetry.log_writer import LogThread
from tests.support.clock import eventually


async def test_jobs_run_in_order_off_the_loop_and_end_on_it() -> None:
    """Blocking work never runs on the loop's thread, what follows it always does."""
    thread, mine = LogThread(), threading.get_ident()
    order: list[int] = []
    threads: list[bool] = []

    def job(number: int) -> None:
        def work() -> None:
            order.append(number)
            threads.append(threading.get_ident() == mine)

        thread.run(work, lambda: threads.append(threading.get_ident() == mine))

    for number in range(20):
        job(number)
    await thread.stop(5)
    assert order == list(range(20))
    assert threads.count(False) == threads.count(True) == 20
    assert not thread.stuck


async def test_stop_waits_for_jobs_that_follow_jobs() -> None:
    """What comes in while the last write runs is written too."""
    thread = LogThread()
    done: list[int] = []
    thread.run(lambda: None, lambda: thread.run(lambda: None, lambda: done.append(1)))
    await thread.stop(5)
    assert done == [1]


@pytest.mark.rule("R406")
async def test_a_job_that_fails_is_not_the_last_one() -> None:
    """Neither one in the thread nor what follows it on the loop."""
    before, done = failures["access log"], list[int]()
    thread = LogThread()

    def fail() -> None:
        raise MemoryError

    thread.run(fail, lambda: done.append(1))
    thread.run(lambda: None, lambda: done.append(2))
    await thread.stop(5)
    assert done == [1, 2]
    assert failures["access log"] == before + 1
    assert not thread.stuck


async def test_stop_leaves_a_stuck_job_behind_in_time() -> None:
    """A reader that never reads must not keep a gateway from ending."""
    thread, release = LogThread(), threading.Event()

    def work() -> None:
        release.wait()

    thread.run(work, lambda: None)
    async with asyncio.timeout(2):
        await thread.stop(0.02)
    assert thread.stuck
    release.set()


async def test_thread_ends_with_the_gateway() -> None:
    """Many gateways in one process leave no thread each."""
    before = set(threading.enumerate())  # one of them may be another test's that is about to end
    made = [LogThread() for _ in range(5)]
    threads = set(threading.enumerate()) - before
    assert len(threads) == 5
    for thread in made:
        await thread.stop(1)
    await eventually(lambda: not any(thread.is_alive() for thread in threads))


@contextlib.asynccontextmanager
async def _gateway(tmp_path: Path, stdout: int) -> AsyncIterator[tuple[asyncio.subprocess.Process, int]]:
    config = tmp_path / "gateway.toml"
    config.write_text(
        '[server]\nlisten = "127.0.0.1:0"\nadmin_listen = "127.0.0.1:0"\ndrain_seconds = 1\n'
        '[[upstreams]]\nname = "main"\nurls = ["http://127.0.0.1:1"]\n'
        '[[routes]]\npath = "/"\nauth = "public"\nupstream = "main"\n'
    )
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway", "run", "--config", str(config)),
        stdout=stdout,
        stderr=asyncio.subprocess.PIPE,
        env={name: value for name, value in os.environ.items() if not name.startswith("GATEWAY_")},
    )
    try:
        assert process.stderr is not None
        line = b""
        async with asyncio.timeout(20):
            while b"listening" not in line:
                line = await process.stderr.readline()
                assert line, "the gateway ended instead of listening"
        yield process, int(line.split(b"(port ")[1].split(b")")[0])
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def _requests(port: int, count: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for _ in range(count):
        writer.write(b"GET /" + b"a" * 1000 + b" HTTP/1.1\r\nHost: h\r\n\r\n")
        head = await reader.readuntil(b"\r\n\r\n")
        assert b" 502 " in head
        await reader.readexactly(int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0]))
    writer.close()
    await writer.wait_closed()


@pytest.mark.parametrize("reader", ["stuck", "gone"])
@pytest.mark.rule("R370", "R432")
async def test_gateway_serves_and_ends_in_order_whoever_reads_its_log(reader: str, tmp_path: Path) -> None:
    """A full pipe, or one without a reader, costs log lines; requests are served and the exit code is 0.

    On every Python: from 3.13 on an output that cannot be written at the end is a traceback and the exit code 120.
    """
    ours, theirs = socket.socketpair()  # holds some 200 kB, as a pipe holds 64
    with ours, theirs:
        async with _gateway(tmp_path, theirs.fileno()) as (process, port):
            theirs.close()
            if reader == "gone":
                ours.close()
            await _requests(port, 600)
            process.send_signal(signal.SIGTERM)
            assert process.stderr is not None
            said = await asyncio.wait_for(process.stderr.read(), 5)
            assert await asyncio.wait_for(process.wait(), 5) == 0
            assert said.endswith(b"stopped\n"), said
