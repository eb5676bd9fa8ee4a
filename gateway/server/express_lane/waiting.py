"""A request of the express lane that waits for a connection to its upstream.

This is its entry in the upstream's queue (``upstream/pool/wait_queue.py``):
no task, no future, no timer. What it does with the connection is
``exchange.py``'s. The danger is a connection that is given to a request whose
client has left: what ends the request takes it out of the queue first.
"""

from __future__ import annotations

from typing import Protocol

from gateway.errors import GatewayError
from gateway.upstream.pool.upstream import Upstream
from gateway.upstream.pool.upstream_url import Lease, Origin
from gateway.upstream.pool.wait_queue import LeaseWait


class WaitingExchange(Protocol):
    """What waits: an exchange."""

    def connected(self, origin: Origin, lease: Lease) -> None:
        """Go on over a connection."""
        ...

    def not_connected(self, error: GatewayError) -> None:
        """End the request: there is no connection for it."""
        ...

    def client_paused(self, paused: bool) -> None:
        """The client cannot take more for now, or can again."""
        ...


class WaitingRequest(LeaseWait):
    """The wait of one request. Used once.

    Args:
        exchange: the request.
        upstream: where it goes.

    Attributes:
        client_paused: its client cannot take more for now.
    """

    __slots__ = ("_exchange", "_upstream", "client_paused")

    def __init__(self, exchange: WaitingExchange, upstream: Upstream) -> None:
        super().__init__()
        self._exchange, self._upstream = exchange, upstream
        self.client_paused = False

    def begin(self) -> None:
        """Stand in the queue; the exchange may be called before this returns."""
        self._upstream.lease_soon(self)

    def end(self) -> None:
        """Leave the queue: the exchange is not called any more."""
        self._upstream.leave(self)

    def leased(self, origin: Origin, lease: Lease) -> None:
        """Have the request go on, as if the connection had been free when it came."""
        self._exchange.connected(origin, lease)
        if self.client_paused:
            self._exchange.client_paused(True)

    def not_leased(self, error: GatewayError) -> None:
        """Have the request end."""
        self._exchange.not_connected(error)
