"""What the kernel itself may hold for a connection, so that tests of back-pressure know what it cannot explain."""

from __future__ import annotations

from pathlib import Path

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
