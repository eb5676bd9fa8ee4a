"""Listening on an address as the configuration writes it."""

from __future__ import annotations

import asyncio
import os
import socket
from pathlib import Path
from typing import cast

import pytest

from gateway.server.addresses import bound_port, listen
from tests.conftest import require


class Echo(asyncio.Protocol):
    """Says hello and closes."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        stream = cast(asyncio.Transport, transport)
        stream.write(b"hello")
        stream.close()


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


async def test_ipv4_and_the_port_that_the_system_picked() -> None:
    """Contract: host:port; port 0 lets the system pick."""
    server = await listen(Echo, "127.0.0.1:0")
    reader, writer = await asyncio.open_connection("127.0.0.1", bound_port(server))
    assert await reader.read() == b"hello"
    writer.close()
    server.close()


async def test_ipv6_is_written_in_brackets() -> None:
    """Contract: [v6]:port."""
    require(has_ipv6(), "this machine has no IPv6 loopback")
    server = await listen(Echo, "[::1]:0")
    reader, writer = await asyncio.open_connection("::1", bound_port(server))
    assert await reader.read() == b"hello"
    writer.close()
    server.close()


async def test_port_of_a_server_that_ended_can_be_taken_at_once() -> None:
    """A restart does not wait for connections in TIME_WAIT; a port in use is still refused."""
    server = await listen(Echo, "127.0.0.1:0")
    port = bound_port(server)
    with pytest.raises(OSError, match="in use"):
        await listen(Echo, f"127.0.0.1:{port}")
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    assert await reader.read() == b"hello"
    writer.close()
    server.close()
    await server.wait_closed()
    again = await listen(Echo, f"127.0.0.1:{port}")
    again.close()


async def test_unix_socket_has_no_port_and_replaces_only_a_socket(tmp_path: Path) -> None:
    """Contract: unix:/path. What an earlier run left is removed; a file, a directory or a link to a file stays."""
    path = tmp_path / "gateway.sock"
    for _ in range(2):
        server = await listen(Echo, f"unix:{path}")
        assert bound_port(server) == 0
        reader, writer = await asyncio.open_unix_connection(str(path))
        assert await reader.read() == b"hello"
        writer.close()
        server.close()
        if not path.exists():  # newer event loops remove it themselves: leave what a crash would
            with socket.socket(socket.AF_UNIX) as left:
                left.bind(str(path))
    precious = tmp_path / "precious"
    precious.write_text("data")
    link = tmp_path / "link"
    link.symlink_to(precious)
    for kept in (precious, link):
        with pytest.raises(OSError, match=r"in use|exists"):
            await listen(Echo, f"unix:{kept}")
    assert precious.read_text() == "data"
    assert os.readlink(link) == str(precious)


async def test_unix_socket_that_another_process_listens_on_is_not_taken(tmp_path: Path) -> None:
    """Two gateways on one socket: the second must not cut off the first."""
    path = tmp_path / "gateway.sock"
    server = await listen(Echo, f"unix:{path}")
    with pytest.raises(OSError, match="in use"):
        await listen(Echo, f"unix:{path}")
    reader, writer = await asyncio.open_unix_connection(str(path))
    assert await reader.read() == b"hello"
    writer.close()
    server.close()
