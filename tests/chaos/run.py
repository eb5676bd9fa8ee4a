"""Chaos, bounded: upstreams that die, freeze, reset and talk nonsense under load, with the gateway between.

    ./scripts/chaos [--seconds 120] [--seed S] [--clients 16] [--lane full]

Every answer that a client gets must be right, or 502, 503 or 504, or broken
off so that it cannot be taken for whole; no POST may reach the upstreams
twice; and when the upstreams behave again, so must the gateway, with nothing
left over. Exits 1 when any of that fails, and prints what failed.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import re
import signal
import socket
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from random import SystemRandom

import uvloop

from gateway.tasks import spawn
from tests.chaos.load import Judgement, Load
from tests.peers.process import Process
from tests.support.gateways.one_process import GatewayProcess
from tests.support.gateways.running import LANE, RawClient, RawResponse, request
from tests.support.ports import free_port

#: Short, so that a bounded run meets every one of them many times.
LIMITS = {
    "response_timeout_seconds": 1.0,
    "idle_timeout_seconds": 1.0,
    "connect_timeout_seconds": 0.5,
    "pool_wait_seconds": 0.5,
    "pool_size": 6,
}

#: Seconds within which the gateway is well again once its upstreams are.
RECOVERY = 10.0


class Victim:
    """One unreliable upstream, started again after each death.

    Args:
        folder: where its output goes.
        journal: gets a line for each POST.
        chance: what becomes of it.
    """

    def __init__(self, folder: Path, journal: Path, chance: random.Random) -> None:
        self.port = free_port()
        self._folder = folder
        self._journal = journal
        self._chance = chance
        self._life = 0
        self.suffered: Counter[str] = Counter()
        self.process: Process

    async def live(self) -> None:
        """Start it."""
        self._life += 1
        command = [sys.executable, "-m", "tests.chaos.upstream", "--port", str(self.port)]
        command += ["--seed", str(self._chance.randrange(1 << 30)), "--journal", str(self._journal)]
        self.process = Process(command, self._folder / f"upstream-{self.port}-{self._life}.out")
        await self.process.start()
        await self.process.wait_until(self._listens)

    async def suffer(self) -> None:
        """Be killed or frozen, over and over, until cancelled."""
        while True:
            await asyncio.sleep(self._chance.uniform(0.3, 1.5))
            if self._chance.random() < 0.5:
                self.suffered["killed"] += 1
                await self.process.ended_by(signal.SIGKILL)
                await asyncio.sleep(self._chance.choice([0, 0, 0.3, 1.0]))
                await self.live()
            else:
                self.suffered["frozen"] += 1
                os.kill(self.process.pid, signal.SIGSTOP)
                try:
                    await asyncio.sleep(self._chance.choice([0.1, 0.5, 2.0]))
                finally:
                    os.kill(self.process.pid, signal.SIGCONT)

    async def calm_down(self) -> None:
        """Live, and behave from now on."""
        if not self.process.running:
            await self.live()
        await self.process.wait_until(self._listens)
        os.kill(self.process.pid, signal.SIGUSR1)

    async def die(self) -> None:
        """End, for good."""
        await self.process.stop()

    def _listens(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
        except OSError:
            return False
        return True


async def chaos(seconds: float, seed: int, clients: int, folder: Path) -> tuple[Judgement, Counter[str]]:
    """Run it; return what came of the requests, with all findings, and what the upstreams suffered."""
    chance = random.Random(seed)
    journal = folder / "journal"
    journal.touch()
    victims = [Victim(folder, journal, random.Random(chance.random())) for _ in range(2)]
    async with AsyncExitStack() as stack:
        for victim in victims:
            stack.push_async_callback(victim.die)
            await victim.live()
        urls = [f"http://127.0.0.1:{victim.port}" for victim in victims]
        gateway = await stack.enter_async_context(GatewayProcess(folder, urls, upstream=LIMITS))
        load = Load(gateway.port, chance.randrange(1 << 30))
        at_rest = gateway.open_sockets()
        running = spawn(load.run(clients), "load", awaited=True)
        await _suffering(victims, seconds, running)
        load.stopped = True
        await running
        judgement = load.judgement
        judgement.findings += await _recovered(gateway, victims, at_rest)
        judgement.findings += posted_twice(journal)
        said = gateway.output()
        judgement.findings = [_explained(finding, said) for finding in judgement.findings]
        if "Traceback" in said or " ERROR " in said:
            judgement.findings.append(f"the gateway said: {said[-2000:]}")
    return judgement, victims[0].suffered + victims[1].suffered


def _explained(finding: str, said: str) -> str:
    """Add what the access log has of the request, if the finding is about one."""
    target = re.search(r" (/[^ :]+)", finding)
    lines = [line for line in said.splitlines() if target is not None and f'"{target[1]}"' in line]
    return "\n    ".join([finding, *lines])


async def _suffering(victims: list[Victim], seconds: float, running: asyncio.Task[None]) -> None:
    """Let the upstreams suffer for a time, or until the load fails."""
    sufferings = [spawn(victim.suffer(), "suffering", awaited=True) for victim in victims]
    try:
        await asyncio.wait([running, *sufferings], timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for suffering in sufferings:
            suffering.cancel()
        ends = await asyncio.gather(*sufferings, return_exceptions=True)
    for end in ends:
        if not isinstance(end, asyncio.CancelledError):
            raise RuntimeError("an upstream could not be made to suffer") from end


async def _recovered(gateway: GatewayProcess, victims: list[Victim], at_rest: int) -> list[str]:
    """Let the upstreams behave; return what is wrong with the gateway after that.

    Args:
        at_rest: the sockets that the gateway had open before it had anything to do.
    """
    for victim in victims:
        await victim.calm_down()
    if not gateway.running:
        return ["the gateway ended"]
    deadline = asyncio.get_running_loop().time() + RECOVERY
    while True:
        problem = await _ill(gateway, at_rest)
        if not problem:
            return []
        if asyncio.get_running_loop().time() > deadline:
            return [f"{RECOVERY} s after the upstreams behave: {problem}"]
        await asyncio.sleep(0.2)


async def _ill(gateway: GatewayProcess, at_rest: int) -> str:
    """Return what is not as it should be with nothing going on; empty when all is well."""
    statuses = [(await _ask(gateway.port, f"/content/{number}/9/length")).status for number in range(10)]
    if statuses != [200] * 10:
        return f"answers {statuses}"
    urls = (await _ask(gateway.admin_port, "/status")).json["upstreams"]["main"]["urls"]
    taken = [(url["in_use"], url["waiting"], url["health"]) for url in urls]
    if taken != [(0, 0, "healthy")] * len(taken):
        return f"pools {taken}"
    idle = sum(url["idle"] for url in urls)
    await asyncio.sleep(0.1)  # the gateway closes the connection that asked
    if (left := gateway.open_sockets() - idle - at_rest) > 0:
        return f"{left} sockets too many, with {idle} idle connections"
    return ""


async def _ask(port: int, target: str) -> RawResponse:
    client = RawClient(*await asyncio.open_connection("127.0.0.1", port))
    try:
        return await client.exchange(request(b"GET", target, (b"Host", b"localhost"), (b"Connection", b"close")))
    finally:
        await client.close()


def posted_twice(journal: Path) -> list[str]:
    """Return the requests that were noted more than once."""
    reached = Counter(journal.read_text().splitlines())
    return [f"POST {target} reached the upstreams {count} times" for target, count in reached.items() if count > 1]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code: 0 when nothing was found."""
    parser = argparse.ArgumentParser(prog="chaos", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seconds", type=float, default=120, help="how long (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=SystemRandom().randrange(1 << 32), help="default: by chance")
    parser.add_argument("--clients", type=int, default=16, help="at the same time (default: %(default)s)")
    parser.add_argument("--lane", choices=["express", "full"], default="express", help="default: %(default)s")
    options = parser.parse_args(arguments)
    print(f"seed {options.seed}, {options.lane} lane", flush=True)
    LANE.set(options.lane)
    with tempfile.TemporaryDirectory() as folder, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        judgement, suffered = runner.run(chaos(options.seconds, options.seed, options.clients, Path(folder)))
    print("upstreams: " + ", ".join(f"{count} times {what}" for what, count in suffered.most_common()))
    for outcome, count in judgement.outcomes.most_common():
        print(f"{count:7} {outcome}")
    print(f"{judgement.posted:7} POSTs among them")
    print(f"{len(judgement.findings)} findings" + "".join(f"\n- {finding}" for finding in judgement.findings[:50]))
    return 1 if judgement.findings else 0


if __name__ == "__main__":
    sys.exit(main())
