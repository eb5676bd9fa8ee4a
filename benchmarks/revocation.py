"""What a million revoked tokens cost: ``python -m benchmarks.revocation``.

Measured are, in one run: how long it takes to read them all from Redis and how
long the event loop is held up meanwhile, the time of a look-up, the memory of a
gateway over one with an empty list, and the rate of hot tokens of a gateway with
a million entries against one with none and against one without Redis. Machines
differ, so of the rates only the ratios count.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import math
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import uvloop

from benchmarks.environment import describe
from benchmarks.peers.base import Place, Setup
from benchmarks.peers.gateway import Gateway
from benchmarks.stage import Stage, Subject, stage
from benchmarks.tokens import material
from benchmarks.traffic import Sends, build
from gateway.clock import SystemClock
from gateway.features.revocation.redis_log import RevocationLog
from gateway.features.revocation.redis_source import RedisRevocations
from gateway.identity import Identity
from gateway.jwt.revocations.table import MAX_RECORDS, RECORD, EntryKind, digest
from gateway.settings.tables.redis import Redis
from gateway.store.redis_link import RedisLink
from gateway.tasks import cancelled, spawn
from tests.support.stores.redis import RedisServer

#: The aims that the run is held against: MiB, seconds, milliseconds, microseconds, and a ratio.
MEMORY_AIM, FILL_AIM, BLOCK_AIM, LOOKUP_AIM, RATE_AIM = 150.0, 10.0, 20.0, 1.0, 0.95

#: The longest lifetime of the tokens: entries end at any minute of it.
_DAY = 1440

_CONNECTIONS = 32


class RevokingGateway(Gateway):
    """This gateway with revocations from a Redis."""

    def __init__(self, title: str, url: str) -> None:
        super().__init__(express=True)
        self.title = title
        self._url = url

    def environment(self, place: Place) -> dict[str, str]:
        return {"GATEWAY_REDIS_URL": self._url, "GATEWAY_REDIS_TIMEOUT_SECONDS": "1"} if self._url else {}


def name_of(number: int) -> str:
    """Return a token's id as identity providers make them: 36 characters."""
    return f"{number:08x}-7a55-4e0c-9c0a-6f9a3f0c8a11"


def caller(number: int) -> Identity:
    """Return who shows a token."""
    return Identity(
        issuer_name="main",
        issuer="https://idp.example.com/",
        subject="alice",
        scopes=(),
        claims=MappingProxyType({}),
        lines=b"",
        expires_at=math.inf,
        not_before=-math.inf,
        token_id=name_of(number),
    )


@contextlib.asynccontextmanager
async def _linked(url: str) -> AsyncIterator[RedisLink]:
    link = RedisLink(Redis(url=url, timeout_seconds=5), SystemClock())
    await link.start()
    try:
        yield link
    finally:
        await link.stop()


async def write(url: str, count: int) -> None:
    """Revoke so many tokens, with ends all over the next day."""
    minute = int(time.time() / 60) + 60
    async with _linked(url) as link:
        log = RevocationLog(link)
        for start in range(0, count, MAX_RECORDS):
            numbers = range(start, min(count, start + MAX_RECORDS))
            await log.add(
                b"".join(
                    RECORD.pack(0, digest(EntryKind.TOKEN, name_of(n), ""), minute + n % _DAY, 0.0) for n in numbers
                )
            )


async def read(url: str, count: int, repeat: int) -> dict[str, float]:
    """Read them into a table while other work wants its turn, and look up in it; in seconds."""
    longest = 0.0

    async def others() -> None:
        nonlocal longest
        while True:
            began = time.thread_time()  # of the processor: what else runs on this machine does not count
            await asyncio.sleep(0.001)
            longest = max(longest, time.thread_time() - began)

    async with _linked(url) as link:
        source = RedisRevocations(link, SystemClock())
        other = spawn(others(), "other work")
        began = time.perf_counter()
        await source.look()
        fill = time.perf_counter() - began
        await cancelled(other)
        if len(source.table) != count:
            raise SystemExit(f"{len(source.table)} of {count} entries were read")
        numbers = range(0, count, max(1, count // 10_000))
        return {
            "fill_seconds": fill,
            "longest_block_seconds": longest,
            **_lookups(source, [caller(number) for number in numbers], "revoked", True, repeat),
            **_lookups(source, [caller(count + number) for number in numbers], "not_revoked", False, repeat),
        }


def _lookups(
    source: RedisRevocations, callers: Sequence[Identity], name: str, wanted: bool, repeat: int
) -> dict[str, float]:
    """Time the look-up of tokens that are known, and the first one of a token, which hashes what is looked for."""
    table, now = source.table, time.time()
    minute = int(now // 60)
    marks, look, first = [table.mark(each) for each in callers], table.covers_marked, table.covers
    if any(look(mark, 0.0, minute) is not wanted for mark in marks):
        raise SystemExit("a look-up gave a wrong answer")
    return {
        f"lookup_{name}_seconds": _best(lambda: [look(mark, 0.0, minute) for mark in marks], len(callers), repeat),
        f"first_{name}_seconds": _best(lambda: [first(each, now) for each in callers], len(callers), repeat),
    }


def _best(work: Callable[[], object], count: int, repeat: int) -> float:
    times = []
    for _ in range(repeat):
        began = time.process_time()
        work()
        times.append((time.process_time() - began) / count)
    return min(times)


@contextlib.contextmanager
def _gateways(built: Stage, urls: dict[str, str]) -> Iterator[dict[str, Subject]]:
    with contextlib.ExitStack() as stack:
        yield {
            name: stack.enter_context(built.running(RevokingGateway(name, url), Setup(log=False)))
            for name, url in urls.items()
        }


def rates(built: Stage, urls: dict[str, str], rounds: int, seconds: float) -> dict[str, Any]:
    """Measure gateways in turns: requests a second of each round, and their memory after the last."""
    with _gateways(built, urls) as subjects:
        found: dict[str, list[float]] = {name: [] for name in subjects}
        for number in range(rounds + 1):
            for name in list(subjects) if number % 2 else reversed(list(subjects)):
                subject = subjects[name]
                traffic = build(Sends(), material(Setup().algorithm, built.cache))
                outcome = built.driver.closed(traffic, subject.target, _CONNECTIONS, seconds)
                if number:  # the first round warms up
                    found[name].append(outcome.answers / outcome.seconds)
        return {
            name: {
                "rate": found[name],
                "resident_bytes": subject.process.resident_bytes(),
                "ready_seconds": subject.ready_seconds,
            }
            for name, subject in subjects.items()
        }


async def measure(count: int, rounds: int, seconds: float, folder: Path) -> dict[str, Any]:
    """Do all of it against one Redis with two databases."""
    async with RedisServer(folder / "redis") as server:
        full = server.url.removesuffix("/0") + "/1"
        await write(full, count)
        table = await read(full, count, 25)
        with stage() as built:
            gateways = await asyncio.to_thread(
                rates, built, {"none": "", "empty": server.url, "full": full}, rounds, seconds
            )
        about = await asyncio.to_thread(server.run, "INFO", "server")
    return {"table": table, "gateways": gateways, "server": about["redis_version"]}


def report(count: int, found: dict[str, Any], arguments: Sequence[str]) -> dict[str, Any]:
    """Return the content of the result file."""
    table, gateways = found["table"], found["gateways"]
    memory = (gateways["full"]["resident_bytes"] - gateways["empty"]["resident_bytes"]) / 2**20
    ratios = {
        name: [full / other for full, other in zip(gateways["full"]["rate"], gateways[name]["rate"], strict=True)]
        for name in ("none", "empty")
    }
    good, bad = table["lookup_not_revoked_seconds"] * 1e6, table["lookup_revoked_seconds"] * 1e6
    first = max(table["first_revoked_seconds"], table["first_not_revoked_seconds"]) * 1e6
    results = {
        "memory of a worker over an empty list, MiB": round(memory, 1),
        "read from Redis, s": round(table["fill_seconds"], 2),
        "longest hold-up of other work meanwhile, ms": round(table["longest_block_seconds"] * 1e3, 1),
        "look-up of a good token, us": round(good, 2),
        "look-up of a revoked token, us": round(bad, 2),
        "first look-up of a token, hashes included, us": round(first, 2),
        "start of the gateway over an empty list, s": round(
            gateways["full"]["ready_seconds"] - gateways["empty"]["ready_seconds"], 2
        ),
        "hot tokens against an empty list, median ratio": round(statistics.median(ratios["empty"]), 3),
        "hot tokens against no Redis, median ratio": round(statistics.median(ratios["none"]), 3),
    }
    described = describe("benchmarks.revocation", arguments, ("redis", "uvloop", "aiohttp"))
    described["versions"]["redis-server"] = found["server"]
    return {
        **described,
        "entries": count,
        "rates": {name: [round(rate) for rate in gateways[name]["rate"]] for name in gateways},
        "results": results,
        "aims": {
            f"memory <= {MEMORY_AIM:g} MiB": memory <= MEMORY_AIM,
            f"read <= {FILL_AIM:g} s": table["fill_seconds"] <= FILL_AIM,
            f"hold-up <= {BLOCK_AIM:g} ms": table["longest_block_seconds"] * 1e3 <= BLOCK_AIM,
            f"look-up of a good token <= {LOOKUP_AIM:g} us": good <= LOOKUP_AIM,
            f"look-up of a revoked token <= {LOOKUP_AIM:g} us": bad <= LOOKUP_AIM,
            f"hot tokens >= {RATE_AIM:g} of an empty list": statistics.median(ratios["empty"]) >= RATE_AIM,
        },
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the results and which aims were met, write the result file."""
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = argparse.ArgumentParser(prog="python -m benchmarks.revocation", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--entries", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=9, help="of each gateway")
    parser.add_argument("--seconds", type=float, default=4.0, help="of each round")
    parser.add_argument("--output", type=Path, default=Path(__file__).with_name("results") / "revocation.json")
    options = parser.parse_args(arguments)
    with (
        tempfile.TemporaryDirectory(prefix="gateway-bench-") as name,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        found = runner.run(measure(options.entries, options.rounds, options.seconds, Path(name)))
    content = report(options.entries, found, arguments)
    for title, number in content["results"].items():
        print(f"{title:52}{number:10}")
    for aim, met in content["aims"].items():
        print(f"{'met' if met else 'MISSED'}: {aim}")
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(content, indent=2) + "\n", "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
