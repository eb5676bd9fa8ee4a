"""nginx as the service behind the gateway: what it receives, and that refusals never reach it."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import aiohttp
import pytest

from tests.peers.nginx import Nginx, seen


async def test_the_peer_shows_what_it_received(tmp_path: Path) -> None:
    """The judge itself: without a gateway, nginx reports a client's own headers."""
    async with Nginx(tmp_path) as nginx, aiohttp.ClientSession() as session:
        async with session.get(f"{nginx.url}/a%2Fb?q=1", headers={"X_User_Id": "mallory"}) as answer:
            shown = seen(await answer.text())
        assert (shown["target"], shown["user"], shown["scope"]) == ("/a%2Fb?q=1", "mallory", "")
        assert nginx.requests() == ["GET /a%2Fb?q=1"]


async def test_the_peer_ends_with_its_context(tmp_path: Path) -> None:
    """No process is left behind, whatever a test does."""
    nginx = Nginx(tmp_path)

    async def failing_test() -> None:
        async with nginx:
            os.kill(int((tmp_path / "nginx.pid").read_text()), 0)  # it runs
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await failing_test()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", nginx.port)
