"""How a gateway of several workers ends, as real processes: signals, exit codes, and that no process is left behind."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.support.gateways.running import request, until
from tests.support.gateways.workers import PATIENCE, children, config_text, environment, gone, start, workers_gateway
from tests.support.upstreams.recording import Received, raw_upstream

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@pytest.mark.rule("R370")
async def test_signal_to_every_process_at_once_drains_in_order(tmp_path: Path, cache: Path) -> None:
    """As service managers send it to a group; requests that had begun are answered, exit code 0."""

    release = asyncio.Event()

    async def respond(received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        await release.wait()
        return OK

    async with (
        raw_upstream(respond) as upstream,
        workers_gateway(tmp_path, cache, config_text(upstream.url, drain_seconds=20)) as gateway,
    ):
        clients = [await gateway.client() for _ in range(20)]
        for client in clients:
            await client.send(request(b"GET", "/"))
        await until(lambda: len(upstream.requests) == 20)
        for pid in (*await gateway.pids(), gateway.process.pid):
            os.kill(pid, signal.SIGTERM)
        page, _ = await gateway.until("/readyz", draining=True)
        assert page["ready"] is False
        release.set()
        responses = [await client.response() for client in clients]
        assert [(response.body, response.one(b"connection")) for response in responses] == [(b"ok", b"close")] * 20
        assert await gateway.ended(5) == 0
        for client in clients:
            await client.close()


@pytest.mark.rule("R372")
async def test_second_signal_ends_everything_at_once(tmp_path: Path, cache: Path) -> None:
    async def respond(received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with (
        raw_upstream(respond) as upstream,
        workers_gateway(tmp_path, cache, config_text(upstream.url, drain_seconds=60)) as gateway,
    ):
        pids = await gateway.pids()
        client = await gateway.client()
        await client.send(request(b"GET", "/"))
        await until(lambda: bool(upstream.requests))
        gateway.process.send_signal(signal.SIGINT)
        await gateway.until("/readyz", draining=True)
        await until(lambda: sum(map(gone, pids)) == 1)  # the one that holds nothing
        assert gateway.process.returncode is None
        gateway.process.send_signal(signal.SIGINT)
        assert await gateway.ended(2) == 1
        await until(lambda: all(map(gone, pids)))
        await client.close()


async def test_no_process_outlives_the_supervisor(tmp_path: Path, cache: Path) -> None:
    """Killed itself, it can send nothing: not even a worker that hangs stays on the port."""
    async with (
        raw_upstream() as upstream,
        workers_gateway(tmp_path, cache, config_text(upstream.url)) as gateway,
    ):
        await gateway.running()
        processes = children(gateway.process.pid)
        assert len(processes) == 3
        os.kill((await gateway.pids())[1], signal.SIGSTOP)
        gateway.process.kill()
        await gateway.process.wait()
        try:
            await until(lambda: all(map(gone, processes)), within=2)
        finally:
            for pid in processes:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize(
    ("server", "code", "said"),
    [
        ({"workers": 2, "drain_seconds": -1}, 2, "server.drain_seconds"),
        ({"workers": 2, "listen": "127.0.0.1:TAKEN"}, 1, "cannot start"),
    ],
)
async def test_faults_at_the_start_have_the_exit_codes_of_a_single_process(
    server: dict[str, Any], code: int, said: str, tmp_path: Path, cache: Path
) -> None:
    """Contract: 2 for the configuration, 1 for an address that is taken; one clear line."""
    async with raw_upstream() as taken:
        config = tmp_path / "gateway.toml"
        config.write_text(config_text("http://127.0.0.1:1", **server).replace("TAKEN", str(taken.port)))
        process = await start(config, environment(cache))
        _, stderr = await asyncio.wait_for(process.communicate(), PATIENCE)
    assert process.returncode == code
    assert said in stderr.decode()
    assert b"Traceback" not in stderr
