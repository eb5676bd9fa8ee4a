"""A server that speaks Redis' protocol and answers what a test wants, also what no Redis would.

This file has the server's side, on a real loopback socket. What a test does not
ask for is answered as by an empty Redis, as far as the gateway asks.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Self

#: Answers of RESP2 and RESP3 that are none to anything that the gateway asks.
ODD_ANSWERS = (
    b":-5\r\n",
    b":7\r\n",
    b":none\r\n",
    b"+QUEUED\r\n",
    b"+inf\r\n",
    b"$3\r\ninf\r\n",
    b"$3\r\nnan\r\n",
    b"$2\r\n-5\r\n",
    b"$0\r\n\r\n",
    b"$-7\r\n",
    b"*0\r\n",
    b"*1\r\n+OK\r\n",
    b"*2\r\n:1\r\n$3\r\ninf\r\n",
    b"*2\r\n:1\r\n$3\r\nnan\r\n",
    b"*2\r\n:1\r\n$2\r\n-5\r\n",
    b"*2\r\n:2\r\n$1\r\n0\r\n",
    b"*2\r\n$-1\r\n$-5\r\n",
    b"*2\r\n*0\r\n*0\r\n",
    b"*2\r\n-ERR one\r\n-ERR two\r\n",
    b"*1\r\n" * 5000 + b":1\r\n",
    b"_\r\n",
    b"#t\r\n",
    b",inf\r\n",
    b",nan\r\n",
    b"(12345678901234567890\r\n",
    b"%1\r\n+a\r\n:1\r\n",
    b"~1\r\n:1\r\n",
    b">2\r\n+message\r\n+b\r\n",
    b"=7\r\ntxt:inf\r\n",
    b"-ERR unknown command\r\n",
    b"-WRONGTYPE Operation against a key holding the wrong kind of value\r\n",
    b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n",
    b"\x16\x03\x01\x00\x05hello\r\n",
)

_EMPTY = {
    b"TIME": b"*2\r\n$10\r\n1700000000\r\n$1\r\n0\r\n",
    b"SELECT": b"+OK\r\n",
    b"SET": b"+OK\r\n",
    b"PSETEX": b"+OK\r\n",
    b"GET": b"$-1\r\n",
    b"INFO": b"$13\r\nrole:master\r\n\r\n",
    b"HDEL": b":0\r\n",
}

# What the script answers that takes from one bucket.
_BUCKET = b"*2\r\n:1\r\n$1\r\n0\r\n"

# What the scripts answer that read the log of revocations, and write to it.
_EPOCH = b"$16\r\n0123456789abcdef\r\n"
_PAGE, _ADDED = b"*4\r\n" + _EPOCH + b"$1\r\n0\r\n$1\r\n0\r\n$0\r\n\r\n", b"*2\r\n" + _EPOCH + b":1\r\n"

# What the script answers that uses an id up, and when it is only asked since when it remembers.
_NEW, _LOOKED = b"$9\r\nnew 1 0 0\r\n", b"$12\r\nlooked 1 0 0\r\n"


class RespServer:
    """One server; ``async with`` starts and ends it.

    Attributes:
        odd: by the name of a command, the bytes that are sent for it instead of a good answer.
        asked: the names of the commands, in order.
        subscribers: the channels that were subscribed to, and the connections that did.
    """

    def __init__(self) -> None:
        self.odd: dict[bytes, bytes | Callable[[], bytes]] = {}
        self.asked: list[bytes] = []
        self.subscribers: list[tuple[bytes, asyncio.StreamWriter]] = []
        self._connections: set[asyncio.StreamWriter] = set()

    @property
    def url(self) -> str:
        """Its address for ``[redis] url``."""
        return f"redis://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/0"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections.add(writer)
        try:
            while (line := await reader.readline()).startswith(b"*"):
                parts = []
                for _ in range(int(line[1:])):
                    size = int((await reader.readline())[1:])
                    parts.append((await reader.readexactly(size + 2))[:-2])
                self.asked.append(parts[0].upper())
                if self.asked[-1] == b"SUBSCRIBE":
                    self.subscribers.append((parts[1], writer))
                writer.write(self._answer(parts))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self._connections.discard(writer)
            writer.close()

    def _answer(self, parts: list[bytes]) -> bytes:
        name = parts[0].upper()
        if name in self.odd:
            answer = self.odd[name]
            return answer() if callable(answer) else answer
        if name in (b"EVAL", b"EVALSHA"):
            arguments = len(parts) - 3 - int(parts[2])
            if parts[3] == b"gateway:fleet":
                return b"*0\r\n"
            if parts[3].startswith(b"gateway:2:used:"):
                return _LOOKED if parts[2] == b"1" else _NEW
            if parts[3] == b"gateway:{revocation}:restoring":
                return b"+OK\r\n" if arguments else b":1\r\n"
            if parts[3] == b"gateway:{revocation}:log":
                return _ADDED if parts[2] == b"5" else _PAGE if arguments == 3 else b":0\r\n"
            return _BUCKET
        if name == b"SUBSCRIBE":
            return b"*3\r\n$9\r\nsubscribe\r\n$%d\r\n%b\r\n:1\r\n" % (len(parts[1]), parts[1])
        return _EMPTY.get(name, b"-ERR unknown command\r\n")

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    def tell(self, message: bytes) -> None:
        """Send each subscriber a message of its channel; ``message`` as it is encoded."""
        for channel, writer in self.subscribers:
            writer.write(b"*3\r\n$7\r\nmessage\r\n$%d\r\n%b\r\n%b" % (len(channel), channel, message))

    def cut(self) -> None:
        """Break off every connection."""
        for writer in list(self._connections):
            writer.transport.abort()

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        self.cut()
        await self._server.wait_closed()
