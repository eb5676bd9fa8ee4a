"""A small HTTP server on a loopback port, started and stopped with ``async with``.

Starts and stops listening; its subclasses define what is served.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Self

from aiohttp import web


class LoopbackServer(ABC):
    """What the demo's servers share.

    Args:
        port: where to listen; 0 lets the system pick.
    """

    def __init__(self, port: int = 0) -> None:
        self._port = port
        self._runner: web.BaseRunner | None = None

    @abstractmethod
    def _make_runner(self) -> web.BaseRunner:
        """Return what serves."""

    async def _listen(self) -> str:
        """Listen, and return the base URL.

        Raises:
            OSError: the port is taken.
        """
        self._runner = self._make_runner()
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, "127.0.0.1", self._port).start()
        except BaseException:
            await self.stop()
            raise
        return f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    @abstractmethod
    async def start(self) -> None:
        """Listen.

        Raises:
            OSError: the port is taken.
        """

    async def stop(self) -> None:
        """Stop listening."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()
