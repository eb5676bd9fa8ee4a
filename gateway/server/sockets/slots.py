"""The sockets of clients: how many there are, and how many there may be.

Counts them. A socket has a slot from the moment it is accepted, before its TLS
handshake, until it is closed: either one of those that are served
(``max_connections``), or one of the fewer for those that are turned away or
wait for the end of what a refused client sends. A connection without a slot is
closed at once. So the files that are kept for upstreams, the admin port and
everything else stay free, whatever clients do (CWE-770).
"""

from __future__ import annotations

from gateway.telemetry.counters import Telemetry


def lingering_places(connections: int) -> int:
    """Return how many sockets may linger beside so many that are served."""
    return max(1, connections // 8)


class Places:
    """The slots of one process.

    Args:
        telemetry: where they are counted.
        connections: how many sockets are served.
    """

    def __init__(self, telemetry: Telemetry, connections: int) -> None:
        self.telemetry = telemetry
        self._connections = connections
        self._lingering = lingering_places(connections)

    def serve(self) -> Place | None:
        """Return a slot in which requests are served; None when all are taken."""
        if self.telemetry.connections >= self._connections:
            return None
        self.telemetry.connections += 1
        return Place(self.telemetry, lingering=False)

    def linger(self) -> Place | None:
        """Return a slot for being turned away, or for lingering after a refusal; None when all are taken."""
        if self.telemetry.lingering >= self._lingering:
            return None
        self.telemetry.lingering += 1
        return Place(self.telemetry, lingering=True)


class Place:
    """One slot, held by one socket.

    Attributes:
        lingering: no requests are served in it.
    """

    __slots__ = ("_telemetry", "lingering")

    def __init__(self, telemetry: Telemetry, *, lingering: bool) -> None:
        self._telemetry: Telemetry | None = telemetry
        self.lingering = lingering

    def give_back(self) -> None:
        """Let another socket have it. A second time changes nothing."""
        telemetry, self._telemetry = self._telemetry, None
        if telemetry is None:
            return
        if self.lingering:
            telemetry.lingering -= 1
        else:
            telemetry.connections -= 1
