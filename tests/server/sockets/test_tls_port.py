"""The public port's sockets before they are connections: places, time, and the end (R431)."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import ssl
from pathlib import Path
from typing import TypeVar

import pytest

from gateway.server.sockets import tls_port
from gateway.server.sockets.listen import tcp_sockets
from gateway.server.sockets.slots import Place, Places
from tests.support.gateways.running import until
from tests.support.tls_listening import Connections, Echo, Listening, listening

_Kind = TypeVar("_Kind", bound=socket.socket)


async def _silent(port: int, count: int) -> list[socket.socket]:
    """Connect, and say nothing."""
    loop = asyncio.get_running_loop()
    made = []
    for _ in range(count):
        one = socket.socket()
        one.setblocking(False)
        with contextlib.suppress(ConnectionResetError):  # closed at once
            await loop.sock_connect(one, ("127.0.0.1", port))
        made.append(one)
    return made


@pytest.mark.rule("R431")
async def test_silent_sockets_have_places_and_the_others_are_closed_at_once(tmp_path: Path) -> None:
    """Counted from accept on: 8 that are served, 1 that is turned away, and no others."""
    async with listening(tmp_path, patience=60, most=8) as server:
        silent = await _silent(server.port, 30)
        await until(lambda: server.telemetry.connections_refused == 21)
        assert (server.telemetry.connections, server.telemetry.lingering) == (8, 1)
        for one in silent:
            one.close()
        await until(lambda: server.telemetry.connections == server.telemetry.lingering == 0)
        assert server.telemetry.handshake_failures == {"client_gone": 9}
        assert await server.subject() == "first"


@pytest.mark.rule("R429")
async def test_a_connection_holds_no_more_than_one_without_tls(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """By default it would hold 256 KiB that were not asked for and 512 KiB that are not taken, each."""
    made: list[Echo] = []

    def serve(connections: Connections, place: Place) -> Echo:
        made.append(Echo(place))
        return made[-1]

    monkeypatch.setattr(Connections, "serve", serve)
    async with listening(tmp_path) as server:
        assert await server.subject() == "first"
        transport = made[0].transport
        assert transport.get_write_buffer_limits()[1] == tls_port.WRITE_BUFFER_BYTES == 65536  # type: ignore[attr-defined]
        if hasattr(transport, "get_read_buffer_limits"):
            assert transport.get_read_buffer_limits()[1] == tls_port.UNREAD


async def test_a_connection_above_the_limit_gets_its_answer_after_the_handshake(tmp_path: Path) -> None:
    """Contract: 503 where the protocol lets the gateway say it."""
    async with listening(tmp_path, patience=60, most=1) as server:
        silent = await _silent(server.port, 1)
        await until(lambda: server.telemetry.connections == 1)
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", server.port, ssl=server.trusting(), server_hostname="localhost"
        )
        assert await reader.read() == b"too_many_connections"
        writer.close()
        silent[0].close()
        await until(lambda: server.telemetry.connections == server.telemetry.lingering == 0)


@pytest.mark.rule("R316", "R431")
async def test_time_runs_from_the_accepted_socket(tmp_path: Path) -> None:
    """For those that say nothing and for those that stop in the middle."""
    async with listening(tmp_path, patience=0.2) as server:
        silent = await _silent(server.port, 2)
        silent[1].send(b"\x16\x03\x01\x02\x00\x01")
        await until(lambda: server.telemetry.handshake_failures == {"timeout": 2})
        assert server.telemetry.connections == 0
        for one in silent:
            one.close()


@pytest.mark.rule("R370")
async def test_a_port_that_closes_ends_handshakes_and_nothing_else(tmp_path: Path) -> None:
    """A drain does not wait for strangers; connections that are open go on."""
    async with listening(tmp_path, patience=60) as server:
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", server.port, ssl=server.trusting(), server_hostname="localhost"
        )
        silent = await _silent(server.port, 3)
        await until(lambda: server.telemetry.connections == 4)
        await server.tls_port.stop()
        assert server.telemetry.connections == 1
        writer.write(b"still")
        assert await reader.readexactly(5) == b"still"
        writer.close()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", server.port)
        for one in silent:
            one.close()


async def _move(server: Listening, kind: type[_Kind]) -> tuple[_Kind, tls_port.TlsPort]:
    """Have the server listen on a socket of this kind."""
    (bound,) = await tcp_sockets("127.0.0.1:0", share=False)
    listened = kind(fileno=bound.detach())
    connections = Connections(Places(server.telemetry, 5))
    port = tls_port.TlsPort([listened], connections.serve, connections, server.tls, 5)
    server.port = port.number
    return listened, port


class _OutOfFiles(socket.socket):
    """Cannot accept until files are free again."""

    full = True

    def accept(self) -> tuple[socket.socket, object]:
        if self.full:
            raise OSError(errno.EMFILE, "Too many open files")
        return super().accept()


@pytest.mark.rule("R319")
async def test_accepting_pauses_while_no_file_is_left_and_then_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection waits in the system's queue; the loop does not spin."""
    monkeypatch.setattr(tls_port, "ACCEPT_PAUSE_SECONDS", 0.01)
    async with listening(tmp_path) as server:
        full, port = await _move(server, _OutOfFiles)
        waiting = asyncio.ensure_future(server.subject())
        await until(lambda: port.paused)
        assert not waiting.done()
        full.full = False
        assert await asyncio.wait_for(waiting, 5) == "first"
        await port.stop()


class _Aborting(socket.socket):
    """Has a first connection that is reset before it is accepted."""

    aborted = False

    def accept(self) -> tuple[socket.socket, object]:
        if not self.aborted:
            self.aborted = True
            raise ConnectionAbortedError(errno.ECONNABORTED, "Software caused connection abort")
        return super().accept()


@pytest.mark.rule("R319")
async def test_a_connection_that_is_gone_before_it_is_accepted_holds_up_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Accept() reports it as its own failure, which is not a lack of files."""
    monkeypatch.setattr(tls_port, "ACCEPT_PAUSE_SECONDS", 600.0)
    async with listening(tmp_path) as server:
        aborting, port = await _move(server, _Aborting)
        assert await asyncio.wait_for(server.subject(), 5) == "first"
        assert aborting.aborted
        await port.stop()


@pytest.mark.rule("R430", "C120")
async def test_a_session_of_tls_12_is_not_resumed_where_certificates_are_asked_for(tmp_path: Path) -> None:
    """By its id as little as by a ticket; without client certificates sessions go on."""
    for ask_clients in (False, True):
        async with listening(tmp_path / str(ask_clients), ask_clients=ask_clients) as server:
            context = server.trusting(server.ca.sign("client", "client"))
            context.maximum_version = ssl.TLSVersion.TLSv1_2
            resumed = await asyncio.to_thread(_twice, server.port, context)
            assert resumed == [False, not ask_clients]


def _twice(port: int, context: ssl.SSLContext) -> list[bool | None]:
    """Connect twice, the second time with the session of the first; return whether it was resumed."""
    session, reused = None, []
    for _ in range(2):
        with socket.create_connection(("127.0.0.1", port), timeout=5) as plain:
            secure = context.wrap_socket(plain, server_hostname="localhost", session=session)
            secure.send(b"x")
            assert secure.recv(1) == b"x"
            session = secure.session
            reused.append(secure.session_reused)
            secure.unwrap().close()  # an orderly end, or OpenSSL would forget the session
    return reused
