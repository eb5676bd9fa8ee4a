"""Clients that pipeline as fast as the socket takes it, in a process of their own, so that others do not wait.

``python -m tests.support.clients.pipelining PORT CONNECTIONS KIND [--read] [--tls CA]
[--seconds S]``. They send without a credential, as any client can. Prints how many bytes went out. Nothing of the
gateway is imported here: that would take longer than the sending.
"""

from __future__ import annotations

import argparse
import select
import socket
import ssl
import sys
import time


def request(start: bytes, *fields: bytes, body: bytes = b"") -> bytes:
    """Build a request."""
    return b"\r\n".join([start + b" HTTP/1.1", b"Host: gateway.test", *fields]) + b"\r\n\r\n" + body


CHUNKED = b"Transfer-Encoding: chunked"

#: What is sent, over and over.
KINDS = {
    "refused": request(b"GET /%2e%2e/x") * 4000,
    "alike": request(b"GET /") * 4000,
    "different": b"".join(request(b"GET /%d" % number, b"X-A: %d" % number) for number in range(4000)),
    "content": request(b"POST /", b"Content-Length: 3", body=b"abc") * 3000,
    "chunked": request(b"POST /", CHUNKED, body=b"1\r\na\r\n1\r\nb\r\n0\r\n\r\n") * 3000,
    "many fields": request(b"GET /", *(b"X-%d:" % number for number in range(900))) * 30,
    "one upload": request(b"POST /", CHUNKED, body=b"1\r\na\r\n" * 50_000),
}


class Pipeliner:
    """One connection."""

    def __init__(self, sock: socket.socket, data: bytes, *, reads: bool) -> None:
        self._sock, self._data, self._reads = sock, data, reads
        self._left = memoryview(data)
        self.sent = 0

    def turn(self) -> bool:
        """Send and read what goes now; return whether the connection still stands."""
        try:
            while True:
                count = self._sock.send(self._left[: 1 << 16])
                self.sent += count
                self._left = self._left[count:] or memoryview(self._data)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            pass
        except OSError:
            return False
        try:
            while self._reads and self._sock.recv(1 << 16):
                pass
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return True
        except OSError:
            return False
        return not self._reads


def connected(port: int, authority: str) -> socket.socket:
    """Connect, with TLS if there is an authority."""
    sock = socket.create_connection(("127.0.0.1", port))
    if authority:
        sock = ssl.create_default_context(cafile=authority).wrap_socket(sock, server_hostname="localhost")
    sock.setblocking(False)
    return sock


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("connections", type=int)
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("--read", action="store_true")
    parser.add_argument("--tls", default="")
    parser.add_argument("--seconds", type=float, default=2.0)
    options = parser.parse_args()
    data = KINDS[options.kind]
    ends, sent = time.monotonic() + options.seconds, 0
    standing: dict[socket.socket, Pipeliner] = {}
    while time.monotonic() < ends:
        while len(standing) < options.connections:
            sock = connected(options.port, options.tls)
            standing[sock] = Pipeliner(sock, data, reads=options.read)
        readable, writable, _ = select.select(standing if options.read else [], standing, [], 0.05)
        for sock in {*readable, *writable}:
            if not standing[sock].turn():
                sent += standing.pop(sock).sent
                sock.close()
    print(sent + sum(one.sent for one in standing.values()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
