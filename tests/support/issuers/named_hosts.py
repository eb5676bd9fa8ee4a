"""A provider under its real host names: TLS on loopback, and the resolver that leads there.

This file has the provider's side. What it answers at which URL is a test's; hosts that it does not have cannot be
looked up, so that no test leaves the machine.
"""

from __future__ import annotations

import json
import socket
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult

from tests.support.certificates import authority
from tests.support.issuers.identity_provider import WELL_KNOWN, Answer
from tests.support.tokens.minting import SigningKey

Document = Answer | bytes | Mapping[str, Any]


class Provider(AbstractResolver):
    """Answers https:// URLs, whatever their hosts.

    Attributes:
        documents: what is answered, by URL without query; 404 for every other URL.
        seen: the URL and the fields of every request, in order.
        looked_up: every host that was looked up, in order.
        bearer: the only bearer token whose owner may read; empty for any client.
        bundle: PEM file of the authority that signed the certificate.
    """

    def __init__(self, bundle: Path, documents: Mapping[str, Document]) -> None:
        self.documents = dict(documents)
        self.seen: list[tuple[str, Mapping[str, str]]] = []
        self.looked_up: list[str] = []
        self.bearer = ""
        self.bundle = bundle
        self.port = 0

    def fetched(self, url: str) -> int:
        """Return how many requests for this URL came."""
        return sum(seen == url for seen, _ in self.seen)

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        self.looked_up.append(host)
        if host not in {urlsplit(url).hostname for url in self.documents}:
            raise OSError(None, f"no such host: {host}")
        found: ResolveResult = {
            "hostname": host,
            "host": "127.0.0.1",
            "port": self.port,
            "family": socket.AF_INET,
            "proto": socket.IPPROTO_TCP,
            "flags": socket.AI_NUMERICHOST,
        }
        return [found]

    async def close(self) -> None:
        return

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        url = f"https://{request.host}{request.path}"
        self.seen.append((url, dict(request.headers)))
        document = self.documents.get(url, Answer(b"", 404))
        if self.bearer and request.headers.get("Authorization") != f"Bearer {self.bearer}":
            document = Answer(b"", 403)
        if isinstance(document, Mapping):
            document = json.dumps(document).encode()
        answer = Answer(document) if isinstance(document, bytes) else document
        if answer.gate is not None:
            await answer.gate.wait()
        return web.Response(status=answer.status, body=answer.body, headers=answer.headers)


@asynccontextmanager
async def provider(directory: Path, documents: Mapping[str, Document], *hosts: str) -> AsyncIterator[Provider]:
    """Serve documents with a certificate for all hosts in their URLs, and for ``hosts``."""
    names = {urlsplit(url).hostname or "" for url in documents} | set(hosts)
    made = authority(directory / "provider")
    certificate = made.sign("provider", *sorted(names))
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(certificate.cert, certificate.key)
    served = Provider(made.bundle, documents)
    runner = web.ServerRunner(web.Server(served.handle), shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
        served.port = runner.addresses[0][1]
        yield served
    finally:
        await runner.cleanup()


def discovery(issuer: str, jwks_uri: str, *keys: SigningKey | Mapping[str, Any], **more: Any) -> dict[str, Document]:
    """Return a discovery document and a key set, by their URLs."""
    entries = [key.public_jwk() if isinstance(key, SigningKey) else key for key in keys]
    return {
        issuer.rstrip("/") + WELL_KNOWN: {"issuer": issuer, "jwks_uri": jwks_uri, **more},
        jwks_uri: {"keys": entries},
    }
