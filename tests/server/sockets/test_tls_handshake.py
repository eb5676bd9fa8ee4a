"""TLS handshakes that fail: the client's alert, and the cause that is counted (R433)."""

from __future__ import annotations

import asyncio
import gc
import logging
import socket
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.server.sockets import tls_handshake as handshake
from gateway.server.sockets.tls_handshake import offered_protocols
from tests.support.certificates import authority
from tests.support.gateways.running import until
from tests.support.tls_listening import Listening, listening

Context = Callable[[Listening, Path], ssl.SSLContext]


def _old(server: Listening, directory: Path) -> ssl.SSLContext:
    context = server.trusting(server.ca.sign("client", "client"))
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    return context


def _weak(server: Listening, directory: Path) -> ssl.SSLContext:
    context = server.trusting(server.ca.sign("client", "client"))
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("AES128-SHA")
    return context


def _nameless(server: Listening, directory: Path) -> ssl.SSLContext:
    return server.trusting()


def _foreign(server: Listening, directory: Path) -> ssl.SSLContext:
    return server.trusting(authority(directory / "foreign", "foreign").sign("client", "client"))


def _h2(server: Listening, directory: Path) -> ssl.SSLContext:
    context = server.trusting(server.ca.sign("client", "client"))
    context.set_alpn_protocols(["h2"])
    return context


# fmt: off
FAILURES: dict[str, tuple[Context, str, str]] = {
    "TLS 1.1": (_old, handshake.TLS_VERSION, "TLSV1_ALERT_PROTOCOL_VERSION"),
    "no common cipher": (_weak, handshake.NO_SHARED_CIPHER, "SSLV3_ALERT_HANDSHAKE_FAILURE"),
    "no certificate": (_nameless, handshake.NO_CLIENT_CERTIFICATE, "TLSV13_ALERT_CERTIFICATE_REQUIRED"),
    "foreign certificate": (_foreign, handshake.BAD_CLIENT_CERTIFICATE, "TLSV1_ALERT_UNKNOWN_CA"),
    "h2 only": (_h2, handshake.NO_APPLICATION_PROTOCOL, "TLSV1_ALERT_NO_APPLICATION_PROTOCOL"),
}
# fmt: on


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion")
@pytest.mark.parametrize("case", FAILURES)
@pytest.mark.rule("R433")
async def test_a_failure_is_reported_to_the_client_counted_and_logged(
    case: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """RFC 8446 section 6.2; RFC 7301 section 3.2. One line a second, whatever the rate."""
    make, cause, alert = FAILURES[case]
    with caplog.at_level(logging.INFO, "gateway"):
        async with listening(tmp_path, ask_clients=True) as server:
            context = make(server, tmp_path)
            for _ in range(2):
                with pytest.raises(ssl.SSLError, match="(?i)" + alert.replace("_", "[_ ]")):
                    await server.subject(context)
            await until(lambda: server.telemetry.handshake_failures == {cause: 2})
            await until(lambda: server.telemetry.connections == 0)
    (line,) = [record.getMessage() for record in caplog.records]
    assert line == f"a TLS handshake failed: {cause}, client 127.0.0.1"


@pytest.mark.rule("R433")
async def test_a_client_that_does_not_trust_the_server_is_distinguished_from_one_that_leaves(tmp_path: Path) -> None:
    """It sends an alert: the certificate here is wrong, or expired."""
    context = ssl.create_default_context(cafile=str(authority(tmp_path / "elsewhere", "elsewhere").bundle))

    def connect(port: int) -> None:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as plain, pytest.raises(ssl.SSLError):
            context.wrap_socket(plain, server_hostname="localhost")

    async with listening(tmp_path) as server:
        await asyncio.to_thread(connect, server.port)
        await until(lambda: server.telemetry.handshake_failures == {handshake.REFUSED_BY_CLIENT: 1})


@pytest.mark.parametrize(
    ("sent", "cause", "answer"),
    [
        (b"SSH-2.0-OpenSSH_9.6\r\n", handshake.NOT_TLS, b""),
        (b"\x16\x03\x01\x00\x05hello", handshake.MALFORMED, b"\x15\x03"),  # an alert, in clear
        (b"GET / HTTP/1.1\r\n\r\n", handshake.PLAIN_HTTP, b"https_expected"),
        (b"", handshake.CLIENT_GONE, b""),
        (b"\x16\x03\x01\x02\x00", handshake.CLIENT_GONE, b""),
    ],
)
@pytest.mark.rule("R418", "R433")
async def test_what_is_no_handshake_is_ended_at_once(sent: bytes, cause: str, answer: bytes, tmp_path: Path) -> None:
    """The time limit of handshakes is for those that go on."""
    async with listening(tmp_path, patience=60) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(sent)
        if cause == handshake.CLIENT_GONE:
            writer.write_eof()
        async with asyncio.timeout(5):
            came = b""
            try:
                came = await reader.read()
            except ConnectionResetError:
                assert not answer
        assert came.startswith(answer)
        assert bool(came) == bool(answer)
        writer.close()
        await until(lambda: server.telemetry.handshake_failures == {cause: 1})
        await until(lambda: server.telemetry.connections == 0)


@pytest.mark.rule("R198")
def test_causes_are_a_bounded_list() -> None:
    """What OpenSSL says is no label."""
    odd = ssl.SSLError(1, "text")
    odd.reason = "SOMETHING_NEW"
    errors = (TimeoutError(), ConnectionResetError(), OSError(), odd)
    assert [handshake.cause_of(error) for error in errors] == ["timeout", "client_gone", "client_gone", "malformed"]
    assert len(set(handshake.CAUSES)) == len(handshake.CAUSES)


def _hello(protocols: list[str]) -> bytes:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if protocols:
        context.set_alpn_protocols(protocols)
    out = ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), out, server_hostname="a.test").do_handshake()
    return out.read()


@pytest.mark.parametrize("protocols", [[], ["h2"], ["http/1.1"], ["h2", "http/1.1", "spdy/3"]])
@pytest.mark.rule("R433")
def test_offered_protocols_are_read(protocols: list[str]) -> None:
    """RFC 7301 section 3.1; also when the message comes in several records (RFC 8446 section 5.1)."""
    hello = _hello(protocols)
    expected = tuple(name.encode() for name in protocols)
    assert offered_protocols(hello) == expected
    content = hello[5:]
    pieces = [content[:100], content[100:]]
    split = b"".join(hello[:3] + len(piece).to_bytes(2, "big") + piece for piece in pieces)
    assert offered_protocols(split) == expected


def test_what_is_no_whole_hello_offers_nothing() -> None:
    """What is wrong with it is for OpenSSL to say; no byte of it may raise."""
    hello = _hello(["h2"])
    for end in range(len(hello)):
        assert offered_protocols(hello[:end]) == ()
    for place in range(len(hello)):
        changed = bytearray(hello)
        changed[place] ^= 0xFF
        offered_protocols(bytes(changed))


@pytest.mark.rule("R429")
async def test_nothing_of_a_failed_handshake_stays_until_cycles_are_looked_for(tmp_path: Path) -> None:
    """A kept exception holds its frames, and they hold the connection's TLS."""
    async with listening(tmp_path) as server:
        gc.collect()
        gc.disable()
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(b"\x16\x03\x01\x02\x00" + b"x" * 600)
            await until(lambda: server.telemetry.handshake_failures["malformed"] == 1)
            writer.close()
            await until(lambda: not any(isinstance(one, handshake.Handshake) for one in gc.get_objects()))
        finally:
            gc.enable()
