"""Features that fail or hang, in real processes: how the gateway ends, and what it says."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from pathlib import Path

import pytest

from gateway.server.seam.parts import PARTS_STOP_SECONDS
from tests.support.faulty_features import FAILING, NOTES, noted
from tests.support.gateways.running import configuration
from tests.support.gateways.workers import PATIENCE, WorkersGateway, environment

WORKERS = pytest.mark.parametrize("workers", [1, 2])


async def _start(tmp_path: Path, cache: Path, failing: str, workers: int) -> asyncio.subprocess.Process:
    server = {"workers": workers, "drain_seconds": 20}
    settings = configuration("http://127.0.0.1:9", tmp_path / "jwks.json", server=server)
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.support.faulty_features", json.dumps(settings)),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        env={**environment(cache), FAILING: failing},
    )


async def _ended(process: asyncio.subprocess.Process) -> str:
    """Wait for its end, and return what it wrote to standard error."""
    try:
        return (await asyncio.wait_for(process.communicate(), PATIENCE))[1].decode()
    finally:
        if process.returncode is None:
            process.kill()


@pytest.fixture(autouse=True)
def notes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the part of the feature that is well notes what becomes of it."""
    monkeypatch.setenv(NOTES, str(tmp_path / "notes"))


@WORKERS
@pytest.mark.parametrize("hook", ["claims", "open_files", "build", "start", "pages"])
async def test_a_hook_that_fails_is_one_line_and_exit_code_1(
    hook: str, workers: int, tmp_path: Path, cache: Path
) -> None:
    """Each process that cannot start says so once; what it had started is stopped."""
    process = await _start(tmp_path, cache, hook, workers)
    said = await _ended(process)
    assert process.returncode == 1, said
    assert "Traceback" not in said
    assert "s3cret" not in said
    lines = [line for line in said.splitlines() if "cannot start" in line]
    assert 1 <= len(lines) <= workers
    for line in lines:
        assert f'cannot start: feature "faulty": {hook} failed: LookupError at FaultyFeature.{hook}:' in line.replace(
            "FaultyPart.start", "FaultyFeature.start"
        )
    assert all(became == ["started", "stopped"] for became in noted().values())
    if hook == "start":
        assert noted()


async def test_a_worker_that_runs_beside_one_that_cannot_start_is_ended_in_order(tmp_path: Path, cache: Path) -> None:
    """It is the second one to get there that fails."""
    process = await _start(tmp_path, cache, "second", 2)
    said = await _ended(process)
    assert process.returncode == 1, said
    assert 'cannot start: feature "faulty": start failed: LookupError at FaultyPart.start:' in said
    assert list(noted().values()) == [["started", "stopped"]] * 2, said


@WORKERS
async def test_a_failed_start_ends_although_the_part_does_not_stop(workers: int, tmp_path: Path, cache: Path) -> None:
    process = await _start(tmp_path, cache, "start-and-stop", workers)
    said = await _ended(process)
    assert process.returncode == 1, said
    assert 'cannot start: feature "faulty": start failed: no such file' in said
    assert 'feature "faulty" did not stop within' in said
    assert all(became == ["started", "stopped"] for became in noted().values())


@WORKERS
async def test_a_part_that_does_not_stop_keeps_no_process_from_ending(
    workers: int, tmp_path: Path, cache: Path
) -> None:
    """Not even one that takes no notice of being cancelled: said once by each process, and the exit code is 0."""
    gateway = WorkersGateway(await _start(tmp_path, cache, "stop", workers))
    try:
        async with asyncio.timeout(PATIENCE):
            await gateway.listen()
            gateway.process.send_signal(signal.SIGTERM)
            await gateway.read_on()
        said = "".join(gateway.lines)
        assert await gateway.ended() == 0, said
    finally:
        if gateway.process.returncode is None:
            gateway.process.kill()
            await gateway.process.wait()
    told = f'feature "faulty" did not stop within {PARTS_STOP_SECONDS:g} s: going on without it'
    assert said.count(told) == workers
    assert "Traceback" not in said
    assert list(noted().values()) == [["started", "stopped"]] * workers
