"""Several addresses at once, and the file of a Unix socket (C111, R424, C114)."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import socket
import ssl
from pathlib import Path
from typing import Any

import pytest

from tests.support.certificates import authority
from tests.support.gateways.one_process import GatewayProcess
from tests.support.gateways.running import RawClient, request, running_gateway, until
from tests.support.ports import free_port
from tests.support.socket_buffers import require_ipv6
from tests.support.upstreams.recording import raw_upstream

PUBLIC: tuple[dict[str, Any], ...] = ({"path": "/", "auth": "public"},)


async def _tcp(host: str, port: int, tls: ssl.SSLContext | None = None) -> int:
    name = "localhost" if tls else None
    return await _status(*await asyncio.open_connection(host, port, ssl=tls, server_hostname=name))


async def _unix(path: Path) -> int:
    return await _status(*await asyncio.open_unix_connection(path))


async def _status(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> int:
    client = RawClient(reader, writer)
    try:
        return (await client.exchange(request(b"GET", "/"))).status
    finally:
        await client.close()


@pytest.mark.rule("C111")
async def test_every_address_of_the_list_is_served(tmp_path: Path) -> None:
    """IPv4, IPv6 and a Unix socket of one gateway; together they are dual-stack."""
    require_ipv6()
    path = tmp_path / "gateway.sock"
    listen = ["0.0.0.0:0", "[::]:0", f"unix:{path}"]
    async with (
        raw_upstream() as upstream,
        running_gateway(upstream.url, tmp_path, routes=PUBLIC, server={"listen": listen}) as gateway,
    ):
        four, six, none = gateway.app.ports
        assert none == 0
        assert await _tcp("127.0.0.1", four) == await _tcp("::1", six) == await _unix(path) == 200
        with pytest.raises(ConnectionRefusedError):
            await _tcp("127.0.0.1", six)  # every IPv6 address and no IPv4 one, whatever net.ipv6.bindv6only says
        await gateway.app.drain()
        for host, port in (("127.0.0.1", four), ("::1", six)):
            with pytest.raises(ConnectionRefusedError):
                await _tcp(host, port)
    assert not path.exists()


@pytest.mark.rule("C111")
async def test_one_port_number_for_both_families(tmp_path: Path) -> None:
    """`0.0.0.0:8080` and `[::]:8080` beside each other."""
    require_ipv6()
    async with raw_upstream() as upstream:
        for left in reversed(range(10)):
            port = free_port()  # in the meantime another process may have taken it
            server = {"listen": [f"0.0.0.0:{port}", f"[::]:{port}"]}
            try:
                async with running_gateway(upstream.url, tmp_path, routes=PUBLIC, server=server):
                    assert await _tcp("127.0.0.1", port) == await _tcp("::1", port) == 200
                break
            except OSError:
                assert left


@pytest.mark.rule("C111")
async def test_tls_is_for_tcp_and_a_unix_socket_stays_plain(tmp_path: Path) -> None:
    """Its clients are on this machine."""
    ca, path = authority(tmp_path / "tls"), tmp_path / "gateway.sock"
    own = ca.sign("server", "localhost")
    server = {
        "listen": ["127.0.0.1:0", "127.0.0.1:0", f"unix:{path}"],
        "tls_cert": str(own.cert),
        "tls_key": str(own.key),
    }
    trust = ssl.create_default_context(cafile=str(ca.bundle))
    async with (
        raw_upstream() as upstream,
        running_gateway(upstream.url, tmp_path, routes=PUBLIC, server=server) as gateway,
    ):
        for port in gateway.app.ports[:2]:
            assert await _tcp("127.0.0.1", port, trust) == 200
        assert await _unix(path) == 200
    assert [one.one(b"x-forwarded-proto") for one in upstream.requests] == [b"https", b"https", b"http"]


_WORKER = re.compile(r"worker (\d): listening on .*, process (\d+)\n")


class Listed(GatewayProcess):
    """A gateway process on a Unix socket and a port."""

    def __init__(self, folder: Path, url: str, **server: Any) -> None:
        self.path = folder / "gateway.sock"
        super().__init__(folder, [url], server={"listen": [f"unix:{self.path}", "127.0.0.1:0"], **server})


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.rule("R424", "C114")
async def test_the_file_lives_as_long_as_the_gateway(workers: int, lane: str, tmp_path: Path) -> None:
    """Whichever worker ends; it is gone after the gateway's own end, and a stale one is replaced."""
    if lane == "full":
        return  # the lane has no part in it
    async with raw_upstream() as upstream:
        for _ in range(2 if workers == 1 else 1):
            async with Listed(tmp_path, upstream.url, workers=workers) as gateway:
                made = gateway.path.stat().st_ino
                assert await _unix(gateway.path) == await _tcp("127.0.0.1", gateway.port) == 200
                assert f"unix:{gateway.path} (port 0), 127.0.0.1:0 (port {gateway.port}), admin" in gateway.output()
                if workers > 1:
                    (child, *_) = _workers(gateway.output())
                    os.kill(child, signal.SIGTERM)
                    await until(lambda: "worker 0 ended" in gateway.output(), within=15)
                    await until(lambda: len(_workers(gateway.output())) == 3, within=15)
                    for _ in range(6):
                        assert await _unix(gateway.path) == 200
                assert gateway.path.stat().st_ino == made
                assert await gateway.ended_by(signal.SIGTERM) == 0
            assert not gateway.path.exists()
            with contextlib.closing(socket.socket(socket.AF_UNIX)) as left:
                left.bind(str(gateway.path))  # as a crash would


def _workers(output: str) -> list[int]:
    """Return the process ids of workers that have begun to listen, worker 0's first."""
    return [int(process) for _, process in sorted(_WORKER.findall(output))]


@pytest.mark.rule("R424")
async def test_a_second_gateway_leaves_the_socket_of_the_first_alone(tmp_path: Path) -> None:
    """It does not start, and takes nothing away at its end."""
    path = tmp_path / "gateway.sock"
    server = {"listen": f"unix:{path}"}
    async with raw_upstream() as upstream:
        async with running_gateway(upstream.url, tmp_path, routes=PUBLIC, server=server):
            with pytest.raises(OSError, match="in use"):
                async with running_gateway(upstream.url, tmp_path, routes=PUBLIC, server=server):
                    pass
            assert await _unix(path) == 200
        assert not path.exists()
