"""What the kernel has: buffers for each connection, which tests of back-pressure must exceed, and IPv6."""

from __future__ import annotations

import socket
from pathlib import Path

from tests.conftest import require

MIB = 1 << 20

#: Where Linux says how far it lets a TCP buffer grow by itself: least, first and largest size in bytes.
_LARGEST = (Path("/proc/sys/net/ipv4/tcp_rmem"), Path("/proc/sys/net/ipv4/tcp_wmem"))


def most_buffered(connections: int) -> int:
    """Return the bytes that the kernel's buffers hold at most for so many connections in a row.

    Elsewhere than on Linux: 16 MiB for each, far beyond what other kernels grow to by default.
    """
    if not all(path.exists() for path in _LARGEST):
        return connections * 16 * MIB
    return connections * sum(int(path.read_text().split()[2]) for path in _LARGEST)


def require_ipv6() -> None:
    """Skip the calling test where there is no IPv6 loopback address (under CI=true fail it)."""
    require(_has_ipv6(), "IPv6 is off: sysctl net.ipv6.conf.lo.disable_ipv6=0, in a container by its --sysctl")


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True
