"""One worker process under its supervisor's hands, as a real process."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from pathlib import Path

import pytest

from gateway.configuration import GatewaySettings
from gateway.process.channel import Channel
from gateway.process.worker_process import WorkerProcess
from gateway.server.sockets.listen import SharedAddress
from gateway.tasks import failures
from tests.support.gateways.running import until
from tests.support.gateways.workers import PATIENCE

NOWHERE = [SharedAddress("127.0.0.1:0")]

pytestmark = pytest.mark.usefixtures("loading")


async def test_process_stands_by_until_it_is_not_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    """It answers nothing, and ends in order when its channel does."""
    ends, whole = [], Channel.open

    async def noted(end: socket.socket) -> Channel:
        ends.append(end)
        return await whole(end)

    monkeypatch.setattr(Channel, "open", noted)
    process = await WorkerProcess.start(NOWHERE, GatewaySettings.listed)
    assert (process.alive, process.loaded) == (True, False)
    await until(lambda: process.loaded, within=PATIENCE)
    assert (process.listening, process.served, await process.ask("status")) == (False, False, None)
    ends[0].shutdown(socket.SHUT_WR)
    assert await process.ended() == 0
    assert not process.alive
    process.signal(signal.SIGTERM)  # no process there: nothing happens


async def test_exit_tells_the_signal_that_ended_it() -> None:
    process = await WorkerProcess.start(NOWHERE, GatewaySettings.listed)
    process.signal(signal.SIGKILL)
    assert await process.ended() == -signal.SIGKILL
    assert await process.ask("status") is None


@pytest.mark.rule("R384")
async def test_settings_and_keys_are_on_no_command_line() -> None:
    """What others can see of a process is that it is a worker."""
    process = await WorkerProcess.start(NOWHERE, GatewaySettings.listed)
    try:
        await until(lambda: process.loaded, within=PATIENCE)
        words = Path(f"/proc/{process.pid}/cmdline").read_bytes().split(b"\0")  # noqa: ASYNC240  (a page of memory)
        assert words[-4:-3] == [b"gateway.process.worker"]
        assert words[-3].isdigit()
        assert os.getsid(process.pid) == process.pid  # Ctrl-C reaches the supervisor only
    finally:
        await process.kill()


async def test_worker_is_this_package_whatever_lies_in_the_current_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoy = tmp_path / "gateway" / "server"
    decoy.mkdir(parents=True)
    for folder in (decoy.parent, decoy):
        (folder / "__init__.py").write_text("")
    (decoy / "worker.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    monkeypatch.setenv("PYTHONPATH", os.fspath(Path(__file__).parents[2]))
    monkeypatch.chdir(tmp_path)
    process = await WorkerProcess.start(NOWHERE, GatewaySettings.listed)
    try:
        async with asyncio.timeout(PATIENCE):
            await until(lambda: process.loaded or not process.alive, within=PATIENCE)
        assert process.loaded
        assert not (tmp_path / "ran").exists()
    finally:
        await process.kill()


@pytest.mark.rule("R406")
async def test_message_that_makes_no_sense_is_passed_over() -> None:
    """What comes after it is heard, or the worker would pass for dead."""
    before = failures["channel of a worker"]
    ours, theirs = socket.socketpair()
    theirs.sendall((4).to_bytes(4, "big") + b"none" + (2).to_bytes(4, "big") + b"[]")
    channel = await Channel.open(theirs)
    silent = await asyncio.create_subprocess_exec(sys.executable, "-c", "input()", stdin=asyncio.subprocess.PIPE)
    process = WorkerProcess(silent, await Channel.open(ours))
    try:
        channel.send({"page": "metrics", "answer": [{}]})
        await until(lambda: process.metrics == [{}])
        assert failures["channel of a worker"] == before + 2
        await channel.close()
    finally:
        await process.kill()
