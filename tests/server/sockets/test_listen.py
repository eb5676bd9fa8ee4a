"""Listening on an address as the configuration writes it."""

from __future__ import annotations

import asyncio
import os
import socket
from pathlib import Path
from typing import cast

import pytest

from gateway.server.sockets.listen import (
    ACCEPTS,
    Reservation,
    SharedAddress,
    listen,
    shown_addresses,
    unix_listener,
)
from tests.support.socket_buffers import require_ipv6


class Echo(asyncio.Protocol):
    """Says hello and closes."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        stream = cast(asyncio.Transport, transport)
        stream.write(b"hello")
        stream.close()


async def test_ipv4_and_the_port_that_the_system_picked() -> None:
    """Contract: host:port; port 0 lets the system pick."""
    server = await listen(Echo, "127.0.0.1:0")
    reader, writer = await asyncio.open_connection("127.0.0.1", server.number)
    assert await reader.read() == b"hello"
    writer.close()
    server.close()


async def test_ipv6_is_written_in_brackets() -> None:
    """Contract: [v6]:port."""
    require_ipv6()
    server = await listen(Echo, "[::1]:0")
    reader, writer = await asyncio.open_connection("::1", server.number)
    assert await reader.read() == b"hello"
    writer.close()
    server.close()


async def test_port_of_a_server_that_ended_can_be_taken_at_once() -> None:
    """A restart does not wait for connections in TIME_WAIT; a port in use is still refused."""
    server = await listen(Echo, "127.0.0.1:0")
    port = server.number
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
        assert server.number == 0
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


async def _hello(port: int) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        return await reader.read()
    finally:
        writer.close()


async def test_reserved_port_is_shared_by_those_it_is_for() -> None:
    """Each process has a socket of its own; the port stays while they come and go."""
    reserved = await Reservation.make(["127.0.0.1:0"])
    assert reserved.shared[0] == SharedAddress(f"127.0.0.1:{reserved.ports[0]}")
    with pytest.raises(ConnectionRefusedError):
        await _hello(reserved.ports[0])
    servers = [await listen(Echo, reserved.shared[0]) for _ in range(2)]
    assert await _hello(reserved.ports[0]) == b"hello"
    servers[0].close()
    await servers[0].wait_closed()
    assert [await _hello(reserved.ports[0]) for _ in range(10)] == [b"hello"] * 10
    servers[1].close()
    await servers[1].wait_closed()
    with pytest.raises(ConnectionRefusedError):
        await _hello(reserved.ports[0])
    server = await listen(Echo, reserved.shared[0])
    assert await _hello(reserved.ports[0]) == b"hello"
    server.close()
    reserved.close()


@pytest.mark.parametrize("shared", [True, False])
async def test_port_that_another_gateway_listens_on_is_refused(shared: bool) -> None:
    """Two gateways by mistake on one port would each get half of the requests."""
    first = await Reservation.make(["127.0.0.1:0"])
    if not shared:
        first.close()
    server = await listen(Echo, first.shared[0] if shared else first.shared[0].address)
    with pytest.raises(OSError, match="in use"):
        await Reservation.make([first.shared[0].address])
    with pytest.raises(OSError, match="in use"):
        await listen(Echo, first.shared[0].address)
    server.close()
    await server.wait_closed()
    first.close()
    (await Reservation.make([first.shared[0].address])).close()  # and then it is free again


async def test_every_address_of_a_name_gets_the_same_port() -> None:
    """``localhost`` may be two addresses."""
    reserved = await Reservation.make(["localhost:0"])
    ports = {one.getsockname()[1] for one in reserved.sockets}
    assert ports == {reserved.ports[0]}
    reserved.close()


async def test_reserved_ipv6_address_leaves_ipv4_alone() -> None:
    """As without workers: ``[::]`` is every IPv6 address and no IPv4 one."""
    require_ipv6()
    six = await Reservation.make(["[::]:0"])
    four = await Reservation.make([f"0.0.0.0:{six.ports[0]}"])
    servers = [await listen(Echo, one.shared[0]) for one in (six, four)]
    reader, writer = await asyncio.open_connection("::1", six.ports[0])
    assert await reader.read() == b"hello"
    writer.close()
    for server in servers:
        server.close()
    six.close()
    four.close()


async def test_reserved_unix_socket_is_listened_on_by_all(tmp_path: Path) -> None:
    """One socket for all processes; a client that connects between two of them waits and is not refused."""
    address = f"unix:{tmp_path / 'gateway.sock'}"
    reserved = await Reservation.make([address])
    assert reserved.ports == (0,)
    reader, writer = await asyncio.open_unix_connection(tmp_path / "gateway.sock")
    for _ in range(2):
        copy = SharedAddress(address, os.dup(reserved.shared[0].fileno))  # as a process gets it
        server = await listen(Echo, copy)
        assert server.number == 0
        assert await reader.read() == b"hello"
        writer.close()
        server.close()
        await server.wait_closed()
        reader, writer = await asyncio.open_unix_connection(tmp_path / "gateway.sock")
    writer.close()
    with pytest.raises(OSError, match="in use"):
        await Reservation.make([address])
    reserved.close()
    (await Reservation.make([address])).close()  # a socket file that no process listens on
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="in use"):
        await Reservation.make([f"unix:{tmp_path / 'file'}"])


@pytest.mark.rule("C111")
async def test_a_reservation_that_fails_lets_go_of_what_it_had(tmp_path: Path) -> None:
    """One address that is taken leaves nothing of the others behind."""
    path = tmp_path / "gateway.sock"
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(OSError, match="in use"):
        await Reservation.make([f"unix:{path}", f"127.0.0.1:{taken.getsockname()[1]}"])
    assert not path.exists()


@pytest.mark.rule("R424")
def test_the_file_of_a_socket_is_removed_by_its_owner_only(tmp_path: Path) -> None:
    """Not when another one has taken its place."""
    path = tmp_path / "gateway.sock"
    listening, file = unix_listener(str(path))
    listening.close()
    assert path.exists()
    path.unlink()
    path.write_text("another")
    file.remove()
    assert path.read_text() == "another"
    path.unlink()
    listening, file = unix_listener(str(path))
    file.remove()
    file.remove()
    assert not path.exists()
    listening.close()


@pytest.mark.rule("R424", "C114")
async def test_a_server_that_closes_leaves_a_shared_file_alone(tmp_path: Path) -> None:
    """From Python 3.13 on event loops remove it, though other processes still listen there."""
    path = tmp_path / "gateway.sock"
    reserved = await Reservation.make([f"unix:{path}"])
    copy = SharedAddress(reserved.shared[0].address, os.dup(reserved.shared[0].fileno))
    server = await listen(Echo, copy)
    server.close()
    await server.wait_closed()
    await asyncio.sleep(0)
    assert path.exists()
    reserved.close()
    reserved.remove_files()
    assert not path.exists()


def test_addresses_are_shown_with_their_ports() -> None:
    assert shown_addresses(["127.0.0.1:0", "unix:/a"], [5, 0]) == "127.0.0.1:0 (port 5), unix:/a (port 0)"


class Counting(asyncio.Protocol):
    """Counts connections, and how many are made in each turn of the loop."""

    def __init__(self, made: list[int]) -> None:
        self._made = made

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._made[-1] += 1
        transport.close()


@pytest.mark.parametrize("where", ["127.0.0.1:0", "unix"])
@pytest.mark.rule("R429")
async def test_those_who_connect_at_once_are_accepted_in_few_turns_of_the_loop(where: str, tmp_path: Path) -> None:
    """One in each turn, and a client behind fifty others waits for fifty turns of a busy loop."""
    made = [0]
    path = tmp_path / "socket"
    port = await listen(lambda: Counting(made), f"unix:{path}" if where == "unix" else where, accepts=ACCEPTS)
    family, address = (socket.AF_UNIX, str(path)) if where == "unix" else (socket.AF_INET, ("127.0.0.1", port.number))
    clients = [socket.socket(family) for _ in range(4 * ACCEPTS)]
    for client in clients:
        client.connect(address)  # the system completes it
    for _ in range(20):
        made.append(0)
        await asyncio.sleep(0)
    assert sum(made) == len(clients)
    assert max(made) <= 2 * ACCEPTS  # and no turn is long
    for client in clients:
        client.close()
    port.close()
    await port.wait_closed()
