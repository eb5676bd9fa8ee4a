"""An identity provider that says and does what a test wants: discovery, key set, and every way to fail.

This file has the provider's side, on real loopback sockets. Its keys and tokens
are made by ``minting.py``.
"""

from __future__ import annotations

import asyncio
import datetime
import hashlib
import ipaddress
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from gateway.settings.tables.upstreams import UpstreamSettings
from tests.support.composed import Issuer, Route, Settings
from tests.support.tokens.minting import SigningKey, jwks

WELL_KNOWN = "/.well-known/openid-configuration"


@dataclass
class Answer:
    """What the provider answers to one kind of request.

    Attributes:
        gate: the answer waits until this is set; None: it comes at once.
    """

    body: bytes = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    gate: asyncio.Event | None = None


@dataclass(frozen=True)
class Seen:
    """A request that arrived."""

    method: str
    path: str
    headers: Mapping[str, str]


class FakeIdp:
    """A scriptable identity provider on 127.0.0.1.

    Args:
        suffix: what the issuer's URL has behind the port, e.g. "/" or "/realms/x".
        tls: serve HTTPS with this context.

    Attributes:
        issuer: its issuer URL, once started.
        keys_answer: what ``/jwks`` answers; ``publish`` sets it.
        discovery_answer: what discovery answers; None: the right document.
        revalidates: answer 304 to a matching If-None-Match, with an ETag on each 200.
        seen: every request, in order.
    """

    def __init__(self, suffix: str = "", tls: ssl.SSLContext | None = None) -> None:
        self.keys_answer = Answer(b"", 500)
        self.discovery_answer: Answer | None = None
        self.revalidates = False
        self.seen: list[Seen] = []
        self.issuer = self.jwks_url = ""
        self._suffix = suffix
        self._tls = tls
        self._runner: web.ServerRunner | None = None
        self._port = 0

    async def __aenter__(self) -> FakeIdp:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Listen; after a ``stop`` on the same port again."""
        self._runner = web.ServerRunner(web.Server(self._handle), shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self._port, ssl_context=self._tls, reuse_address=True)
        await site.start()
        self._port = self._runner.addresses[0][1]
        origin = f"{'https' if self._tls else 'http'}://127.0.0.1:{self._port}"
        self.issuer = origin + self._suffix
        self.jwks_url = origin + "/jwks"

    async def stop(self) -> None:
        """Refuse connections from now on."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    def publish(self, *keys: SigningKey | Mapping[str, Any], gate: asyncio.Event | None = None, **headers: str) -> None:
        """Publish these keys; ``cache_control="max-age=60"`` is a header of the answer."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.keys_answer = Answer(jwks(*keys), 200, {"Content-Type": "application/jwk-set+json"} | named, gate)

    def key_fetches(self) -> int:
        """Return how many requests for the key set came."""
        return sum(seen.path == "/jwks" for seen in self.seen)

    def discoveries(self) -> int:
        """Return how many requests for the discovery document came."""
        return sum(seen.path.endswith(WELL_KNOWN) for seen in self.seen)

    def discovery_document(self, **overrides: Any) -> bytes:
        """Return this provider's metadata, with some members replaced."""
        return json.dumps({"issuer": self.issuer, "jwks_uri": self.jwks_url} | overrides).encode()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        self.seen.append(Seen(request.method, request.path, dict(request.headers)))
        if request.path.endswith(WELL_KNOWN):
            answer = self.discovery_answer or Answer(self.discovery_document())
        elif request.path == "/jwks":
            answer = self.keys_answer
        else:
            answer = Answer(b"", 404)
        if answer.gate is not None:
            await answer.gate.wait()
        headers = dict(answer.headers)
        if self.revalidates and answer.status == 200:
            headers["ETag"] = f'"{hashlib.sha256(answer.body).hexdigest()}"'
            if request.headers.get("If-None-Match") == headers["ETag"]:
                return web.Response(status=304, headers=headers)
        return web.Response(status=answer.status, body=answer.body, headers=headers)


@asynccontextmanager
async def raw_server(
    talk: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> AsyncIterator[str]:
    """Serve connections with ``talk``, for what no HTTP library would send; yields ``http://127.0.0.1:port``."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            await talk(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        await server.wait_closed()


def issuer_settings(**options: Any) -> Issuer:
    """Return an issuer's settings with the test defaults of ``minting.py``, and time for a busy machine."""
    defaults: dict[str, Any] = {
        "name": "main",
        "issuer": "https://idp.test/",
        "audience": ["api"],
        "jwks_timeout_seconds": 30,
    }
    return Issuer(**defaults | options)


def gateway_settings(*issuers: Issuer, **sections: Any) -> Settings:
    """Return a whole configuration around ``issuers``; nothing listens at its upstream."""
    upstream = UpstreamSettings(name="default", urls=["http://127.0.0.1:9"])
    defaults: dict[str, Any] = {"upstreams": [upstream], "routes": [Route(path="/", upstream="default")]}
    return Settings(issuers=list(issuers), **defaults | sections)


def private_authority(folder: Path, *names: str) -> tuple[Path, ssl.SSLContext]:
    """Make an authority that no system knows.

    Returns:
        Its PEM file, and a server context for 127.0.0.1 and ``names`` that it signed.
    """
    authority_key, server_key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    authority = _certificate("test authority", authority_key, authority_key, "test authority")
    server = _certificate("127.0.0.1", server_key, authority_key, "test authority", names)
    bundle, chain = folder / "authority.pem", folder / "server.pem"
    bundle.write_bytes(authority.public_bytes(Encoding.PEM))
    chain.write_bytes(
        server.public_bytes(Encoding.PEM) + server_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(chain)
    return bundle, context


def _certificate(
    subject: str,
    key: ec.EllipticCurvePrivateKey,
    signer: ec.EllipticCurvePrivateKey,
    issuer: str,
    names: tuple[str, ...] | None = None,
) -> x509.Certificate:
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=24))
        .add_extension(x509.BasicConstraints(ca=names is None, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
    )
    if names is not None:
        hosts = [x509.IPAddress(ipaddress.ip_address("127.0.0.1")), *map(x509.DNSName, names)]
        builder = builder.add_extension(x509.SubjectAlternativeName(hosts), critical=False)
    return builder.sign(signer, hashes.SHA256())
