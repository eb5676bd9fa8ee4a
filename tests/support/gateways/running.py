"""A real gateway on loopback for end-to-end tests, and a client that speaks raw bytes."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import ssl
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from gateway.app import GatewayApp
from gateway.configuration import compose
from gateway.features.listed import FEATURES
from gateway.server.seam.feature import Feature
from tests.support.clock import patience
from tests.support.composed import Settings
from tests.support.pace import paced
from tests.support.tokens.minting import SigningKey, good_claims, jwks, mint
from tests.support.wire.fields import Fields

ISSUER = "https://idp.test/"

#: The lane of gateways that a test starts, unless it says so itself; see the fixture ``lane``.
LANE: ContextVar[str] = ContextVar("LANE", default="express")

#: Their access log, likewise.
ACCESS_LOG: ContextVar[str] = ContextVar("ACCESS_LOG", default="json")


@dataclass
class RawResponse(Fields):
    """A response as it came off the wire."""

    head: bytes
    body: bytes = b""
    complete: bool = True

    @property
    def status(self) -> int:
        return int(self.head.split(b" ", 2)[1])

    @property
    def json(self) -> dict[str, Any]:
        value = json.loads(self.body)
        assert isinstance(value, dict)
        return value


@dataclass
class RawClient:
    """One connection to the gateway."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    half_closed: bool = False
    times_asked: int = 0  # whether it was still there, after that

    def half_close(self) -> None:
        """Send nothing more. From now on the gateway may ask at any time whether it is still there, with a 100."""
        self.writer.write_eof()
        self.half_closed = True

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def response(self, *, head_only: bool = False, within: float = 5) -> RawResponse:
        """Read one response; ``complete`` is False when the connection ended before its content did."""
        async with patience(within):
            response = RawResponse(await self.reader.readuntil(b"\r\n\r\n"))
            while self.half_closed and response.status == 100:
                self.times_asked += 1
                response = RawResponse(await self.reader.readuntil(b"\r\n\r\n"))
            if head_only or response.status in (204, 304) or 100 <= response.status < 200:
                return response
            try:
                response.body = await self._body(response)
            except (asyncio.IncompleteReadError, ConnectionError) as error:
                response.body = getattr(error, "partial", b"")
                response.complete = False
        return response

    async def _body(self, response: RawResponse) -> bytes:
        if response.one(b"transfer-encoding") is not None:
            body = b""
            try:
                while size := int((await self.reader.readuntil(b"\r\n"))[:-2], 16):
                    body += await self.reader.readexactly(size)
                    await self.reader.readexactly(2)
                await self.reader.readexactly(2)
            except asyncio.IncompleteReadError as error:
                raise asyncio.IncompleteReadError(body + error.partial, None) from error
            return body
        if (length := response.one(b"content-length")) is not None:
            return await self.reader.readexactly(int(length))
        return await self.reader.read()

    async def exchange(self, data: bytes, **options: Any) -> RawResponse:
        await self.send(data)
        return await self.response(**options)

    async def at_end(self, within: float = 5) -> bool:
        """Whether the gateway closes the connection, with nothing more sent on it."""
        async with patience(within):
            try:
                return await self.reader.read(1) == b""
            except ConnectionError:
                return True

    async def close(self) -> None:
        self.writer.close()
        with contextlib.suppress(ConnectionError, ssl.SSLError):  # an alert is one of the latter
            await self.writer.wait_closed()


@dataclass
class RunningGateway:
    """A started gateway, its log, and tokens that it accepts."""

    app: GatewayApp
    out: io.StringIO
    key: SigningKey
    clients: list[RawClient] = field(default_factory=list)
    tls: ssl.SSLContext | None = None  # with it, clients speak HTTPS

    async def client(self) -> RawClient:
        name = "localhost" if self.tls else None
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", self.app.port, limit=1 << 22, ssl=self.tls, server_hostname=name
        )
        client = RawClient(reader, writer)
        self.clients.append(client)
        return client

    async def exchange(self, data: bytes, **options: Any) -> RawResponse:
        """Send bytes on a new connection and read one response."""
        return await (await self.client()).exchange(data, **options)

    async def get(self, target: str | bytes = b"/", *headers: tuple[bytes, bytes], token: bytes = b"") -> RawResponse:
        """Send a plain GET; with ``token``, as a bearer token."""
        return await self.exchange(request(b"GET", target, *headers, token=token))

    async def admin(self, path: str) -> RawResponse:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.app.admin_port)
        client = RawClient(reader, writer)
        self.clients.append(client)
        return await client.exchange(request(b"GET", path, (b"Host", b"localhost")))

    def token(self, **overrides: Any) -> bytes:
        return mint(self.key, good_claims(time.time(), **overrides))

    async def settled(self) -> None:
        """Wait until no request is being served, and each one that was counted has its line in the log.

        Both happen just after the response, and a test that counts what comes next has to know where it begins.
        """
        telemetry = self.app.telemetry

        def quiet() -> bool:
            telemetry.access_log.flush()
            lines = self.out.getvalue().count("\n") + telemetry.access_log.dropped
            return telemetry.running == 0 and (not telemetry.access_log.enabled or lines >= telemetry.requests.total())

        await until(quiet)

    async def log(self, count: int = 1) -> list[dict[str, Any]]:
        """The access log once it has ``count`` lines: a line is written just after its response."""
        assert self.app.settings.server.access_log != "off", "without a log, nothing can be read in it"

        def written() -> bool:
            self.app.telemetry.access_log.flush()
            return self.out.getvalue().count("\n") >= count

        await until(written)
        return [json.loads(line) for line in self.out.getvalue().splitlines()]


async def until(condition: Callable[[], bool], within: float = 5) -> None:
    """Wait for something that sockets will bring about; fail when it does not come."""
    for _ in range(int(within / 0.005)):
        if condition():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("it did not happen in time")


def request(
    method: bytes, target: str | bytes, *headers: tuple[bytes, bytes], token: bytes = b"", body: bytes = b""
) -> bytes:
    """Build a request byte by byte; Host is added unless given."""
    path = target.encode() if isinstance(target, str) else target
    lines = [b"%b %b HTTP/1.1" % (method, path)]
    if not any(name.lower() == b"host" for name, _ in headers):
        lines.append(b"Host: gateway.test")
    if token:
        lines.append(b"Authorization: Bearer " + token)
    lines += [b"%b: %b" % pair for pair in headers]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def configuration(
    upstream_url: str | Sequence[str],
    jwks_file: Path,
    *,
    routes: Sequence[Mapping[str, Any]] = ({"path": "/"},),
    **sections: Any,
) -> dict[str, Any]:
    """A one-issuer, one-upstream configuration as a dictionary; routes go to that upstream."""
    urls = [upstream_url] if isinstance(upstream_url, str) else list(upstream_url)
    server = {
        "listen": "127.0.0.1:0",
        "admin_listen": "127.0.0.1:0",
        "drain_seconds": 2,
        "express": LANE.get() == "express",
        "access_log": ACCESS_LOG.get(),
        **sections.pop("server", {}),
    }
    issuer = {
        "name": "main",
        "issuer": ISSUER,
        "jwks_file": str(jwks_file),
        "audience": ["api"],
        **sections.pop("issuer", {}),
    }
    # A gateway with many tests beside it connects late, which is not a fault of its upstream.
    late = {"connect_timeout_seconds": paced(2)}
    upstream = {"name": "main", "urls": urls, **late, **sections.pop("upstream", {})}
    return {
        "server": server,
        "issuers": [issuer],
        "upstreams": [upstream],
        "routes": [{"upstream": "main", **route} for route in routes],
        **sections,
    }


@contextlib.asynccontextmanager
async def running_gateway(
    upstream_url: str | Sequence[str],
    directory: Path,
    *,
    key: SigningKey | None = None,
    features: Sequence[Feature] = FEATURES,
    **options: Any,
) -> AsyncIterator[RunningGateway]:
    """Run a gateway with one RSA key ``a`` and these features; ``options`` are those of ``configuration``."""
    key = key or SigningKey.rsa("a")
    file = directory / "jwks.json"
    file.write_bytes(jwks(key))
    model = Settings if features == Settings.features else compose(features)
    settings = cast("Settings", model.model_validate(configuration(upstream_url, file, **options)))
    async with running(settings, key) as gateway:
        yield gateway


@contextlib.asynccontextmanager
async def running(settings: Settings, key: SigningKey, **parts: Any) -> AsyncIterator[RunningGateway]:
    """Run a gateway until its issuers have had their first try; ``parts`` are ``GatewayApp``'s own."""
    out = io.StringIO()
    gateway = RunningGateway(GatewayApp(settings, out=out, **parts), out, key)
    async with started(gateway):
        yield gateway


@contextlib.asynccontextmanager
async def started(gateway: RunningGateway, *, wait: bool = True) -> AsyncIterator[None]:
    """Run a gateway that was made; ``wait`` until its issuers have had their first try. Its clients end before it."""
    await gateway.app.start()
    try:
        if wait:
            for issuer in gateway.app.issuers.values():
                await issuer.wait_until_loaded()
        yield
    finally:
        for client in gateway.clients:
            await client.close()
        await gateway.app.stop()
