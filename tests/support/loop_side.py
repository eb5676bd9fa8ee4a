"""What passes between the event loop and the gateway: timers, bytes, connections, and callbacks for its next turn.

Notes it and holds it back, for what no client can see from its end.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest


class Timer:
    """One timer of the loop, and what it calls."""

    handle: asyncio.TimerHandle

    def __init__(self, delay: float, callback: Callable[..., Any], args: tuple[Any, ...]) -> None:
        self.delay = delay
        self.has_run = False
        self._callback, self._args = callback, args

    def calls(self, owner: object) -> bool:
        """Return whether it calls a method of that object."""
        return getattr(self._callback, "__self__", None) is owner

    def run(self) -> None:
        """Call what is to be called, once."""
        self.has_run = True
        self._callback(*self._args)


class Timers:
    """The timers that are set on the running loop from now on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._made: list[Timer] = []
        loop = asyncio.get_running_loop()
        whole = loop.call_later

        def noting(delay: float, callback: Callable[..., Any], *args: Any, **options: Any) -> asyncio.TimerHandle:
            timer = Timer(delay, callback, args)
            timer.handle = whole(delay, timer.run, **options)
            self._made.append(timer)
            return timer.handle

        monkeypatch.setattr(loop, "call_later", noting)

    def stopped(self, seconds: float) -> list[bool]:
        """Return for each timer of that length whether it was stopped."""
        return [timer.handle.cancelled() for timer in self._made if timer.delay == seconds]

    def lengths(self, owner: object) -> list[float]:
        """Return the seconds of each timer that calls a method of that object."""
        return [timer.delay for timer in self._made if timer.calls(owner)]

    def run_out(self, owner: object) -> None:
        """Have the timers that call methods of that object run now, as if their time had passed."""
        for timer in list(self._made):
            if timer.calls(owner) and not timer.has_run and not timer.handle.cancelled():
                timer.handle.cancel()
                timer.run()


class Arrivals:
    """What the loop reports to protocols of one kind.

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
