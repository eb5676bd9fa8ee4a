"""A client that uploads over a plain socket and reads at the same time, as most libraries do.

It blocks, on purpose: what asyncio makes of a reset is what is being tested.
"""

from __future__ import annotations

import selectors
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass

#: Seconds for one upload, from its first byte to the end of its answer.
TIMEOUT_SECONDS = 20.0

_PIECE = 65536


@dataclass
class Uploaded:
    """What came of an upload.

    Attributes:
        received: every byte that came back.
        sent: bytes of head and content that the kernel took.
        reset: the connection ended by a fault.
    """

    received: bytes = b""
    sent: int = 0
    reset: bool = False

    @property
    def status(self) -> int:
        """The status code; 0 when not even a status line came."""
        line = self.received.split(b"\r\n", 1)[0].split(b" ")
        return int(line[1]) if len(line) > 1 and line[0].startswith(b"HTTP/1.") else 0

    @property
    def body(self) -> bytes:
        """What came behind the head, out of its chunks."""
        head, _, rest = self.received.partition(b"\r\n\r\n")
        if b"transfer-encoding: chunked" not in head.lower():
            return rest
        body = b""
        while rest:
            size, _, rest = rest.partition(b"\r\n")
            body, rest = body + rest[: int(size, 16)], rest[int(size, 16) + 2 :]
        return body

    @property
    def complete(self) -> bool:
        """Whether the answer came to its marked end."""
        head, _, rest = self.received.partition(b"\r\n\r\n")
        for line in head.lower().split(b"\r\n"):
            if line.startswith(b"content-length:"):
                return len(rest) >= int(line.split(b":")[1])
            if line == b"transfer-encoding: chunked":
                return rest.endswith(b"0\r\n\r\n")
        return False


def upload(port: int, size: int, *, chunked: bool, path: str = "/", stay: bool = False) -> Uploaded:
    """POST ``size`` bytes to a loopback port; return once the answer is complete or the connection has ended.

    Args:
        stay: send all of the content, also behind the answer.
    """
    outcome = Uploaded()
    pieces, waiting = _pieces(size, chunked, path), b""
    deadline = time.monotonic() + TIMEOUT_SECONDS
    with socket.create_connection(("127.0.0.1", port)) as connection, selectors.DefaultSelector() as selector:
        connection.setblocking(False)
        selector.register(connection, selectors.EVENT_READ | selectors.EVENT_WRITE)
        sending = True
        while time.monotonic() < deadline and (not outcome.complete or (stay and sending)):
            for _, events in selector.select(0.5):
                if events & selectors.EVENT_READ:
                    try:
                        data = connection.recv(_PIECE)
                    except OSError:
                        outcome.reset = True
                        return outcome
                    if not data:
                        return outcome
                    outcome.received += data
                elif events & selectors.EVENT_WRITE and sending:
                    waiting = waiting or next(pieces, b"")
                    try:
                        taken = connection.send(waiting) if waiting else 0
                    except OSError:
                        taken = 0  # the answer may be there all the same
                    outcome.sent += taken
                    waiting = waiting[taken:]
                    sending = taken > 0
                    if not sending:
                        selector.modify(connection, selectors.EVENT_READ)
    return outcome


def _pieces(size: int, chunked: bool, path: str) -> Iterator[bytes]:
    framing = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {size}"
    yield f"POST {path} HTTP/1.1\r\nHost: h\r\nContent-Type: x/y\r\n{framing}\r\n\r\n".encode()
    for begin in range(0, size, _PIECE):
        piece = b"x" * min(_PIECE, size - begin)
        yield b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece
    if chunked:
        yield b"0\r\n\r\n"
