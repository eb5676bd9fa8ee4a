"""How certificates are verified, the same on every Python (R423, C113)."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gateway import tls_contexts
from gateway.clock import SystemClock
from gateway.outbound.http import ProviderSession
from gateway.server.sockets.tls import ServerTls, server_context
from gateway.settings.tables.redis import Redis
from gateway.settings.tables.server import Server
from gateway.settings.tables.upstreams import UpstreamSettings
from gateway.store.redis_link import RedisLink
from gateway.upstream.pool.dialer import client_tls
from tests.support.certificates import Authority, Certificate, authority, careless_authority
from tests.support.tls_listening import listening, replace

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def _strict(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the defaults be those of Python 3.13, whatever runs this."""
    made = ssl.create_default_context

    def strict(*arguments: Any, **options: Any) -> ssl.SSLContext:
        context = made(*arguments, **options)
        context.verify_flags |= ssl.VERIFY_X509_STRICT | ssl.VERIFY_X509_PARTIAL_CHAIN
        return context

    monkeypatch.setattr(ssl, "create_default_context", strict)


async def _contexts(directory: Path) -> dict[str, ssl.SSLContext]:
    """Return the context of every place that verifies certificates."""
    ca = authority(directory / "ca")
    bundle, own = str(ca.bundle), ca.sign("own", "localhost")
    files = {"tls_cert": str(own.cert), "tls_key": str(own.key)}
    server = Server.model_validate({**files, "tls_client_ca": bundle})
    upstream = UpstreamSettings.model_validate({"name": "u", "urls": ["https://a.test"]})
    found = {
        "clients": server_context(server),
        "each client": ServerTls(server, None).for_connection(),  # type: ignore[arg-type]  # it counts nothing here
        "no client": server_context(Server.model_validate(files)),
        "upstream": _some(client_tls(upstream)),
        "upstream, its own authority": _some(client_tls(upstream.model_copy(update={"tls_ca_file": bundle}))),
    }
    for name, ca_file in (("provider", ""), ("provider, its own authority", bundle)):
        session = ProviderSession(timeout=1, connections=1, ca_file=ca_file)
        found[name] = (await session.open()).connector._ssl  # type: ignore[union-attr]
        await session.close()
        link = RedisLink(Redis(url="rediss://127.0.0.1:1/0", tls_ca_file=ca_file), SystemClock())
        connection = link.client.connection_pool.make_connection()
        found[name.replace("provider", "redis")] = connection._connection_arguments()["ssl"]
        await link.stop()
    return found


def _some(context: ssl.SSLContext | None) -> ssl.SSLContext:
    assert context is not None
    return context


@pytest.mark.rule("R423", "C113")
async def test_every_context_has_the_one_set_of_flags(tmp_path: Path) -> None:
    """Providers, introspection (the same sessions), upstreams, Redis, client certificates."""
    for place, context in (await _contexts(tmp_path)).items():
        assert isinstance(context, ssl.SSLContext), place
        assert context.verify_flags == ssl.VERIFY_X509_TRUSTED_FIRST, place
        assert context.minimum_version == ssl.TLSVersion.TLSv1_2, place
        if "client" not in place:
            assert context.check_hostname, place
            assert context.verify_mode == ssl.CERT_REQUIRED, place


@pytest.mark.rule("R423")
def test_no_other_module_makes_a_context() -> None:
    """A new place would bring its own flags. Files are only tried in ``settings/readable.py``."""
    allowed = {"gateway/tls_contexts.py", "gateway/settings/readable.py"}
    makers = ("create_default_context(", "SSLContext(ssl.", "ssl=True")
    found = {
        str(file.relative_to(ROOT))
        for file in (ROOT / "gateway").rglob("*.py")
        if any(maker in file.read_text() for maker in makers)
    }
    assert found <= allowed


@contextlib.asynccontextmanager
async def _answering(certificate: Certificate) -> AsyncIterator[int]:
    """Run a TLS server that answers every request with an empty object."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
            await reader.read()
        writer.close()

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.cert, certificate.key)
    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    yield server.sockets[0].getsockname()[1]
    server.close()


async def _fetched(port: int, ca: Authority) -> int:
    session = ProviderSession(timeout=5, connections=1, ca_file=str(ca.bundle))
    try:
        async with (await session.open()).get(f"https://localhost:{port}/") as response:
            return response.status
    finally:
        await session.close()


@pytest.mark.rule("R423", "C113")
async def test_private_authorities_as_clusters_have_them_are_accepted(tmp_path: Path) -> None:
    """No key usage in the authority, no authority key identifier in the leaf; a foreign chain is not."""
    careless, foreign = careless_authority(tmp_path / "a"), authority(tmp_path / "b", "foreign")
    async with _answering(careless.sign("server", "localhost")) as port:
        assert await _fetched(port, careless) == 200
        with pytest.raises(OSError, match="certificate verify failed"):
            await _fetched(port, foreign)


@pytest.mark.rule("R423")
async def test_clients_of_such_an_authority_are_accepted(tmp_path: Path) -> None:
    """Client certificates are judged by the same flags."""
    careless = careless_authority(tmp_path / "a")
    async with listening(tmp_path, ask_clients=True) as server:
        replace(careless.bundle, server.clients)
        server.tls.refresh()
        assert await server.subject(server.trusting(careless.sign("client", "client"))) == "first"


def test_the_system_context_is_one_for_all() -> None:
    """A hundred certificates for each tenant's session would be a megabyte each."""
    assert tls_contexts.system_context() is tls_contexts.system_context()
