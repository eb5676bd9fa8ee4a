"""A real Redis server for tests: started, killed, stopped and let go as tests want it."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from pathlib import Path
from typing import Any, Self

import redis

from tests.peers.process import Process
from tests.peers.programs import program
from tests.support.ports import free_pair, free_port


class RedisServer(Process):
    """One server; ``async with`` starts and ends it. Where its program is missing, making one skips the test.

    Args:
        folder: for its output, its data and its socket.
        keep: what was written is on disk before it is answered, so that ``restart`` finds it again.
        password: what it demands.
        unix: listen on a socket in ``folder`` instead of a loopback port.
        cluster: be a member of a cluster, which listens at a second port, 10,000 above.
    """

    def __init__(
        self, folder: Path, *, keep: bool = False, password: str = "", unix: bool = False, cluster: bool = False
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._password = password
        self._socket = folder / "redis.sock" if unix else None
        self.port = 0 if unix else free_pair(10_000) if cluster else free_port()
        options = {"port": self.port, "bind": "127.0.0.1", "dir": folder, "save": "", "loglevel": "warning"}
        if unix:
            options["unixsocket"] = folder / "redis.sock"
        options["repl-diskless-sync-delay"] = 0  # a replica need not wait for others
        if keep:
            options |= {"appendonly": "yes", "appendfsync": "always"}
        if cluster:
            options["cluster-enabled"] = "yes"
        if password:
            options["requirepass"] = password
        command: list[str | Path] = [program("redis")]
        for name, value in options.items():
            command += [f"--{name}", str(value)]
        super().__init__(command, folder / "redis.out")

    @property
    def url(self) -> str:
        """Its address for ``[redis] url``."""
        user = f":{self._password}@" if self._password else ""
        return f"unix://{user}{self._socket}" if self._socket else f"redis://{user}127.0.0.1:{self.port}/0"

    async def start(self) -> None:
        await super().start()
        await self.wait_until(self._answers)

    async def kill(self) -> None:
        """End it at once, as a crash does."""
        await self.ended_by(signal.SIGKILL)

    async def restart(self) -> None:
        """Start it again at the same address; empty, unless it keeps its data."""
        await self.stop()
        await self.start()

    def pause(self) -> None:
        """Stop it as it stands: connections stay open and nothing is answered."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        os.kill(self.pid, signal.SIGCONT)

    async def stop(self) -> None:
        if self.running:
            self.resume()  # one that stands still does not end
        await super().stop()

    def run(self, *parts: Any) -> Any:
        """Send a command over a connection of its own, waiting for the answer, and return it."""
        with contextlib.closing(redis.Redis.from_url(self.url)) as client:
            return client.execute_command(*parts)

    def _answers(self) -> bool:
        place: Any = str(self._socket) if self._socket else ("127.0.0.1", self.port)
        with socket.socket(socket.AF_UNIX if self._socket else socket.AF_INET) as probe:
            try:
                probe.connect(place)
                probe.sendall(b"PING\r\n")
                answer = probe.recv(100)
            except OSError:
                return False
        return answer.startswith((b"+PONG", b"-NOAUTH"))

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        return self


class Sentinel(Process):
    """A Redis Sentinel that watches one master; alone it decides that the master is gone.

    Args:
        folder: for its output and configuration.
        master: what it watches, as ``mymaster``.
    """

    def __init__(self, folder: Path, master: RedisServer) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        config = folder / "sentinel.conf"
        lines = [f"port {self.port}", "bind 127.0.0.1", f"dir {folder}"]
        lines += [f"sentinel monitor mymaster 127.0.0.1 {master.port} 1"]
        lines += ["sentinel down-after-milliseconds mymaster 300", "sentinel failover-timeout mymaster 2000"]
        config.write_text("\n".join(lines) + "\n")
        super().__init__([program("redis"), config, "--sentinel"], folder / "sentinel.out")

    @property
    def url(self) -> str:
        """Its address for ``[redis] sentinels``."""
        return f"redis://127.0.0.1:{self.port}"

    def run(self, *parts: Any) -> Any:
        """Send a command, waiting for the answer, and return it."""
        with contextlib.closing(redis.Redis.from_url(self.url)) as client:
            return client.execute_command(*parts)

    async def start(self) -> None:
        await super().start()
        await self.wait_until(self._answers)

    def _answers(self) -> bool:
        try:
            return self.run("PING") is not None
        except redis.ConnectionError:
            return False
