"""An authorization server that says of tokens what a test wants: its introspection endpoint, and every way to fail.

This file has the server's side, on a real loopback socket, with the settings
that lead a gateway to it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web

from tests.support.composed import Issuer
from tests.support.issuers.identity_provider import Answer

ISSUER = "https://as.test/"
CLIENT_ID, CLIENT_SECRET = "gate:way", "a:b%c+é"


@dataclass(frozen=True)
class Asked:
    """An introspection request that arrived."""

    method: str
    target: str
    headers: Mapping[str, str]
    form: Mapping[str, str]

    @property
    def token(self) -> str:
        return self.form["token"]


@dataclass
class AuthorizationServer:
    """A scriptable authorization server on 127.0.0.1.

    Attributes:
        tokens: what is said of each token; of any other that it is not active.
        answer: instead of all that: one answer to everything.
        gate: answers wait until this is set; None: they come at once.
        asked: every introspection request, in order.
        sources: the connections that they came over.
        running, most_running: introspection requests being answered, and the most of them at a time.
    """

    tokens: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    answer: Answer | None = None
    gate: asyncio.Event | None = None
    asked: list[Asked] = field(default_factory=list)
    sources: set[str] = field(default_factory=set)
    running: int = 0
    most_running: int = 0
    url: str = ""

    def questions(self, token: str) -> int:
        """Return how often it was asked about a token."""
        return sum(asked.token == token for asked in self.asked)

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        form = {name: str(value) for name, value in (await request.post()).items()}
        self.asked.append(Asked(request.method, request.path_qs, dict(request.headers), form))
        self.sources.add(str(request.transport and request.transport.get_extra_info("peername")))
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            if self.gate is not None:
                await self.gate.wait()
        finally:
            self.running -= 1
        if self.answer is not None:
            return web.Response(status=self.answer.status, body=self.answer.body, headers=dict(self.answer.headers))
        said = self.tokens.get(form.get("token", ""), {"active": False})
        return web.Response(body=json.dumps(said).encode(), content_type="application/json")


@contextlib.asynccontextmanager
async def authorization_server(tls: ssl.SSLContext | None = None) -> AsyncIterator[AuthorizationServer]:
    """Run an authorization server; with ``tls``, over HTTPS."""
    server = AuthorizationServer()
    runner = web.ServerRunner(web.Server(server.handle), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
    server.url = f"{'https' if tls else 'http'}://127.0.0.1:{runner.addresses[0][1]}/introspect"
    try:
        yield server
    finally:
        if server.gate is not None:
            server.gate.set()
        await runner.cleanup()


def said(now: float | None = None, **overrides: Any) -> dict[str, Any]:
    """Return what is said of a good token; a member that is None is left out."""
    moment = time.time() if now is None else now
    members = {
        "active": True,
        "iss": ISSUER,
        "sub": "alice",
        "aud": "api",
        "scope": "read write",
        "client_id": "app",
        "token_type": "Bearer",
        "exp": int(moment) + 600,
        "iat": int(moment),
        **overrides,
    }
    return {name: value for name, value in members.items() if value is not None}


def json_answer(body: Any, status: int = 200, *, fields: Mapping[str, str] | None = None) -> Answer:
    """Return an answer of JSON, or of these bytes; ``fields`` come on top."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Answer(data, status, {"Content-Type": "application/json"} | dict(fields or {}))


def opaque_issuer(directory: Path, url: str, **options: Any) -> dict[str, Any]:
    """Return the entry of an issuer that is asked about its tokens."""
    secret = directory / "client-secret"
    secret.write_text(CLIENT_SECRET + "\n", encoding="utf-8")
    return {
        "name": "as",
        "issuer": ISSUER,
        "audience": ["api"],
        "introspection_url": url,
        "introspection_client_id": CLIENT_ID,
        "introspection_client_secret_file": str(secret),
        **options,
    }


def introspecting(directory: Path, url: str, **options: Any) -> Issuer:
    """Return the settings of such an issuer."""
    return Issuer.model_validate(opaque_issuer(directory, url, **options))
