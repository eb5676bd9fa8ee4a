"""Listening on an address as the configuration writes it.

Only the three forms of an address live here: ``host:port``, ``[v6]:port`` and
``unix:/path``.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import ssl
import stat
from collections.abc import Callable


async def listen(
    protocol: Callable[[], asyncio.BaseProtocol],
    address: str,
    *,
    tls: ssl.SSLContext | None = None,
    handshake_timeout: float | None = None,
    backlog: int = 128,
) -> asyncio.Server:
    """Return a server that listens on ``address``.

    Args:
        handshake_timeout: seconds for a TLS handshake; without ``tls`` it means nothing.

    Raises:
        OSError: the address is taken, not ours, or not permitted.
    """
    loop = asyncio.get_running_loop()
    patience = handshake_timeout if tls is not None else None
    if address.startswith("unix:"):
        path = address.removeprefix("unix:")
        _remove_stale_socket(path)
        return await loop.create_unix_server(protocol, path, ssl=tls, backlog=backlog, ssl_handshake_timeout=patience)
    host, _, port = address.rpartition(":")
    return await loop.create_server(
        protocol,
        host.strip("[]") or None,
        int(port),
        ssl=tls,
        ssl_handshake_timeout=patience,
        backlog=backlog,
        reuse_address=True,
    )


def bound_port(server: asyncio.Server) -> int:
    """Return the TCP port of a server; 0 for a Unix socket."""
    name = server.sockets[0].getsockname()
    return int(name[1]) if isinstance(name, tuple) else 0


def _remove_stale_socket(path: str) -> None:
    """Remove the socket file that an earlier run left.

    A file that is no socket stays, and fails the start. So does a socket that
    somebody listens on: the event loop would replace it without asking, and
    cut a running gateway off.
    """
    try:
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            return
        with socket.socket(socket.AF_UNIX) as probe:
            probe.setblocking(False)
            with contextlib.suppress(BlockingIOError):  # somebody listens, and is busy
                probe.connect(path)
    except FileNotFoundError:
        return
    except ConnectionRefusedError:
        os.unlink(path)
        return
    raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE), path)
