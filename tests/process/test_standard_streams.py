"""Processes that are started with standard streams closed (R415, C107)."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.gateways.running import request, until
from tests.support.ports import free_port
from tests.support.upstreams.recording import raw_upstream

SHELL = 'exec "$@" '

#: Files on a disk that is full.
FULL = "1>/dev/full 2>/dev/full"


@pytest.mark.parametrize("closed", ["0<&-", "1>&-", "2>&-", "0<&- 1>&- 2>&-"])
@pytest.mark.rule("R415", "C107")
def test_a_closed_stream_is_replaced_before_anything_can_take_its_number(closed: str, tmp_path: Path) -> None:
    """By a file that takes everything and gives nothing."""
    found = tmp_path / "found"
    program = (
        "import os, sys\n"
        "from gateway.process.standard_streams import open_closed\n"
        "open_closed()\n"
        "open_closed()\n"
        "kept = [os.dup(number) for number in range(3)]\n"
        "print('out', flush=True)\n"
        "print('err', file=sys.stderr, flush=True)\n"
        f"names = [os.readlink(f'/proc/self/fd/{{number}}') for number in range(3)]\n"
        f"open({str(found)!r}, 'w').write(repr((names, sys.stdin.read())))\n"
    )
    command = ["/bin/sh", "-c", SHELL + closed, "sh", sys.executable, "-c", program]
    ended = subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL, timeout=60, check=False)
    names, read = eval(found.read_text())
    assert ended.returncode == 0
    assert read == ""
    for number, name in enumerate(names):
        assert (name == os.devnull) == (number == 0 or f"{number}>&-" in closed)
    assert ended.stdout == (b"" if "1>&-" in closed else b"out\n")
    assert ended.stderr == (b"" if "2>&-" in closed else b"err\n")


def _configuration(url: str, port: int, admin: int, workers: int) -> str:
    server = {"listen": f"127.0.0.1:{port}", "admin_listen": f"127.0.0.1:{admin}", "workers": workers}
    lines = ["[server]", *(f"{name} = {json.dumps(value)}" for name, value in server.items())]
    lines += ["[[upstreams]]", 'name = "main"', f'urls = ["{url}"]']
    lines += ["[[routes]]", 'path = "/"', 'auth = "public"', 'upstream = "main"']
    return "\n".join(lines)


async def _status(port: int, path: str = "/") -> bytes:
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return b""
    writer.write(request(b"GET", path, (b"Host", b"localhost"), (b"Connection", b"close")))
    answer = await asyncio.wait_for(reader.read(), 5)
    writer.close()
    return answer[9:12]


@pytest.mark.parametrize(("closed", "workers"), [("2>&-", 1), ("0<&- 1>&- 2>&-", 1), ("0<&- 1>&- 2>&-", 2), (FULL, 1)])
@pytest.mark.rule("R415", "C107")
async def test_a_gateway_without_standard_streams_serves_and_ends_in_order(
    closed: str, workers: int, tmp_path: Path
) -> None:
    """Exit code 0 after SIGTERM; its log goes nowhere, and its lines never to a socket."""
    port, admin = free_port(), free_port()
    config = tmp_path / "gateway.toml"
    async with raw_upstream() as upstream:
        config.write_text(_configuration(upstream.url, port, admin, workers))
        command = [
            "/bin/sh",
            "-c",
            SHELL + closed,
            "sh",
            sys.executable,
            "-m",
            "gateway",
            "run",
            "--config",
            str(config),
        ]
        with (tmp_path / "out").open("wb") as out:
            child = await asyncio.create_subprocess_exec(*command, stdout=out, stderr=out)
        try:
            ready = False
            for _ in range(400):
                ready = await _status(admin, "/readyz") == b"200"
                if ready:
                    break
                await asyncio.sleep(0.05)
            assert ready
            for _ in range(5):
                assert await _status(port) == b"200"
            child.send_signal(signal.SIGTERM)
            assert await asyncio.wait_for(child.wait(), 20) == 0
        finally:
            if child.returncode is None:
                child.kill()
                await child.wait()
    written = (tmp_path / "out").read_text()
    assert "Traceback" not in written
    assert written.count("\n") == (5 if "1>" not in closed else 0)
    await until(lambda: upstream.open_connections == 0)


@pytest.mark.parametrize("command", ["version", "config"])
@pytest.mark.rule("R415")
def test_commands_without_standard_output_end_with_their_code(command: str) -> None:
    """What they print goes nowhere."""
    shell = ["/bin/sh", "-c", SHELL + ">&-", "sh", sys.executable, "-m", "gateway", command]
    ended = subprocess.run(shell, stderr=subprocess.PIPE, timeout=60, check=False)
    assert ended.returncode == (0 if command == "version" else 2)
    assert b"Traceback" not in ended.stderr


@pytest.mark.rule("R415")
def test_no_file_stays_open_before_closed_streams_are_seen_to() -> None:
    """On Python 3.14 of Debian ``ctypes`` keeps one open; as standard output, nothing could be written to it."""
    code = "import gateway.cli, os, sys; sys.exit(len(os.listdir('/proc/self/fd')) - 3)"  # 0, 2 and the listing's own
    shell = ["/bin/sh", "-c", SHELL + ">&-", "sh", sys.executable, "-c", code]
    ended = subprocess.run(shell, stderr=subprocess.PIPE, timeout=60, check=False)
    assert (ended.returncode, ended.stderr) == (0, b"")


@pytest.mark.parametrize("command", ["version", "config --schema"])
@pytest.mark.rule("R415")
def test_commands_whose_output_cannot_be_written_say_so(command: str) -> None:
    """One line, and exit code 1."""
    shell = ["/bin/sh", "-c", f"exec {sys.executable} -m gateway {command} >/dev/full"]
    ended = subprocess.run(shell, stderr=subprocess.PIPE, timeout=60, check=False)
    assert (ended.returncode, ended.stderr) == (1, b"the output cannot be written: no space left on device\n")
