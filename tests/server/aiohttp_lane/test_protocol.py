"""What the gateway demands of aiohttp before it listens; what it rests on is in ``tests/test_internals.py``."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.server.aiohttp_lane import protocol


@pytest.mark.rule("R215")
def test_pure_python_parser_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The name that aiohttp resolves to decides."""
    protocol.demand_native_parser()

    class HttpRequestParserPy:
        __module__ = "aiohttp.http_parser"

    monkeypatch.setattr(protocol, "HttpRequestParser", HttpRequestParserPy)
    with pytest.raises(protocol.PurePythonParserError):
        protocol.demand_native_parser()


@pytest.mark.rule("R215", "C55")
def test_gateway_does_not_start_without_the_native_parser(tmp_path: Path) -> None:
    """With AIOHTTP_NO_EXTENSIONS=1 the process ends with 1 and says why."""
    environment = {**os.environ, "AIOHTTP_NO_EXTENSIONS": "1", "GATEWAY_ISSUER": "https://idp.test/"}
    environment |= {"GATEWAY_AUDIENCE": "api", "GATEWAY_UPSTREAM": "http://127.0.0.1:1"}
    environment |= {"GATEWAY_SERVER_LISTEN": "127.0.0.1:0", "GATEWAY_SERVER_ADMIN_LISTEN": "127.0.0.1:0"}
    ended = subprocess.run(
        [sys.executable, "-m", "gateway", "run"], env=environment, capture_output=True, text=True, timeout=30
    )
    assert ended.returncode == 1
    assert "C parser" in ended.stderr
    assert "Traceback" not in ended.stderr
