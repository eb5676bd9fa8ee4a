"""Real reverse proxies from wheels, each passing everything on to one address.

Used on both sides of the gateway. This file has what is common to them: where a
proxy listens, and that it says of its clients what a front proxy says.
"""

from __future__ import annotations

import socket
from pathlib import Path

from tests.peers.process import Process
from tests.support.ports import free_port


class ReverseProxy(Process):
    """One proxy on a loopback port; ``url`` is its base address.

    It replaces X-Forwarded-For by its peer's address, and tells of TLS that it
    has ended: X-Forwarded-Proto is ``https``.

    Args:
        folder: an empty folder for everything that it writes.
        target: host and port that it passes requests on to.
    """

    def __init__(self, folder: Path, target: str, command: list[str | Path], environment: dict[str, str]) -> None:
        self.folder = folder
        self.target = target
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        super().__init__(command, folder / "out", environment)

    def configure(self) -> None:
        """Write the configuration."""
        raise NotImplementedError

    async def start(self) -> None:
        self.configure()
        await super().start()
        await self.wait_until(self.listens)

    def listens(self) -> bool:
        """Tell whether its port can be connected to."""
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
        except OSError:
            return False
        return True
