"""A service with scripted answers in a thread of its own, for what speaks blocking sockets."""

from __future__ import annotations

import contextlib
import socketserver
import threading
from collections.abc import Callable, Iterator

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"
REFUSED = b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n"

#: From the whole request to the pieces of the response; None closes the connection instead.
Answers = Callable[[bytes], list[bytes] | None]


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    request_queue_size = 64


@contextlib.contextmanager
def service(answer: Answers) -> Iterator[int]:
    """Run a service that reads requests (with Content-Length at most) and answers; its port is given."""

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            while request := self._read():
                pieces = answer(request)
                if pieces is None:
                    return
                for piece in pieces:
                    self.wfile.write(piece)
                if b"close" in request:
                    return

        def _read(self) -> bytes:
            head = b""
            with contextlib.suppress(ConnectionError):
                while not head.endswith(b"\r\n\r\n"):
                    line = self.rfile.readline()
                    if not line:
                        return b""
                    head += line
                length = head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]
                return head + self.rfile.read(int(length or 0))
            return b""

    with _Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()
