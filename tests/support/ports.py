"""Ports for programs that cannot pick one themselves: nothing else lives here."""

from __future__ import annotations

import contextlib
import random
import socket
from pathlib import Path

#: Where Linux says from which port on it gives one to each connection that goes out.
_GIVEN_OUT = Path("/proc/sys/net/ipv4/ip_local_port_range")

_FIRST = 10_000


def free_port() -> int:
    """Return a loopback port that is free now, and that no outgoing connection is given meanwhile."""
    return free_pair(0)


def free_pair(distance: int) -> int:
    """Return such a port, with the one that lies ``distance`` above it free, too."""
    end = int(_GIVEN_OUT.read_text().split()[0]) if _GIVEN_OUT.exists() else 32_768
    while True:
        port = random.randrange(_FIRST, max(end - distance, _FIRST + 1_000))
        with contextlib.suppress(OSError), socket.socket() as one, socket.socket() as other:
            one.bind(("127.0.0.1", port))
            if distance:
                other.bind(("127.0.0.1", port + distance))
            return port
