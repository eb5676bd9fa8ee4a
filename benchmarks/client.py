"""One client connection of the bundled load generator: bytes out, one whole response in.

It understands just enough of HTTP/1.1 to see where a response ends. It never
waits: the generator's selector says when there is something to do.
"""

from __future__ import annotations

import contextlib
import selectors
import socket

READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE

_READ_SIZE = 1 << 18


class Connection:
    """A loopback connection that is registered with a selector.

    Attributes:
        due: when the request that it carries had to be sent.
        status: that of the last response.
        received: bytes of the last response.
        ends: the other side closes after this response.
    """

    def __init__(self, port: int, selector: selectors.BaseSelector) -> None:
        self._selector = selector
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=5)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.setblocking(False)
        selector.register(self._socket, READ, self)
        self._rest = memoryview(b"")
        self._head = b""
        self._missing: int | None = None
        self._chunked = False
        self._tail = b""
        self.due = 0.0
        self.status = self.received = 0
        self.ends = False

    def send(self, message: bytes, due: float) -> None:
        """Begin a request."""
        self.due = due
        self.status = self.received = 0
        self._head, self._missing = b"", None
        self._rest = memoryview(message)
        self.send_rest()

    def send_rest(self) -> None:
        """Send what the system did not take at once."""
        waited = self._selector.get_key(self._socket).events & WRITE
        with contextlib.suppress(BlockingIOError):
            self._rest = self._rest[self._socket.send(self._rest) :]
        if bool(self._rest) != bool(waited):
            self._selector.modify(self._socket, READ | WRITE if self._rest else READ, self)

    def receive(self) -> bool:
        """Read; tell whether the response is complete now.

        Raises:
            ConnectionError: the other side closed before its end.
        """
        try:
            data = self._socket.recv(_READ_SIZE)
        except BlockingIOError:
            return False
        if not data:
            if self._missing == -1 and not self._chunked:
                return True
            raise ConnectionResetError("closed before the end of the response")
        self.received += len(data)
        if self.status:
            return self._content(data)
        self._head += data
        end = self._head.find(b"\r\n\r\n")
        return end >= 0 and self._begin(self._head[: end + 2].lower(), self._head[end + 4 :])

    def close(self) -> None:
        self._selector.unregister(self._socket)
        self._socket.close()

    def _begin(self, head: bytes, content: bytes) -> bool:
        self.status = int(head[9:12])
        self.ends = b"\r\nconnection: close\r\n" in head
        self._chunked = b"\r\ntransfer-encoding: chunked\r\n" in head
        self._tail = b""
        start = head.find(b"\r\ncontent-length:")
        if start >= 0:
            self._missing = int(head[start + 17 : head.index(b"\r\n", start + 17)])
        else:
            # Without a length the content ends with its last chunk, or with the connection.
            self._missing = 0 if self.status in (204, 304) else -1
        return self._content(content)

    def _content(self, data: bytes) -> bool:
        assert self._missing is not None
        if self._missing >= 0:
            self._missing -= len(data)
            return self._missing <= 0
        if not self._chunked:
            return False
        self._tail = (self._tail + data)[-7:]
        return self._tail.endswith(b"\r\n0\r\n\r\n") or self._tail == b"0\r\n\r\n"
