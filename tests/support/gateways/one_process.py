"""``gateway run`` in a process of its own, for what is said about processes: memory, open files, a peer that dies.

Its output goes to files, so that it need not be read for the gateway to go on.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.peers.process import Process
from tests.support.gateways.running import ACCESS_LOG, LANE

_LISTENING = re.compile(r"\(port (\d+)\), admin on port (\d+)")


class GatewayProcess(Process):
    """One gateway with public routes to one upstream.

    Args:
        folder: where its configuration and output go.
        urls: of the upstream.
        upstream: options of the upstream.
        server: options of the server.
        more: titles and options of further sections.

    Attributes:
        port, admin_port: where it listens, once started.
    """

    def __init__(
        self,
        folder: Path,
        urls: Sequence[str],
        *,
        upstream: Mapping[str, Any] | None = None,
        server: Mapping[str, Any] | None = None,
        more: Sequence[tuple[str, Mapping[str, Any]]] = (),
    ) -> None:
        listen = {
            "listen": "127.0.0.1:0",
            "admin_listen": "127.0.0.1:0",
            "express": LANE.get() != "full",
            "access_log": ACCESS_LOG.get(),
        }
        sections = (
            ("[server]", {**listen, **(server or {})}),
            ("[[upstreams]]", {"name": "main", "urls": list(urls), **(upstream or {})}),
            ("[[routes]]", {"path": "/", "auth": "public", "upstream": "main"}),
            *more,
        )
        lines = []
        for title, options in sections:
            lines += [title, *(f"{name} = {json.dumps(value)}" for name, value in options.items())]
        self._config = folder / "gateway.toml"
        self._config.write_text("\n".join(lines))
        self.port = self.admin_port = 0
        command: list[str | Path] = [sys.executable, "-m", "gateway", "run", "--config", self._config]
        super().__init__(command, folder / "gateway.out")
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("GATEWAY_")}

    async def start(self) -> None:
        await super().start()
        await self.wait_until(lambda: _LISTENING.search(self.output()) is not None)
        found = _LISTENING.search(self.output())
        assert found is not None
        self.port, self.admin_port = int(found[1]), int(found[2])

    def memory(self, name: str) -> int:
        """Return a figure of /proc in bytes: ``VmRSS`` is what it holds now, ``VmHWM`` the most it has held."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        found = re.search(rf"^{name}:\s+(\d+) kB$", status, re.MULTILINE)
        assert found is not None
        return int(found[1]) * 1024

    def open_sockets(self) -> int:
        """Return how many sockets the process has open."""
        return sum(_is_socket(entry) for entry in Path(f"/proc/{self.pid}/fd").iterdir())


def _is_socket(entry: Path) -> bool:
    try:
        return str(entry.readlink()).startswith("socket:")
    except FileNotFoundError:  # closed in the meantime
        return False
