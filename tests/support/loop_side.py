"""What passes between the event loop and the gateway: timers, bytes, connections, and callbacks for its next turn.

Only the noting and the holding of it lives here, for what no client can see from its end.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest


class Timers:
    """The timers that are set on the running loop from now on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._made: list[tuple[float, Callable[..., Any], asyncio.TimerHandle]] = []
        loop = asyncio.get_running_loop()
        whole = loop.call_later

        def noting(delay: float, callback: Callable[..., Any], *args: Any, **options: Any) -> asyncio.TimerHandle:
            handle = whole(delay, callback, *args, **options)
            self._made.append((delay, callback, handle))
            return handle

        monkeypatch.setattr(loop, "call_later", noting)

    def stopped(self, seconds: float) -> list[bool]:
        """Return of each timer of that length whether somebody has stopped it."""
        return [handle.cancelled() for delay, _, handle in self._made if delay == seconds]

    def lengths(self, owner: object) -> list[float]:
        """Return the seconds of each timer that calls a method of that object."""
        return [delay for delay, callback, _ in self._made if getattr(callback, "__self__", None) is owner]


class Arrivals:
    """What the loop tells protocols of one kind.

    Attributes:
        transports: of their connections, in order.
        data: what came on them, piece by piece; noted once it was looked at.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, kind: type[asyncio.Protocol]) -> None:
        self.transports: list[asyncio.Transport] = []
        self.data: list[bytes] = []
        made, received = kind.connection_made, kind.data_received

        def connection_made(protocol: asyncio.Protocol, transport: asyncio.BaseTransport) -> None:
            self.transports.append(cast(asyncio.Transport, transport))
            made(protocol, transport)

        def data_received(protocol: asyncio.Protocol, data: bytes) -> None:
            received(protocol, data)
            self.data.append(data)

        monkeypatch.setattr(kind, "connection_made", connection_made)
        monkeypatch.setattr(kind, "data_received", data_received)


@contextlib.contextmanager
def standing_still(owner: object) -> Iterator[None]:
    """Keep the running loop from calling that object in its next turn; at the end it does."""
    loop = asyncio.get_running_loop()
    whole = loop.call_soon
    held: list[Callable[[], object]] = []

    def call_soon(callback: Callable[..., Any], *args: Any, **options: Any) -> asyncio.Handle:
        if getattr(callback, "__self__", None) is not owner:
            return whole(callback, *args, **options)
        held.append(callback)
        return whole(int)  # a callback that does nothing

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "call_soon", call_soon)
        yield
    for callback in held:
        whole(callback)
