"""The plainest proxy that Python can be: bytes in, the same bytes out, on both sides an ``asyncio.Protocol`` on uvloop.

It is here as a limit, not as a gateway: no authentication, no header is read but those that say where a message ends,
and these only as the benchmark's load and service spell them; nothing is refused, and a client that sends requests
ahead is not served right. With a third argument it writes an access log, several lines at a time.

Arguments: port, port of the service, file of the access log (none: no log).
"""

from __future__ import annotations

import asyncio
import sys
import time
from datetime import UTC, datetime
from typing import cast

import uvloop

_LENGTH, _CHUNKED, _CLOSE = b"\r\nContent-Length: ", b"\r\nTransfer-Encoding: chunked\r\n", b"\r\nConnection: close\r\n"

#: Seconds between two writes of the access log.
LOG_SECONDS = 0.05


class Ends:
    """Finds the end of one message after the other in the bytes of one side."""

    def __init__(self) -> None:
        self.head = b""
        self._missing = 0
        self._chunked = False

    def take(self, data: bytes) -> bool:
        """Add bytes; tell whether they end the message."""
        if not self.head:
            end = data.find(b"\r\n\r\n") + 4
            if end == 3:
                raise ValueError("a head in several pieces")
            self.head = data[:end]
            found = self.head.find(_LENGTH) + len(_LENGTH)
            has_length = found >= len(_LENGTH)
            self._missing = int(self.head[found : self.head.index(b"\r", found)]) if has_length else 0
            self._chunked = not has_length and _CHUNKED in self.head
            data = data[end:]
        self._missing -= len(data)
        return data.endswith(b"0\r\n\r\n") if self._chunked else self._missing <= 0

    def begin(self) -> None:
        """Wait for the next message."""
        self.head = b""


class Log:
    """Collects lines and writes them now and then."""

    def __init__(self, file: str) -> None:
        self._file = open(file, "a")  # noqa: SIM115 - as long as the process
        self._lines: list[str] = []
        asyncio.get_running_loop().call_later(LOG_SECONDS, self._write)

    def add(self, client: str, head: bytes, answer: bytes, began: float) -> None:
        """Add a line."""
        method, target, _ = head.split(b" ", 2)
        path, now = target.partition(b"?")[0].decode(), datetime.now(UTC).isoformat(timespec="milliseconds")
        took = (time.monotonic() - began) * 1e3
        self._lines.append(
            f'{{"time":"{now}","request_id":"","client":"{client}","method":"{method.decode()}","path":"{path}",'
            f'"route":"/","status":{int(answer[9:12])},"outcome":"forwarded","duration_ms":{took:.3f},"credential":"",'
            f'"issuer":"","subject":"","upstream":"service","upstream_ms":{took:.3f},"bytes_in":0,"bytes_out":0}}\n'
        )

    def _write(self) -> None:
        text = "".join(self._lines)
        self._lines.clear()
        self._file.write(text)
        self._file.flush()
        asyncio.get_running_loop().call_later(LOG_SECONDS, self._write)


class Upstream(asyncio.Protocol):
    """One connection to the service, which carries one request at a time."""

    def __init__(self, proxy: Proxy) -> None:
        self._proxy = proxy
        self._ends = Ends()
        self.client: Client | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        client = self.client
        if client is None:
            return
        client.transport.write(data)
        if self._ends.take(data):
            answer = self._ends.head
            self._ends.begin()
            self.client = None
            self._proxy.idle.append(self)
            client.answered(answer)

    def connection_lost(self, error: Exception | None) -> None:
        if self in self._proxy.idle:
            self._proxy.idle.remove(self)


class Client(asyncio.Protocol):
    """One connection of a client."""

    def __init__(self, proxy: Proxy) -> None:
        self._proxy = proxy
        self._ends = Ends()
        self._upstream: Upstream | None = None
        self._began = 0.0
        self._waiting: list[bytes] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self._address = transport.get_extra_info("peername")[0]

    def data_received(self, data: bytes) -> None:
        if self._upstream is None and self._waiting is None:
            self._began = time.monotonic()
            if self._proxy.idle:
                self._upstream = self._proxy.idle.pop()
                self._upstream.client = self
            else:
                self._waiting = []
                self._proxy.open(self)
        self._ends.take(data)
        if self._upstream is not None:
            self._upstream.transport.write(data)
        elif self._waiting is not None:
            self._waiting.append(data)

    def connected(self, upstream: Upstream) -> None:
        """Send what has come meanwhile."""
        self._upstream, upstream.client = upstream, self
        upstream.transport.writelines(self._waiting or [])
        self._waiting = None

    def answered(self, answer: bytes) -> None:
        """Wait for the next request."""
        self._upstream = None
        if self._proxy.log is not None:
            self._proxy.log.add(self._address, self._ends.head, answer, self._began)
        if _CLOSE in self._ends.head:
            self.transport.close()
        self._ends.begin()


class Proxy:
    """What all connections share."""

    def __init__(self, upstream: int, log: Log | None) -> None:
        self._port = upstream
        self.log = log
        self.idle: list[Upstream] = []
        self._opening: set[asyncio.Task[None]] = set()

    def open(self, client: Client) -> None:
        """Open a connection for a client."""
        task = asyncio.ensure_future(self._open(client))
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)

    async def _open(self, client: Client) -> None:
        loop = asyncio.get_running_loop()
        _, upstream = await loop.create_connection(lambda: Upstream(self), "127.0.0.1", self._port)
        client.connected(upstream)


async def main(port: str, upstream: str, *log: str) -> None:
    """Run the proxy until it is stopped."""
    proxy = Proxy(int(upstream), Log(log[0]) if log else None)
    server = await asyncio.get_running_loop().create_server(lambda: Client(proxy), "127.0.0.1", int(port), backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(*sys.argv[1:]))
