"""Connections to Redis: with TLS, who is believed and what is shown; and where they lead."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from redis.exceptions import RedisError

from gateway.settings.tables.redis import Redis
from gateway.store.connections import new_client
from tests.support.certificates import authority
from tests.support.stores.redis import RedisServer


@contextlib.asynccontextmanager
async def behind_tls(server: RedisServer, context: ssl.SSLContext) -> AsyncIterator[int]:
    """Speak TLS in front of a server: the wheel's has none. Return the port."""

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, here = await asyncio.open_connection("127.0.0.1", server.port)
        await asyncio.gather(_pump(reader, here), _pump(there, writer))

    front = await asyncio.start_server(relay, "127.0.0.1", 0, ssl=context)
    try:
        yield front.sockets[0].getsockname()[1]
    finally:
        front.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError, ssl.SSLError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


async def echo(url: str, **options: Any) -> Any:
    client = new_client(Redis.model_validate({"url": url, **options}), 1, 2)
    try:
        return await client.execute_command("ECHO", "a")
    finally:
        await client.aclose(close_connection_pool=True)


async def test_a_server_that_asks_for_a_certificate_gets_it(tmp_path: Path) -> None:
    """And a client without one, or with that of another authority, gets no answer."""
    own, foreign = authority(tmp_path / "own"), authority(tmp_path / "foreign", "other")
    server_files, client_files = own.sign("redis", "127.0.0.1"), own.sign("gateway", "gateway")
    stranger = foreign.sign("gateway", "gateway")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(server_files.cert, server_files.key)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(own.bundle)
    async with RedisServer(tmp_path / "redis") as server, behind_tls(server, context) as port:
        url, trust = f"rediss://127.0.0.1:{port}", {"tls_ca_file": str(own.bundle)}
        shown = {"tls_client_cert": str(client_files.cert), "tls_client_key": str(client_files.key)}
        assert await echo(url, **trust, **shown) == b"a"
        for wrong in ({}, {"tls_client_cert": str(stranger.cert), "tls_client_key": str(stranger.key)}):
            with pytest.raises((RedisError, OSError)):
                await echo(url, **trust, **wrong)
        with pytest.raises((RedisError, OSError)):
            await echo(url, **shown)


@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.rule("R444")
async def test_each_connection_leads_to_where_the_master_is_then(tls: bool, tmp_path: Path) -> None:
    """With TLS, too, and with the name in the certificate checked against where it leads."""
    own = authority(tmp_path / "own")
    files = own.sign("redis", "127.0.0.1")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.cert, files.key)
    async with contextlib.AsyncExitStack() as stack:
        servers = [await stack.enter_async_context(RedisServer(tmp_path / name)) for name in ("one", "two")]
        ports = [
            await stack.enter_async_context(behind_tls(server, context)) if tls else server.port for server in servers
        ]
        for number, server in enumerate(servers):
            server.run("SET", "number", number)
        settings = Redis.model_validate(
            {"url": f"{'rediss' if tls else 'redis'}://mymaster/0", **({"tls_ca_file": str(own.bundle)} if tls else {})}
        )
        at = 0
        client = new_client(settings, 1, 2, where=lambda: ("127.0.0.1", ports[at]))
        assert await client.get("number") == b"0"
        at = 1
        assert await client.get("number") == b"0", "a connection that is open stays where it is"
        await client.connection_pool.disconnect()
        assert await client.get("number") == b"1"
        await client.aclose(close_connection_pool=True)
