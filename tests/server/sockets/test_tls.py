"""The listener's TLS: what is spoken, and certificates that change while it runs."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from gateway.server.sockets import tls
from gateway.settings.tables.server import Server
from gateway.tasks import Periodic
from tests.support.certificates import Authority, authority
from tests.support.clock import FakeClock, settle
from tests.support.tls_listening import Listening, listening, replace

REFUSED = (ssl.SSLError, ConnectionError, asyncio.IncompleteReadError, AssertionError)


async def test_new_connections_get_the_changed_certificate(tmp_path: Path) -> None:
    """Contract: certificates are reloaded when the files change; connections that are open go on."""
    async with listening(tmp_path) as server:
        assert await server.subject() == "first"
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", server.port, ssl=server.trusting(), server_hostname="localhost"
        )
        server.tls.refresh()
        assert await server.subject() == "first"
        server.use(server.ca.sign("second", "localhost"))
        assert await server.subject() == "first"
        server.tls.refresh()
        assert await server.subject() == "second"
        server.use(server.ca.sign("third", "localhost"))
        server.tls.refresh()
        assert await server.subject() == "third"
        writer.write(b"still")
        assert await reader.readexactly(5) == b"still"
        writer.close()
        assert server.telemetry.tls_reload_failures == 0


async def test_clients_without_a_server_name_get_the_changed_certificate(tmp_path: Path) -> None:
    """Addresses are no server names (RFC 6066 section 3): the choice must not depend on one."""
    async with listening(tmp_path) as server:
        assert await server.subject(name="127.0.0.1") == "first"
        server.use(server.ca.sign("second", "127.0.0.1"))
        server.tls.refresh()
        assert await server.subject(name="127.0.0.1") == "second"


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_both_versions_of_tls_get_the_changed_certificate(version: ssl.TLSVersion, tmp_path: Path) -> None:
    async with listening(tmp_path) as server:
        context = server.trusting()
        context.minimum_version = context.maximum_version = version
        server.use(server.ca.sign("second", "localhost"))
        server.tls.refresh()
        assert await server.subject(context) == "second"


async def test_files_are_looked_at_as_time_passes(tmp_path: Path) -> None:
    clock = FakeClock()
    async with listening(tmp_path) as server:
        watching = Periodic("TLS files", server.tls.look, clock, tls.RELOAD_SECONDS)
        watching.start()
        await settle()
        server.use(server.ca.sign("second", "localhost"))
        await clock.advance(tls.RELOAD_SECONDS - 0.1)
        assert await server.subject() == "first"
        await clock.advance(0.2)
        assert await server.subject() == "second"
        await watching.stop()


@pytest.mark.rule("R406")
async def test_files_that_could_not_be_read_for_now_are_read_as_the_same_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when files ran out; logged once."""
    async with listening(tmp_path) as server:
        server.use(server.ca.sign("second", "localhost"))

        def unreadable(_: object) -> None:
            raise OSError(24, "Too many open files")

        with monkeypatch.context() as patch:
            patch.setattr(tls, "server_context", unreadable)
            for _ in range(4):
                server.tls.refresh()
        assert server.telemetry.tls_reload_failures == 1
        assert await server.subject() == "first"
        server.tls.refresh()
        assert await server.subject() == "second"


async def test_broken_files_keep_the_old_certificate_and_are_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The gateway goes on; a metric and one line of the log say what is wrong, without the file's content."""
    async with listening(tmp_path) as server:
        (tmp_path / "cert.pem").write_text("-----BEGIN CERTIFICATE-----\nsecret\n-----END CERTIFICATE-----\n")
        with caplog.at_level(logging.WARNING, "gateway"):
            for _ in range(5):
                server.tls.refresh()
        assert server.telemetry.tls_reload_failures == 1
        (line,) = [record.getMessage() for record in caplog.records]
        assert "the certificate loaded before stays in use" in line
        assert "secret" not in line
        assert await server.subject() == "first"
        server.use(server.ca.sign("second", "localhost"))
        server.tls.refresh()
        assert await server.subject() == "second"


@pytest.mark.parametrize("missing", ["cert.pem", "key.pem"])
async def test_files_that_are_gone_keep_the_old_certificate(missing: str, tmp_path: Path) -> None:
    async with listening(tmp_path) as server:
        (tmp_path / missing).unlink()
        server.tls.refresh()
        server.tls.refresh()
        assert server.telemetry.tls_reload_failures == 1
        assert await server.subject() == "first"


async def test_certificate_and_key_may_change_one_after_the_other(tmp_path: Path) -> None:
    """A look between the two is no failure."""
    async with listening(tmp_path) as server:
        second = server.ca.sign("second", "localhost")
        server.use_key(second)
        server.tls.refresh()
        assert await server.subject() == "first"
        server.use_cert(second)
        server.tls.refresh()
        assert await server.subject() == "second"
        assert server.telemetry.tls_reload_failures == 0


async def test_clients_are_judged_by_the_changed_bundle(tmp_path: Path) -> None:
    """tls_client_ca: an authority that was taken out admits no client, also none that was admitted before."""
    async with listening(tmp_path, ask_clients=True) as server:
        other = authority(tmp_path / "other", "another authority")
        mine, others = server.ca.sign("mine", "mine"), other.sign("others", "others")
        known, stranger = server.trusting(mine), server.trusting(others)
        assert await server.subject(known) == "first"
        with pytest.raises(REFUSED):
            await server.subject(stranger)
        replace(other.bundle, server.clients)
        server.tls.refresh()
        assert await server.subject(stranger) == "first"
        with pytest.raises(REFUSED):
            await server.subject(known)
        with pytest.raises(REFUSED):
            await server.subject(server.trusting())


def _only(version: ssl.TLSVersion, ciphers: str, ca: Authority) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(ca.bundle))
    context.minimum_version = context.maximum_version = version
    context.set_ciphers(ciphers)
    return context


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion")
@pytest.mark.parametrize(
    ("version", "ciphers"),
    [
        pytest.param(ssl.TLSVersion.TLSv1_1, "ALL:@SECLEVEL=0", id="TLS 1.1"),
        pytest.param(ssl.TLSVersion.TLSv1_2, "AES128-GCM-SHA256:AES256-SHA256", id="no forward secrecy"),
        pytest.param(ssl.TLSVersion.TLSv1_2, "ECDHE-ECDSA-AES128-SHA256:ECDHE-ECDSA-AES128-SHA", id="CBC"),
    ],
)
async def test_weak_tls_is_not_spoken(version: ssl.TLSVersion, ciphers: str, tmp_path: Path) -> None:
    """RFC 9325 section 4.2: forward secrecy and authenticated encryption only."""
    async with listening(tmp_path) as server:
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await server.subject(_only(version, ciphers, server.ca))
        modern = _only(ssl.TLSVersion.TLSv1_2, "ECDHE-ECDSA-AES128-GCM-SHA256", server.ca)
        assert await server.subject(modern) == "first"


@pytest.mark.rule("R316")
async def test_handshake_that_does_not_come_is_ended(tmp_path: Path) -> None:
    """A client that connects and says nothing, or not enough, holds nothing for long."""
    async with listening(tmp_path, patience=0.2) as server:
        loop = asyncio.get_running_loop()
        for beginning in (b"", b"\x16\x03\x01\x02\x00\x01"):
            with socket.create_connection(("127.0.0.1", server.port)) as client:
                client.setblocking(False)
                await loop.sock_sendall(client, beginning)
                async with asyncio.timeout(3):
                    with contextlib.suppress(ConnectionError):
                        while await loop.sock_recv(client, 1000):
                            pass  # an alert


async def test_plain_http_on_the_tls_port_harms_nobody(tmp_path: Path) -> None:
    async with listening(tmp_path) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        async with asyncio.timeout(5):
            with contextlib.suppress(ConnectionError):
                assert b"HTTP" not in await reader.read()
        writer.close()
        assert await server.subject() == "first"


def test_an_encrypted_key_asks_nobody_for_a_password(tmp_path: Path) -> None:
    """At start and at reload: a terminal that waits would be a gateway that stands still."""
    made = Listening(tmp_path)
    key = serialization.load_pem_private_key(made.key.read_bytes(), None)
    made.key.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"password"),
        )
    )
    made.tls.refresh()
    made.tls.refresh()
    assert made.telemetry.tls_reload_failures == 1
    with pytest.raises(OSError, match="encrypted"):
        tls.server_context(Server.model_validate({"tls_cert": str(made.cert), "tls_key": str(made.key)}))
