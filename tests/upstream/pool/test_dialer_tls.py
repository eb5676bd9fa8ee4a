"""TLS to upstreams: always verified, with the authorities, names and certificates that are configured."""

from __future__ import annotations

import asyncio
import socket
import ssl
from pathlib import Path

import pytest

from gateway.errors import Reasons
from gateway.upstream.pool.dialer import client_tls
from gateway.upstream.pool.upstream import Upstream
from tests.support.certificates import authority
from tests.support.upstreams.recording import raw_upstream
from tests.upstream.pools import opened, refusal, served, settings


@pytest.mark.rule("R330")
async def test_tls_faults_have_their_own_reason(tmp_path: Path) -> None:
    """A certificate that no authority vouches for, one for another name, and a server that does not speak TLS."""
    ca = authority(tmp_path)
    async with raw_upstream(tls=ca.server_tls("127.0.0.1")) as upstream, opened(upstream.url) as origin:
        assert await refusal(origin) is Reasons.UPSTREAM_TLS
    async with (
        raw_upstream(tls=ca.server_tls("up.test", "127.0.0.2")) as upstream,
        opened(upstream.url, tls_ca_file=str(ca.bundle)) as origin,
    ):
        assert await refusal(origin) is Reasons.UPSTREAM_TLS
        assert upstream.requests == []

    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
        await reader.read()
        writer.close()

    server = await asyncio.start_server(plain, "127.0.0.1", 0)
    async with opened(f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}") as origin:
        assert await refusal(origin) is Reasons.UPSTREAM_TLS
    server.close()


@pytest.mark.rule("R315")
async def test_handshake_that_is_not_answered_is_a_connect_timeout() -> None:
    """504; connect_timeout_seconds covers TLS."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        url = f"https://127.0.0.1:{listening.getsockname()[1]}"
        async with opened(url, connect_timeout_seconds=0.05) as origin:
            assert await refusal(origin) is Reasons.UPSTREAM_CONNECT_TIMEOUT


async def test_authority_of_the_configuration_is_believed_instead_of_the_systems(tmp_path: Path) -> None:
    ca, other = authority(tmp_path / "ca"), authority(tmp_path / "other", "another authority")
    async with raw_upstream(tls=ca.server_tls("127.0.0.1")) as upstream:
        async with opened(upstream.url, tls_ca_file=str(ca.bundle)) as origin:
            assert await served(await origin.lease()) == b"ok"
        async with opened(upstream.url, tls_ca_file=str(other.bundle)) as origin:
            assert await refusal(origin) is Reasons.UPSTREAM_TLS


@pytest.mark.parametrize(("name", "asked"), [("up.test", "up.test"), ("127.0.0.9", None)])
@pytest.mark.rule("R330")
async def test_server_name_is_asked_for_and_found_in_the_certificate(
    name: str, asked: str | None, tmp_path: Path
) -> None:
    """SNI for names; an address is never sent (RFC 6066 section 3) but must be in the certificate."""
    ca, seen = authority(tmp_path), []
    context = ca.server_tls(name)
    context.sni_callback = lambda _, sni, __: seen.append(sni)
    async with raw_upstream(tls=context) as upstream:
        options = {"tls_ca_file": str(ca.bundle), "health_path": "/up"}
        async with opened(upstream.url, **options, tls_server_name=name) as origin:
            assert await served(await origin.lease()) == b"ok"
            assert await origin.probe()
            assert seen == [asked, asked]
        async with opened(upstream.url, **options, tls_server_name=f"not-{name}".replace("not-127", "126")) as origin:
            assert await refusal(origin) is Reasons.UPSTREAM_TLS


async def test_client_certificate_is_presented_to_services_and_in_health_checks(tmp_path: Path) -> None:
    ca = authority(tmp_path)
    own = ca.sign("gateway", "gateway.test")
    async with raw_upstream(tls=ca.server_tls("127.0.0.1", ask_clients=True)) as upstream:
        options = {"tls_ca_file": str(ca.bundle), "health_path": "/up"}
        own_files = {"tls_client_cert": str(own.cert), "tls_client_key": str(own.key)}
        async with opened(upstream.url, **options, **own_files) as origin:
            assert await served(await origin.lease()) == b"ok"
            assert await origin.probe()
        async with opened(upstream.url, **options) as origin:
            assert not await origin.probe()
    assert [received.target for received in upstream.requests] == [b"/", b"/up"]


@pytest.mark.rule("R330")
def test_tls_is_always_verified_and_modern(tmp_path: Path) -> None:
    """Whatever is configured; no context for services that are not spoken to by TLS."""
    own = authority(tmp_path).sign("gateway", "gateway.test")
    for options in ({}, {"tls_client_cert": str(own.cert), "tls_client_key": str(own.key)}):
        context = client_tls(settings("http://127.0.0.1", "https://127.0.0.1", **options))
        assert context is not None
        assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)
        assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert client_tls(settings("http://127.0.0.1", "unix:/run/up.sock")) is None


async def test_tls_file_that_vanished_since_the_check_stops_the_start() -> None:
    with pytest.raises(FileNotFoundError):
        Upstream(settings("https://up.test", tls_ca_file="/nowhere/ca.pem"))
