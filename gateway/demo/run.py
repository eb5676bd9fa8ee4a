"""The demo: an identity provider, a service and the gateway between them, on loopback.

Starts the three, sends the requests that show what the gateway does, and asks
the provider for a token. The gateway gets the settings that a user would write;
nothing in it knows that this is a demo.
"""

from __future__ import annotations

import asyncio
import base64
import json
import signal
import socket
import sys
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import aiohttp
import uvloop

from gateway.app import GatewayApp
from gateway.configuration import GatewaySettings
from gateway.demo import identity_provider
from gateway.demo.echo_upstream import EchoUpstream
from gateway.demo.identity_provider import IdentityProvider
from gateway.server.aiohttp_lane.protocol import PurePythonParserError
from gateway.settings.tables.root import Settings

#: Where the gateway listens while the demo stays up; when taken, the system picks.
DEFAULT_PORT = 8080
DEFAULT_ADMIN_PORT = 9090
DEFAULT_UPSTREAM_PORT = 9402

#: The identity provider that ``gateway token`` asks by default.
DEFAULT_ISSUER = f"http://127.0.0.1:{identity_provider.PROVIDER_PORT}"

#: The caller, scope and role of the demo's tokens, and the headers that the upstream must see for them.
ALICE, SCOPE, ROLE = "alice", "orders:read", "merchant"
IDENTITY = {"x-user-id": ALICE, "x-user-role": ROLE, "x-scope": SCOPE}

#: How long the printed tokens work, and how long one request may take, in seconds.
_TOKEN_SECONDS = 3600
_TIMEOUT = aiohttp.ClientTimeout(total=10)


@dataclass(frozen=True, slots=True)
class DemoRequest:
    """One of the requests that show what the gateway does.

    Attributes:
        title: what it shows.
        token: the bearer token; empty for none.
        status: the answer that is right.
        error: the ``error`` member of a right refusal.
    """

    title: str
    token: str
    status: int
    error: str = ""


def run_demo(*, once: bool = False, port: int | None = None) -> int:
    """Run the demo and return the exit code of ``gateway demo``.

    Args:
        once: send the requests, print the results and end: 0 if all came out
            right, else 1. Otherwise print them as ``curl`` lines and stay up
            until SIGINT or SIGTERM: 0.
        port: where the gateway listens. None: ``DEFAULT_PORT``, or any free
            port if that is taken or with ``once``.
    """
    try:
        return uvloop.run(_demo(once, port))
    except (OSError, PurePythonParserError) as error:
        print(f"gateway demo: {error}", file=sys.stderr)
        return 1


def print_token(
    issuer: str = DEFAULT_ISSUER, claims: Mapping[str, Any] | None = None, expires_in: int | None = None
) -> int:
    """Print a token from a running demo identity provider and return the exit code of ``gateway token``.

    Args:
        issuer: the provider's base URL.
        claims: added to the token's own; they replace those of the same name.
        expires_in: seconds; None leaves it to the provider.
    """
    try:
        print(uvloop.run(_fetch_token(issuer.rstrip("/"), claims or {}, expires_in)))
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        reason = str(error) or type(error).__name__
        print(f"gateway token: no token from {issuer}: {reason} (is `gateway demo` running?)", file=sys.stderr)
        return 1
    return 0


def settings(issuer: str, upstream: str, port: int, admin_port: int, access_log: str) -> Settings:
    """Return the demo's configuration: one issuer found by discovery, one upstream, one route that needs a token."""
    return GatewaySettings.model_validate(
        {
            "server": {
                "listen": f"127.0.0.1:{port}",
                "admin_listen": f"127.0.0.1:{admin_port}",
                "access_log": access_log,
                "drain_seconds": 2,
            },
            "issuers": [{"name": "demo", "issuer": issuer, "audience": [identity_provider.AUDIENCE]}],
            "upstreams": [{"name": "echo", "urls": [upstream]}],
            "routes": [{"path": "/", "upstream": "echo"}],
        }
    )


def requests(provider: IdentityProvider) -> tuple[DemoRequest, DemoRequest, DemoRequest]:
    """Return the three requests: no token, a valid one, and one whose claims were changed after signing."""
    valid = provider.mint(scope=SCOPE, claims={"sub": ALICE, "role": ROLE}, expires_in=_TOKEN_SECONDS)
    return (
        DemoRequest("no token", "", 401, "missing_token"),
        DemoRequest("a valid token", valid, 200),
        DemoRequest("a tampered token", tamper(valid), 401, "invalid_token"),
    )


def tamper(token: str) -> str:
    """Return ``token`` with another role and the old signature."""
    header, payload, signature = token.split(".")
    claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    claims["role"] = "admin"
    changed = base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=").decode()
    return f"{header}.{changed}.{signature}"


async def _demo(once: bool, port: int | None) -> int:
    stop = asyncio.Event() if once else _on_interrupt()
    async with AsyncExitStack() as stack:
        provider = await stack.enter_async_context(
            IdentityProvider(0 if once else _free(identity_provider.PROVIDER_PORT))
        )
        upstream = await stack.enter_async_context(EchoUpstream(0 if once else _free(DEFAULT_UPSTREAM_PORT)))
        if port is None:
            port = 0 if once else _free(DEFAULT_PORT)
        elif port and not _free(port):
            raise OSError(f"port {port} is taken; choose another one, or leave --port away to get a free one")
        admin_port = 0 if once else _free(DEFAULT_ADMIN_PORT)
        app = GatewayApp(settings(provider.issuer, upstream.url, port, admin_port, "off" if once else "text"))
        stack.push_async_callback(app.stop)
        await app.start()
        url = f"http://127.0.0.1:{app.port}/hello"
        if once:
            return await _send(url, requests(provider))
        _explain(app, provider, upstream, url)
        await stop.wait()
        print("\nStopping.", flush=True)
        await app.drain()
    return 0


def _free(port: int) -> int:
    """Return ``port``, or 0 (any) when another program listens there."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return 0
    return port


def _on_interrupt() -> asyncio.Event:
    """Return an event that the first SIGINT or SIGTERM sets; a second one ends the process at once."""
    loop, interrupted = asyncio.get_running_loop(), asyncio.Event()
    numbers = (signal.SIGINT, signal.SIGTERM)

    def first() -> None:
        interrupted.set()
        for number in numbers:
            loop.remove_signal_handler(number)

    for number in numbers:
        loop.add_signal_handler(number, first)
    return interrupted


def _explain(app: GatewayApp, provider: IdentityProvider, upstream: EchoUpstream, url: str) -> None:
    print(f"identity provider  {provider.issuer}")
    print(f"upstream           {upstream.url} (answers with what it received)")
    print(f"gateway            http://127.0.0.1:{app.port}")
    print(f"its admin port     http://127.0.0.1:{app.admin_port} (/healthz, /readyz, /status, /metrics)")
    for request in requests(provider):
        print(f"\n# {request.title}: {request.status}")
        print(curl(url, request.token))
    print("\n# another token, or: gateway token --claim role=admin")
    print(f"""curl -d grant_type=client_credentials -d 'claims={{"role": "admin"}}' {provider.issuer}/token""")
    print("\n# a new signing key; tokens of the one before stay good until the next rotation")
    print(f"curl -X POST {provider.issuer}/rotate")
    print("\n# Ctrl-C ends the demo.\n", flush=True)


def curl(url: str, token: str) -> str:
    """Return the shell command that sends the request."""
    return f"curl -i -H 'Authorization: Bearer {token}' {url}" if token else f"curl -i {url}"


async def _send(url: str, wanted: tuple[DemoRequest, ...]) -> int:
    """Send the requests, print each result, and return 0 if all are right, else 1."""
    right = True
    async with aiohttp.ClientSession(timeout=_TIMEOUT, trust_env=False) as session:
        for request in wanted:
            headers = {"Authorization": f"Bearer {request.token}"} if request.token else {}
            try:
                async with session.get(url, headers=headers) as answer:
                    status, body = answer.status, await answer.json()
            except (aiohttp.ClientError, TimeoutError, ValueError) as error:
                print(f"{request.title}: WRONG, no answer: {str(error) or type(error).__name__}")
                right = False
                continue
            wrong = fault(request, status, body)
            print(f"{request.title}: {status}, {_result(body)}: {wrong or 'as it should be'}")
            right = right and not wrong
    return 0 if right else 1


def fault(request: DemoRequest, status: int, body: Mapping[str, Any]) -> str:
    """Return what is wrong with an answer, or nothing."""
    if status != request.status:
        return f"WRONG, it should be {request.status}"
    if request.error:
        return "" if body.get("error") == request.error else f"WRONG, the error should be {request.error}"
    wanted = sorted(f"{name}={value}" for name, value in IDENTITY.items())
    return "" if sorted(_identity(body)) == wanted else f"WRONG, it should be {' '.join(wanted)}"


def _result(body: Mapping[str, Any]) -> str:
    return f"error {body['error']}" if "error" in body else f"the upstream saw {' '.join(_identity(body))}"


def _identity(echoed: Mapping[str, Any]) -> list[str]:
    """Return the identity headers that the upstream received, each as often as it came."""
    return [f"{name.lower()}={value}" for name, value in echoed.get("headers", []) if name.lower() in IDENTITY]


async def _fetch_token(issuer: str, claims: Mapping[str, Any], expires_in: int | None) -> str:
    form = {"grant_type": "client_credentials", "claims": json.dumps(dict(claims))}
    if expires_in is not None:
        form["expires_in"] = str(expires_in)
    async with (
        aiohttp.ClientSession(timeout=_TIMEOUT, trust_env=False) as session,
        session.post(f"{issuer}/token", data=form, allow_redirects=False) as answer,
    ):
        body = await answer.json()
    if answer.status != 200 or not isinstance(body, dict) or "access_token" not in body:
        reason = body.get("error_description") if isinstance(body, dict) else None
        raise ValueError(reason or f"status {answer.status}")
    return str(body["access_token"])
