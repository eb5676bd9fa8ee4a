"""Clients that end their sending, or close as soon as they have their answer: none of their sockets stays."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.server.sockets import half_closed
from tests.support.certificates import authority
from tests.support.gateways.lanes import running_in
from tests.support.gateways.running import RunningGateway, request, running_gateway, until
from tests.support.upstreams.recording import raw_upstream

ROUTES: tuple[dict[str, Any], ...] = ({"path": "/"}, {"path": "/pub", "auth": "public"})

# A process of its own, so that its end of a connection closes while the gateway is still at the answer.
CLIENT = """
import socket, ssl, sys
port, count, request, bundle = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3].encode(), sys.argv[4]
context = ssl.create_default_context(cafile=bundle) if bundle else None
answered = 0
for _ in range(count):
    with socket.create_connection(("127.0.0.1", port), timeout=30) as plain:
        one = context.wrap_socket(plain, server_hostname="localhost") if context else plain
        one.sendall(request)
        answered += one.recv(65536).startswith(b"HTTP/1.1 ")
        one.close()
print(answered)
"""

REQUESTS = {
    "served": "GET /pub HTTP/1.1\r\nHost: a\r\n\r\n",
    "refused": "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "last": "GET /pub HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    "malformed": "GET /pub HTTP/1.1\r\nHost : a\r\n\r\n",
    "with content": "POST /pub HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc",
}


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no socket be closed for having been silent: that would hide those that are left."""
    monkeypatch.setattr(half_closed, "ASK_SECONDS", 600.0)


@pytest.fixture(params=["express", "full"], autouse=True)
def lane(request: pytest.FixtureRequest) -> Iterator[str]:
    """Run each test in either lane."""
    with running_in(request.param, "off"):
        yield request.param


async def calls(gateway: RunningGateway, count: int, sent: str, bundle: str = "") -> int:
    """Have one client make so many calls, each on a connection of its own; return how many were answered."""
    arguments = (CLIENT, str(gateway.app.port), str(count), sent, bundle)
    client = await asyncio.create_subprocess_exec(
        sys.executable, "-I", "-c", *arguments, stdout=asyncio.subprocess.PIPE
    )
    found, _ = await client.communicate()
    return int(found)


async def none_is_left(gateway: RunningGateway) -> None:
    """Wait until the gateway holds no connection of a client any more."""
    app = gateway.app
    await until(lambda: app.telemetry.connections == app.telemetry.lingering == 0, within=10)
    await until(lambda: not (app.listener.connections or app.express.connections))


@pytest.mark.parametrize("kind", REQUESTS)
@pytest.mark.rule("R285", "R431")
async def test_client_that_closes_right_behind_its_answer_leaves_no_socket(kind: str, tmp_path: Path) -> None:
    """Whatever the answer is."""
    async with raw_upstream() as upstream, running_gateway(upstream.url, tmp_path, routes=ROUTES) as gateway:
        assert await asyncio.gather(*(calls(gateway, 300, REQUESTS[kind]) for _ in range(2))) == [300, 300]
        await none_is_left(gateway)


@pytest.mark.parametrize("kind", REQUESTS)
@pytest.mark.rule("R285", "R431")
async def test_client_over_tls_that_closes_right_behind_its_answer_leaves_no_socket(kind: str, tmp_path: Path) -> None:
    """Whatever the answer is; there is no close_notify either."""
    ca = authority(tmp_path / "ca")
    own = ca.sign("gateway", "localhost", "127.0.0.1")
    server = {"tls_cert": str(own.cert), "tls_key": str(own.key)}
    async with (
        raw_upstream() as upstream,
        running_gateway(upstream.url, tmp_path, routes=ROUTES, server=server) as gateway,
    ):
        found = await asyncio.gather(*(calls(gateway, 50, REQUESTS[kind], str(ca.bundle)) for _ in range(2)))
        assert found == [50, 50]
        await none_is_left(gateway)


BEGUN = {
    "length": request(b"POST", "/pub", (b"Content-Length", b"10"), body=b"abc"),
    "chunks": request(b"POST", "/pub", (b"Transfer-Encoding", b"chunked"), body=b"3\r\nabc\r\n"),
    "head": b"GET /pub HTTP/1.1\r\nHost: a\r\n",
}


@pytest.mark.parametrize("kind", BEGUN)
@pytest.mark.parametrize("whole", [1, 2, 3])
async def test_what_came_whole_is_answered_though_another_request_has_begun_behind_it(
    kind: str, whole: int, tmp_path: Path
) -> None:
    """RFC 9112 section 9.6: the unfinished one alone is given up, and the connection is closed behind the answers."""
    async with raw_upstream() as upstream, running_gateway(upstream.url, tmp_path, routes=ROUTES) as gateway:
        client = await gateway.client()
        await client.send(request(b"GET", "/pub") * whole + BEGUN[kind])
        client.half_close()
        assert [(await client.response()).status for _ in range(whole)] == [200] * whole
        assert await client.at_end()
        await none_is_left(gateway)
        assert sum(one.complete for one in upstream.requests) == whole
