"""WebSockets through a running gateway, with a client and a server of other projects."""

from __future__ import annotations

import asyncio
import base64
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

from gateway.http1.websocket import accept_value
from tests.support.gateways.running import RawClient, RawResponse, RunningGateway, request
from tests.support.upstreams.recording import Received

KEY = base64.b64encode(b"0123456789abcdef")

#: What makes a plain GET a handshake.
HANDSHAKE = (
    (b"Upgrade", b"websocket"),
    (b"Connection", b"Upgrade"),
    (b"Sec-WebSocket-Key", KEY),
    (b"Sec-WebSocket-Version", b"13"),
)

#: The answer of an upstream that says nothing else.
SWITCHING = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "
    + accept_value(KEY)
    + b"\r\n\r\n"
)

PUBLIC = ({"path": "/", "auth": "public"},)

Handler = Callable[[ServerConnection], Awaitable[None]]


@dataclass
class SocketUpstream:
    """A WebSocket service: its handshakes, and how its connections ended (code and reason)."""

    port: int = 0
    requests: list[Request] = field(default_factory=list)
    ends: list[tuple[int | None, str | None]] = field(default_factory=list)
    open: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


async def echo(connection: ServerConnection) -> None:
    """Send back what comes, text as text and bytes as bytes."""
    async for message in connection:
        await connection.send(message)


@contextlib.asynccontextmanager
async def socket_upstream(
    handler: Handler = echo,
    *,
    subprotocols: Sequence[str] = (),
    answer: Callable[[ServerConnection, Request], Response | None] | None = None,
    **options: Any,
) -> AsyncIterator[SocketUpstream]:
    """Run a service; ``answer`` may refuse a handshake."""
    upstream = SocketUpstream()

    async def serve_one(connection: ServerConnection) -> None:
        upstream.open += 1
        try:
            await handler(connection)
            await connection.close()
        except ConnectionClosed:
            pass
        finally:
            upstream.open -= 1
            upstream.ends.append((connection.close_code, connection.close_reason))

    def handshake(connection: ServerConnection, received: Request) -> Response | None:
        upstream.requests.append(received)
        return None if answer is None else answer(connection, received)

    offered = [Subprotocol(name) for name in subprotocols] or None
    async with serve(
        serve_one, "127.0.0.1", 0, process_request=handshake, subprotocols=offered, ping_interval=None, **options
    ) as server:
        upstream.port = next(iter(server.sockets)).getsockname()[1]
        yield upstream


def dial(
    gateway: RunningGateway,
    path: str = "/",
    *,
    token: bytes = b"",
    headers: Mapping[str, str] | None = None,
    subprotocols: Sequence[str] = (),
    **options: Any,
) -> connect:
    """Connect a WebSocket client to the gateway."""
    fields = dict(headers or {}) | ({"Authorization": f"Bearer {token.decode()}"} if token else {})
    scheme = "wss" if options.get("ssl") else "ws"
    return connect(
        f"{scheme}://127.0.0.1:{gateway.app.port}{path}",
        additional_headers=fields,
        subprotocols=[Subprotocol(name) for name in subprotocols] or None,
        proxy=None,
        ping_interval=None,
        **options,
    )


async def shake(
    gateway: RunningGateway, target: str = "/", *more: tuple[bytes, bytes], token: bytes = b"", behind: bytes = b""
) -> tuple[RawClient, RawResponse]:
    """Send a handshake byte by byte, with ``behind`` in the same write; return the connection and the answer."""
    client = await gateway.client()
    return client, await client.exchange(request(b"GET", target, *HANDSHAKE, *more, token=token) + behind)


async def close_of(client: ClientConnection, within: float = 5) -> tuple[int | None, str | None]:
    """Wait for the end of a client's connection; return code and reason."""
    await client.wait_closed()
    return client.close_code, client.close_reason


async def open_and_wait(received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Open a WebSocket, say nothing, and read to the end."""
    writer.write(SWITCHING)
    while await reader.read(65536):
        pass
