"""A TLS port before protocols that echo, and the files of its certificates."""

from __future__ import annotations

import asyncio
import contextlib
import io
import shutil
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

from gateway.clock import SystemClock
from gateway.errors import GatewayError
from gateway.server.sockets.listen import tcp_sockets
from gateway.server.sockets.slots import Place, Places
from gateway.server.sockets.tls import ServerTls
from gateway.server.sockets.tls_port import TlsPort
from gateway.settings.tables.server import Server
from gateway.telemetry.access_log import AccessLog
from gateway.telemetry.counters import Telemetry
from tests.support.certificates import Certificate, authority


class Echo(asyncio.Protocol):
    """Sends back what it gets; or says why it does not, and closes."""

    def __init__(self, place: Place, refusal: str = "") -> None:
        self.place = place
        self.refusal = refusal

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        if self.refusal:
            transport.write(self.refusal.encode())  # type: ignore[attr-defined]
            transport.write_eof() if transport.can_write_eof() else transport.close()  # type: ignore[attr-defined]

    def connection_lost(self, exc: Exception | None) -> None:
        self.place.give_back()

    def data_received(self, data: bytes) -> None:
        if not self.refusal:
            self.transport.write(data)  # type: ignore[attr-defined]  # uvloop's transports are not asyncio.Transport


class Connections:
    """Makes protocols that echo, and such that refuse."""

    def __init__(self, places: Places) -> None:
        self.places = places

    def serve(self, place: Place) -> Echo:
        return Echo(place)

    def refusing(self, place: Place, error: GatewayError) -> Echo:
        return Echo(place, error.reason.code)

    def connection_ended(self) -> None:
        """Do nothing: no test waits for it."""


class Listening:
    """A server under a ``ServerTls``, and the files of both."""

    def __init__(self, directory: Path, *, ask_clients: bool = False) -> None:
        directory.mkdir(exist_ok=True)
        self.ca = authority(directory / "ca")
        self.cert, self.key, self.clients = directory / "cert.pem", directory / "key.pem", directory / "clients.pem"
        self.use(self.ca.sign("first", "localhost", "127.0.0.1"))
        shutil.copy(self.ca.bundle, self.clients)
        files = {"tls_cert": str(self.cert), "tls_key": str(self.key)}
        if ask_clients:
            files["tls_client_ca"] = str(self.clients)
        self.telemetry = Telemetry(AccessLog("off", io.StringIO(), SystemClock()))
        self.tls = ServerTls(Server.model_validate(files), self.telemetry)
        self.port = 0
        self.tls_port: TlsPort

    def use(self, certificate: Certificate) -> None:
        """Put another certificate in place of the one that is used."""
        self.use_key(certificate)
        self.use_cert(certificate)

    def use_key(self, certificate: Certificate) -> None:
        replace(certificate.key, self.key)

    def use_cert(self, certificate: Certificate) -> None:
        replace(certificate.cert, self.cert)

    def trusting(self, client: Certificate | None = None) -> ssl.SSLContext:
        """Return a client's context."""
        context = ssl.create_default_context(cafile=str(self.ca.bundle))
        if client is not None:
            context.load_cert_chain(client.cert, client.key)
        return context

    async def subject(self, context: ssl.SSLContext | None = None, name: str = "localhost") -> str:
        """Return the common name of the certificate that a new connection is shown; it works, too."""
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", self.port, ssl=context or self.trusting(), server_hostname=name
        )
        try:
            writer.write(b"x")
            assert await reader.read(1) == b"x"
            return str(writer.get_extra_info("peercert")["subject"][0][0][1])
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError, ssl.SSLError):
                await writer.wait_closed()


def replace(source: Path, target: Path) -> None:
    """Replace a file in one step, as certificate managers do."""
    new = target.with_suffix(".new")
    shutil.copy(source, new)
    new.rename(target)


@contextlib.asynccontextmanager
async def listening(
    directory: Path, *, ask_clients: bool = False, patience: float = 5, most: int = 100
) -> AsyncIterator[Listening]:
    made = Listening(directory, ask_clients=ask_clients)
    connections = Connections(Places(made.telemetry, most))
    sockets = await tcp_sockets("127.0.0.1:0", share=False)
    port = TlsPort(sockets, connections.serve, connections, made.tls, patience)
    made.tls_port = port
    made.port = port.number
    try:
        yield made
    finally:
        await port.stop()
