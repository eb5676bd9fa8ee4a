"""What the process of a gateway answers to signals, and how it ends (R370-R372)."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from gateway.process.foreground import calm_collector
from tests.support.gateways.running import RawClient, request, until
from tests.support.upstreams.recording import Received, raw_upstream

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@dataclass
class Process:
    """``gateway run`` in a process of its own."""

    process: asyncio.subprocess.Process
    port: int
    admin_port: int

    async def client(self) -> RawClient:
        return RawClient(*await asyncio.open_connection("127.0.0.1", self.port))

    async def says(self, word: bytes) -> None:
        """Wait until it writes this to standard error."""
        assert self.process.stderr is not None
        async with asyncio.timeout(40):
            while word not in (line := await self.process.stderr.readline()):
                assert line, "it ended"


@contextlib.asynccontextmanager
async def gateway_process(upstream_url: str, tmp_path: Path, **server: Any) -> AsyncIterator[Process]:
    config = tmp_path / "gateway.toml"
    options = {"listen": '"127.0.0.1:0"', "admin_listen": '"127.0.0.1:0"', **server}
    lines = ["[server]", *(f"{name} = {value}" for name, value in options.items())]
    lines += ['[[upstreams]]\nname = "main"', f'urls = ["{upstream_url}"]']
    lines += ['[[routes]]\npath = "/"\nauth = "public"\nupstream = "main"']
    config.write_text("\n".join(lines))
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "gateway",
        "run",
        "--config",
        str(config),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={name: value for name, value in os.environ.items() if not name.startswith("GATEWAY_")},
    )
    try:
        assert process.stderr is not None
        async with asyncio.timeout(40):
            while True:
                line = (await process.stderr.readline()).decode()
                assert line, "the gateway ended instead of listening"
                if found := re.search(r"\(port (\d+)\), admin on port (\d+)", line):
                    break
        yield Process(process, int(found[1]), int(found[2]))
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.rule("R370", "C86")
async def test_signal_under_load_fails_no_request_and_exits_0(number: signal.Signals, tmp_path: Path) -> None:
    """Requests that had begun are answered in full; the exit code is 0, in time."""

    release = asyncio.Event()

    async def respond(received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        await release.wait()
        return OK

    async with raw_upstream(respond) as upstream, gateway_process(upstream.url, tmp_path, drain_seconds=20) as gateway:
        clients = [await gateway.client() for _ in range(20)]
        for client in clients:
            await client.send(request(b"GET", "/"))
        await until(lambda: len(upstream.requests) == 20)
        gateway.process.send_signal(number)
        await gateway.says(b"draining")
        release.set()
        responses = [await client.response() for client in clients]
        assert [response.body for response in responses] == [b"ok"] * 20
        assert {response.one(b"connection") for response in responses} == {b"close"}
        assert await asyncio.wait_for(gateway.process.wait(), 3) == 0
        for client in clients:
            await client.close()


@pytest.mark.rule("R372")
async def test_second_signal_ends_the_process_at_once(tmp_path: Path) -> None:
    async def respond(received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with raw_upstream(respond) as upstream, gateway_process(upstream.url, tmp_path, drain_seconds=60) as gateway:
        client = await gateway.client()
        await client.send(request(b"GET", "/"))
        await until(lambda: bool(upstream.requests))
        gateway.process.send_signal(signal.SIGTERM)
        await gateway.says(b"draining")
        assert gateway.process.returncode is None
        gateway.process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(gateway.process.wait(), 2) == 1
        await client.close()


async def test_hangup_changes_nothing_and_is_told(tmp_path: Path) -> None:
    """Contract: SIGHUP never ends the gateway; until it can load a configuration anew, it says so."""
    async with raw_upstream() as upstream, gateway_process(upstream.url, tmp_path) as gateway:
        gateway.process.send_signal(signal.SIGHUP)
        assert gateway.process.stderr is not None
        line = await asyncio.wait_for(gateway.process.stderr.readline(), 5)
        assert b"SIGHUP ignored" in line
        client = await gateway.client()
        assert (await client.exchange(request(b"GET", "/"))).status == 200
        await client.close()
        gateway.process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(gateway.process.wait(), 5) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
@pytest.mark.rule("R370")
async def test_signal_after_the_end_does_not_change_the_exit_code(number: signal.Signals, tmp_path: Path) -> None:
    """Who asks twice, a moment too late, still hears that all went well."""
    async with raw_upstream() as upstream, gateway_process(upstream.url, tmp_path) as gateway:
        gateway.process.send_signal(signal.SIGTERM)
        await gateway.says(b"stopped")
        for _ in range(50):
            if gateway.process.returncode is not None:
                break
            gateway.process.send_signal(number)
            await asyncio.sleep(0.002)
        assert await asyncio.wait_for(gateway.process.wait(), 5) == 0


async def test_address_in_use_is_exit_1_with_one_clear_line(tmp_path: Path) -> None:
    """Contract: exit code 1 for what is no config fault; no stack trace."""
    async with raw_upstream() as taken:
        environment = {**os.environ, "GATEWAY_ISSUER": "https://idp.test/", "GATEWAY_AUDIENCE": "api"}
        environment |= {"GATEWAY_UPSTREAM": "http://127.0.0.1:1", "GATEWAY_SERVER_LISTEN": f"127.0.0.1:{taken.port}"}
        environment |= {"GATEWAY_SERVER_ADMIN_LISTEN": "127.0.0.1:0"}
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "gateway", "run"), stderr=asyncio.subprocess.PIPE, env=environment
        )
        _, stderr = await asyncio.wait_for(process.communicate(), 20)
    assert process.returncode == 1
    assert b"cannot start" in stderr
    assert b"Traceback" not in stderr


def test_collector_looks_less_often_and_leaves_what_is_there_alone() -> None:
    before = gc.get_threshold()
    gc.set_threshold(700, 10, 10)  # Python's own; the command line has set another one
    try:
        calm_collector()
        assert gc.isenabled()
        assert gc.get_threshold()[0] > 700
        assert gc.get_freeze_count() > 0
    finally:
        gc.unfreeze()
        gc.set_threshold(*before)
