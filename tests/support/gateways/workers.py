"""``gateway run`` with several workers, in processes of its own, and what can be asked of it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import sys
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.gateways.running import RawClient, RawResponse, request

#: How long a gateway may take to start on a busy machine, in seconds.
PATIENCE = 30.0


def environment(cache: Path) -> dict[str, str]:
    """Variables for a Python process that loads what an earlier one has compiled; processes start often here."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GATEWAY_")}
    kept.pop("PYTHONDONTWRITEBYTECODE", None)
    return {**kept, "PYTHONPYCACHEPREFIX": str(cache)}


def gone(pid: int) -> bool:
    """Whether a process has ended, waited for or not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def children(pid: int) -> list[int]:
    """The processes that a process has started."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@dataclass
class WorkersGateway:
    """A gateway with several workers.

    Attributes:
        lines: what it wrote to standard error so far.
    """

    process: asyncio.subprocess.Process
    lines: list[str] = field(default_factory=list)
    port: int = 0
    admin_port: int = 0

    async def client(self) -> RawClient:
        return RawClient(*await asyncio.open_connection("127.0.0.1", self.port))

    async def spread(self, count: int) -> list[RawClient]:
        """Open so many connections, and more until every worker has some: which one takes a connection is chance."""
        opened = [await self.client() for _ in range(count)]
        while not all(worker["open_connections"] for worker in (await self.status())["workers"]):
            assert len(opened) < 100 * count
            opened.append(await self.client())
        return opened

    async def get(self, target: str = "/") -> RawResponse:
        """Ask once over a connection of its own."""
        client = await self.client()
        try:
            return await client.exchange(request(b"GET", target))
        finally:
            await client.close()

    async def admin(self, path: str) -> RawResponse:
        client = RawClient(*await asyncio.open_connection("127.0.0.1", self.admin_port))
        try:
            return await client.exchange(request(b"GET", path, (b"Host", b"localhost")))
        finally:
            await client.close()

    async def status(self) -> dict[str, Any]:
        return (await self.admin("/status")).json

    async def pids(self) -> list[int]:
        return [worker["pid"] for worker in (await self.status())["workers"]]

    async def until(self, path: str, **wanted: Any) -> tuple[dict[str, Any], float]:
        """Ask for a page until it says this; return it, and the seconds that passed."""
        began = time.monotonic()
        page: dict[str, Any] = {}
        while time.monotonic() - began < PATIENCE:
            page = (await self.admin(path)).json
            if all(page[name] == value for name, value in wanted.items()):
                return page, time.monotonic() - began
            await asyncio.sleep(0.01)
        raise AssertionError(f"{path} does not say {wanted}: {page}")

    async def running(self) -> None:
        """Wait until every worker serves and another process stands by."""
        await self.until("/readyz", ready=True)
        await self.until("/status", stands_by=True)

    async def ended(self, within: float = 10) -> int:
        return await asyncio.wait_for(self.process.wait(), within)

    async def listen(self) -> None:
        """Read standard error for the ports, and then for as long as there is one."""
        assert self.process.stderr is not None
        while line := (await self.process.stderr.readline()).decode():
            self.lines.append(line)
            if found := re.search(r"\(port (\d+)\), admin on port (\d+)", line):
                self.port, self.admin_port = int(found[1]), int(found[2])
                return
        raise AssertionError("the gateway ended instead of listening:\n" + "".join(self.lines))

    async def read_on(self) -> None:
        assert self.process.stderr is not None
        while line := await self.process.stderr.readline():
            self.lines.append(line.decode())


def config_text(upstream_url: str, issuer: str = "", **server: Any) -> str:
    """A configuration with one upstream: public at ``/``, and with an issuer of this JWKS URL also protected."""
    options = {"listen": "127.0.0.1:0", "admin_listen": "127.0.0.1:0", "workers": 2, "drain_seconds": 5, **server}
    lines = ["[server]", *(f"{name} = {json.dumps(value)}" for name, value in options.items())]
    if issuer:
        lines += ['[[issuers]]\nname = "main"\nissuer = "https://idp.test/"\naudience = ["api"]']
        lines += [f'jwks_url = "{issuer}"\nalgorithms = ["ES256"]']
    lines += ['[[upstreams]]\nname = "main"', f'urls = ["{upstream_url}"]']
    lines += ['[[routes]]\npath = "/"\nauth = "public"\nupstream = "main"']
    if issuer:
        lines += ['[[routes]]\npath = "/me"\nupstream = "main"']
    return "\n".join(lines)


async def start(
    config: Path, variables: Mapping[str, str], *arguments: str, stdout: int = asyncio.subprocess.DEVNULL
) -> asyncio.subprocess.Process:
    """Start ``gateway run``."""
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway", "run", "--config", str(config), *arguments),
        stdout=stdout,
        stderr=asyncio.subprocess.PIPE,
        env=dict(variables),
    )


@contextlib.asynccontextmanager
async def workers_gateway(
    directory: Path, cache: Path, text: str, stdout: int = asyncio.subprocess.DEVNULL
) -> AsyncIterator[WorkersGateway]:
    """Run a gateway until the block ends; then it is killed if it has not ended."""
    config = directory / "gateway.toml"
    config.write_text(text)
    gateway = WorkersGateway(await start(config, environment(cache), stdout=stdout))
    reading: asyncio.Future[None] | None = None
    try:
        async with asyncio.timeout(PATIENCE):
            await gateway.listen()
        reading = asyncio.ensure_future(gateway.read_on())
        yield gateway
    finally:
        if gateway.process.returncode is None:
            gateway.process.kill()
        await gateway.process.wait()
        if reading is not None:  # to the end of standard error, which any process left behind holds open
            await asyncio.wait_for(reading, 5)
