"""Attackers that want to exhaust the gateway, and what good callers notice of them: the run behind ``scripts/exhaust``.

For each kind of attack, port and number of connections there is a gateway of its own, with the default configuration.
Printed in milliseconds are median, 95th percentile and worst wait of callers on kept connections, of one that connects
each time, and of /healthz; in MB the gateway's memory before, at its peak, and some seconds after the attack; in per
cent of a core what gateway and attackers took, and how long the gateway could have run while others had the cores.
Of several rounds each wait is the median, and the memory that of the round with the highest peak.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import os
import shutil
import signal
import ssl
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import uvloop

from gateway.tasks import spawn
from tests.exhaust.attackers import KINDS
from tests.exhaust.callers import Callers, Spread
from tests.peers.process import Process
from tests.support.certificates import Authority, authority
from tests.support.gateways.one_process import GatewayProcess
from tests.support.gateways.running import ISSUER, LANE
from tests.support.tokens.minting import AUDIENCE, SigningKey, good_claims, jwks, mint

#: The row without attackers.
CONTROL = "(none)"

PORTS = ("plain", "tls")
CONNECTIONS = (2, 50)
MB = 1e6

#: Seconds that the callers have before memory is read for the first time: what a first request brings in is no growth.
WARM_UP = 0.5

#: Wrong answers of a round that are shown.
MOST_FAILURES = 5


@dataclass(frozen=True)
class Row:
    """What is attacked, and how."""

    kind: str
    port: str
    connections: int

    @property
    def name(self) -> str:
        return f"{self.kind:11} {self.port:5} {self.connections:3}"


@dataclass(frozen=True)
class Bounds:
    """What may come of an attack.

    Attributes:
        wait: seconds, the median over the rounds of each round's longest wait.
        memory: bytes that the gateway may grow by during any round.
        left: bytes that it may have grown by after it.
    """

    wait: float
    memory: float
    left: float


@dataclass(frozen=True)
class Round:
    """What came of one attack.

    Attributes:
        waits: by kind of caller.
        failures: answers that callers did not get, and other faults.
        before, peak, after: resident memory of the gateway in bytes.
        gateway, starved, attackers: cores that the gateway took, that it waited for, and that the attackers took.
        said: the attackers' own figures: connections, bytes, and how connections ended.
    """

    waits: Mapping[str, Spread]
    failures: Sequence[str]
    before: int
    peak: int
    after: int
    gateway: float
    starved: float
    attackers: float
    said: Mapping[str, Any]


@dataclass(frozen=True)
class Stage:
    """What all gateways share: two upstreams, of which the attackers reach one, and a key."""

    folder: Path
    ca: Authority
    key: SigningKey
    good: str
    attacked: str

    def gateway(self, port: str, folder: Path) -> GatewayProcess:
        """Return a gateway; good callers have an upstream of their own, so that they never wait for a busy one."""
        # What attackers have left in the kernel's buffers is read for minutes, and no part of what is measured.
        server: dict[str, object] = {"access_log": "json", "drain_seconds": 1}
        if port == "tls":
            own = self.ca.sign("gateway", "localhost", "127.0.0.1")
            server |= {"tls_cert": str(own.cert), "tls_key": str(own.key)}
        keys = str(self.folder / "jwks.json")
        more = (
            ("[[upstreams]]", {"name": "good", "urls": [self.good]}),
            ("[[routes]]", {"path": "/good", "upstream": "good"}),
            ("[[issuers]]", {"name": "test", "issuer": ISSUER, "audience": [AUDIENCE], "jwks_file": keys}),
        )
        return GatewayProcess(folder, [self.attacked], server=server, more=more)


@contextlib.asynccontextmanager
async def staged(folder: Path) -> AsyncIterator[Stage]:
    """Start what all gateways share."""
    key = SigningKey.ec()
    (folder / "jwks.json").write_bytes(jwks(key))
    async with contextlib.AsyncExitStack() as stack:
        urls = []
        for name, nice in (("good", 0), ("attacked", 10)):
            command = [sys.executable, "-m", "tests.exhaust.upstream", "--nice", str(nice)]
            upstream = await stack.enter_async_context(Process(command, folder / f"{name}.out"))
            await upstream.wait_until(partial(_listens, upstream))
            urls.append(f"http://127.0.0.1:{upstream.output().split()[1]}")
        yield Stage(folder, authority(folder / "ca"), key, *urls)


def _listens(upstream: Process) -> bool:
    return upstream.output().endswith("\n")


async def one_round(row: Row, stage: Stage, seconds: float, settle: float) -> Round:
    """Start a gateway, attack it, and measure.

    Args:
        seconds: of the attack.
        settle: seconds between its end and the last look at the gateway's memory.

    Raises:
        RuntimeError: the gateway or the attackers ended before their time.
    """
    folder = Path(tempfile.mkdtemp(dir=stage.folder))
    token = mint(stage.key, good_claims(time.time(), exp=int(time.time() + seconds + 600)))
    tls = ssl.create_default_context(cafile=stage.ca.bundle) if row.port == "tls" else None
    async with stage.gateway(row.port, folder) as gateway:
        callers = Callers(gateway.port, gateway.admin_port, token, tls)
        calling = spawn(callers.call(), "callers", awaited=True)
        emptying = spawn(_emptied(folder / "gateway.out"), "log", awaited=True)
        try:
            await asyncio.sleep(WARM_UP)
            callers.forget()
            before, at_first, began = gateway.memory("VmRSS"), _scheduled(gateway), time.monotonic()
            said = await _attacked(row, gateway, callers, seconds)
            lasted = time.monotonic() - began
            cores = [(now - then) / lasted for now, then in zip(_scheduled(gateway), at_first, strict=True)]
        finally:
            callers.stopped = True
            await calling
            emptying.cancel()
        await asyncio.sleep(settle)
        waits = {name: Spread.of(found) for name, found in callers.waits.items()}
        peak, after = gateway.memory("VmHWM"), gateway.memory("VmRSS")
        if code := await gateway.ended_by(signal.SIGTERM):
            callers.failures.append(f"the gateway ended with {code}")
    shutil.rmtree(folder)
    return Round(waits, callers.failures, before, peak, after, cores[0], cores[1], said.pop("cores", 0.0), said)


async def _attacked(row: Row, gateway: GatewayProcess, callers: Callers, seconds: float) -> dict[str, Any]:
    """Attack, or only wait; return what the attackers said in the end."""
    if row.kind == CONTROL:
        await asyncio.sleep(seconds)
        return {}
    command = ["-m", "tests.exhaust.attackers", row.kind, str(gateway.port), str(row.connections), str(seconds)]
    command += ["--tls"] if row.port == "tls" else []
    attackers = await asyncio.create_subprocess_exec(sys.executable, *command, stdout=asyncio.subprocess.PIPE)
    assert attackers.stdout is not None
    said: dict[str, Any] = {}
    try:
        while line := (await attackers.stdout.readline()).decode().strip():
            if line.startswith("{"):
                said = json.loads(line)
            else:
                callers.during = line
    finally:
        if attackers.returncode is None and not said:
            attackers.kill()
        await attackers.wait()
    if not gateway.running:
        raise RuntimeError(f"{row.name}: the gateway ended during {callers.during!r}")
    if not said.get("opened"):
        raise RuntimeError(f"{row.name}: the attackers ended during {callers.during!r}")
    return said


async def _emptied(log: Path) -> None:
    """Keep a log short that would fill the disk; its writer goes on where it was, behind a hole."""
    while True:
        await asyncio.sleep(1)
        os.truncate(log, 0)


def _scheduled(gateway: GatewayProcess) -> tuple[float, float]:
    """Return the seconds that a gateway ran, and that it waited for a core (Linux' sched-stats; elsewhere nothing)."""
    try:
        ran, waited, _ = Path(f"/proc/{gateway.pid}/schedstat").read_text().split()
    except OSError:
        return 0.0, 0.0
    return int(ran) / 1e9, int(waited) / 1e9


def summed_up(rounds: Sequence[Round]) -> tuple[dict[str, Spread], Round]:
    """Return the medians of the rounds' waits, by kind of caller, and the round in which memory had its peak."""
    waits = {}
    for name in rounds[0].waits:
        found = [one.waits[name] for one in rounds]
        worst = max(found, key=lambda spread: spread.worst)
        middle = [statistics.median(getattr(one, figure) for one in found) for figure in ("median", "p95", "worst")]
        waits[name] = Spread(middle[0], middle[1], middle[2], worst.during)
    return waits, max(rounds, key=lambda one: one.peak - one.before)


def findings(row: Row, rounds: Sequence[Round], bounds: Bounds) -> list[str]:
    """Return which bounds are broken."""
    waits, _ = summed_up(rounds)
    broken = []
    for name, spread in waits.items():
        if spread.worst > bounds.wait:
            during = f", the longest during {spread.during!r}" if spread.during else ""
            broken.append(f"{name} waited {spread.worst:.3f} s{during}")
    for one in rounds:
        if one.peak - one.before > bounds.memory:
            broken.append(f"memory grew by {(one.peak - one.before) / MB:.0f} MB")
        if one.after - one.before > bounds.left:
            broken.append(f"memory is {(one.after - one.before) / MB:.0f} MB above what it was before")
        broken += one.failures[:MOST_FAILURES]
    return [f"{row.name.strip()}: {finding}" for finding in broken]


HEADER = (
    f"{'':22}{'kept':^23}{'new':^23}{'/healthz':^23}{'memory in MB':^20}{'% of a core':^17}\n"
    f"{'kind':11} {'port':5}   n " + " median    p95   worst " * 3 + " before  peak after  gateway starved attackers"
)


def line(row: Row, rounds: Sequence[Round]) -> str:
    """Render a row of the table."""
    waits, fullest = summed_up(rounds)
    figures = [(one.median * 1e3, one.p95 * 1e3, one.worst * 1e3) for one in waits.values()]
    parts = [f"{row.name} ", *(f"{one[0]:7.1f} {one[1]:6.1f} {one[2]:7.1f} " for one in figures)]
    parts.append(f"  {fullest.before / MB:5.0f} {fullest.peak / MB:5.0f} {fullest.after / MB:5.0f} ")
    shares = [statistics.median(getattr(one, name) for one in rounds) for name in ("gateway", "starved", "attackers")]
    parts.append(f"{shares[0] * 100:8.0f} {shares[1] * 100:7.0f} {shares[2] * 100:9.0f}")
    if said := rounds[-1].said:
        parts.append(f"  {said['opened']} opened, {said['sent'] / MB:.1f} MB sent, {said['received'] / MB:.1f} read")
    if row.kind in KINDS and KINDS[row.kind].cpu:
        parts.append("; as fast as the cores are")
    return "".join(parts)


def planned(options: argparse.Namespace) -> list[Row]:
    """Return the rows that were asked for: for each port the control, and each kind that has ways to attack it."""
    rows = []
    for port in options.port or PORTS:
        rows.append(Row(CONTROL, port, 0))
        kinds = [name for name in options.kind or KINDS if KINDS[name].at(port)]
        rows += [Row(*one) for one in itertools.product(kinds, [port], options.connections or CONNECTIONS)]
    return rows


async def exhaust(options: argparse.Namespace, folder: Path) -> list[str]:
    """Run it; print the table and return the findings."""
    bounds = Bounds(options.wait, options.memory * MB, options.left * MB)
    found = []
    print(HEADER, flush=True)
    async with staged(folder) as stage:
        for row in planned(options):
            rounds = [await one_round(row, stage, options.seconds, options.settle) for _ in range(options.rounds)]
            broken = findings(row, rounds, bounds)
            print(line(row, rounds) + (" !" if broken else ""), flush=True)
            found += broken
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code: 0 when every bound was kept."""
    parser = argparse.ArgumentParser(prog="exhaust", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60, help="of each attack (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="of each attack (default: %(default)s)")
    parser.add_argument("--lane", choices=["express", "full"], default="express", help="default: %(default)s")
    parser.add_argument("--kind", choices=KINDS, action="append", help="may be repeated (default: every one)")
    parser.add_argument("--port", choices=PORTS, action="append", help="may be repeated (default: both)")
    parser.add_argument("--connections", type=int, action="append", help="may be repeated (default: 2 and 50)")
    parser.add_argument("--settle", type=float, default=5, help="seconds until memory is back (default: %(default)s)")
    limits = parser.add_argument_group("bounds")
    limits.add_argument(
        "--wait",
        type=float,
        default=0.1,
        help="seconds: median over the rounds of each one's longest wait (default: %(default)s)",
    )
    limits.add_argument("--memory", type=float, default=100, help="MB of growth in an attack (default: %(default)s)")
    limits.add_argument("--left", type=float, default=50, help="MB of growth after it (default: %(default)s)")
    options = parser.parse_args(arguments)
    print(f"{options.lane} lane, {options.rounds} rounds of {options.seconds:g} s; waits in ms", flush=True)
    LANE.set(options.lane)
    with tempfile.TemporaryDirectory() as folder, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        found = runner.run(exhaust(options, Path(folder)))
    print(f"{len(found)} findings" + "".join(f"\n- {finding}" for finding in found))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
