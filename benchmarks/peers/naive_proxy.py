"""A JWT-checking proxy as it is written in an afternoon: aiohttp's application and client, PyJWT, a dict.

It is here to be compared with. Every request is read whole, every response
too, and the headers travel as dictionaries.

Arguments: port, port of the service, public key file, algorithm, size of the token cache, file of the access log
(empty: none), and for TLS the certificate and its key.
"""

from __future__ import annotations

import json
import logging
import ssl
import sys
import time
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jwt
from aiohttp import ClientSession, web
from aiohttp.abc import AbstractAccessLogger

from benchmarks.tokens import AUDIENCE, ISSUER

HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "upgrade", "content-length", "te", "trailer"}
REPLACED = HOP_BY_HOP | {"authorization", "x-user-id", "x-user-role", "x-scope", "x-forwarded-for", "x-request-id"}
_SUBJECT, _ID = web.RequestKey("subject", str), web.RequestKey("id", str)


class JsonLines(AbstractAccessLogger):
    """Writes the access log as JSON, a line for each request, through ``logging``."""

    def log(self, request: web.BaseRequest, response: web.StreamResponse, time: float) -> None:
        """Write one line."""
        fields = {
            "time": self.now(),
            "request_id": request.get(_ID, ""),
            "client": request.remote,
            "method": request.method,
            "path": request.path,
            "route": "/",
            "status": response.status,
            "outcome": "forwarded" if _SUBJECT in request else "refused",
            "duration_ms": round(time * 1e3, 3),
            "credential": "jwt",
            "issuer": "main",
            "subject": request.get(_SUBJECT, ""),
            "upstream": "service",
            "bytes_in": request.content_length or 0,
            "bytes_out": response.body_length,
        }
        self.logger.info(json.dumps(fields))

    @staticmethod
    def now() -> str:
        """Return the time of the line."""
        return datetime.now(UTC).isoformat(timespec="milliseconds")


class Proxy:
    """Checks the token, sets three headers, forwards."""

    def __init__(self, upstream: str, key: bytes, algorithm: str, cache_size: int) -> None:
        self._upstream, self._key, self._algorithm, self._cache_size = upstream, key, algorithm, cache_size
        self._cache: dict[str, dict[str, Any]] = {}

    async def open(self, app: web.Application) -> AsyncIterator[None]:
        """Hold the client session as long as the application runs."""
        async with ClientSession() as self._session:
            yield

    def claims(self, authorization: str) -> dict[str, Any] | None:
        """Return the claims of a good token, else None."""
        if not authorization.startswith("Bearer "):
            return None
        token = authorization[7:]
        known = self._cache.get(token)
        if known is not None and known["exp"] > time.time():
            return known
        try:
            claims: dict[str, Any] = jwt.decode(
                token, self._key, algorithms=[self._algorithm], audience=AUDIENCE, issuer=ISSUER
            )
        except jwt.PyJWTError:
            return None
        if len(self._cache) >= self._cache_size:
            self._cache.clear()
        self._cache[token] = claims
        return claims

    async def handle(self, request: web.Request) -> web.Response:
        """Serve one request."""
        claims = self.claims(request.headers.get("Authorization", ""))
        if claims is None:
            return web.json_response({"error": "invalid_token"}, status=401)
        headers = {name: value for name, value in request.headers.items() if name.lower() not in REPLACED}
        request[_SUBJECT] = claims["sub"]
        request[_ID] = headers["x-request-id"] = request.headers.get("x-request-id") or uuid.uuid4().hex
        headers["x-forwarded-for"] = request.remote or ""
        headers["x-user-id"] = claims["sub"]
        headers["x-user-role"] = claims["role"]
        headers["x-scope"] = claims["scope"]
        async with self._session.request(
            request.method,
            self._upstream + request.path_qs,
            headers=headers,
            data=await request.read(),
            allow_redirects=False,
        ) as answer:
            kept = {name: value for name, value in answer.headers.items() if name.lower() not in HOP_BY_HOP}
            return web.Response(status=answer.status, headers=kept, body=await answer.read())


def access_logger(file: str) -> logging.Logger | None:
    """Return a logger that appends bare lines to a file; None without one."""
    if not file:
        return None
    logger = logging.getLogger("access")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    logger.addHandler(logging.FileHandler(file))
    return logger


def main(port: str, upstream: str, key: str, algorithm: str, cache_size: str, log: str, *certificate: str) -> None:
    """Run the proxy until it is stopped."""
    proxy = Proxy(f"http://127.0.0.1:{upstream}", Path(key).read_bytes(), algorithm, int(cache_size))
    app = web.Application(client_max_size=1 << 24)
    app.cleanup_ctx.append(proxy.open)
    app.router.add_route("*", "/{path:.*}", proxy.handle)
    context = None
    if certificate:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(*certificate)
    web.run_app(
        app,
        host="127.0.0.1",
        port=int(port),
        access_log=access_logger(log),
        access_log_class=JsonLines,
        print=None,
        ssl_context=context,
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
