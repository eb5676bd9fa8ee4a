"""The differential run behind ``scripts/lanes``: an answer does not show how its request was served.

The same requests go over one kept connection of each of four gateways, which differ in nothing but lane and access
log, and then each over a new connection of one of them. What a client gets, and what an upstream gets, must be the
same bytes: on a kept connection, where requests repeat each other in nearly everything, nothing of one may be found
in another. Ids of requests are of 1 to 128 characters, or words of the answers themselves.

What may differ, because it is not the request's: ids that the gateway makes itself, its ports, and times.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random, SystemRandom
from typing import Any

import uvloop

from tests.lanes.traffic import API_KEYS, RESOURCES, ROUTES, SERVERS, Maker, Request, respond
from tests.support.gateways.lanes import EVERY, running_in
from tests.support.gateways.running import RawClient, RawResponse, RunningGateway, running_gateway
from tests.support.tokens.minting import SigningKey
from tests.support.upstreams.recording import RawUpstream, raw_upstream

#: Requests of one session, and most of them in one segment.
SESSION, SEGMENT = 24, 6

#: Differences that are shown before the run gives up.
MAX_FINDINGS = 10


@dataclass
class Place:
    """One gateway and its upstream, and the kept connection of the session."""

    name: str
    gateway: RunningGateway
    upstream: RawUpstream
    kept: RawClient | None = None


@dataclass
class Outcome:
    """What came of a run.

    Attributes:
        kept: requests that were answered over kept connections, by gateway.
        fresh: those that were answered over new ones.
        statuses: of all answers over kept connections.
        findings: the differences.
    """

    seed: str
    kept: Counter[str] = field(default_factory=Counter)
    fresh: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    findings: list[str] = field(default_factory=list)


def seen_of(response: RawResponse | None, place: Place) -> object:
    """Return of an answer what is the request's."""
    if response is None:
        return None
    return _own(response.head, place), re.sub(rb'"request_id":"[0-9a-f]{32}"', b"ID", response.body), response.complete


def _own(head: bytes, place: Place) -> bytes:
    head = re.sub(rb"(?i)(\r\nX-Request-Id: )[0-9a-f]{32}\r\n", rb"\1ID\r\n", head)
    head = re.sub(rb"(\r\nDate: )[^\r]*", rb"\1DATE", head)
    head = re.sub(rb"(;[rt]=|Retry-After: )[0-9]+", rb"\1NUMBER", head)
    head = re.sub(rb"(\r\n(?:Via|via): 1\.[01] (?:1\.0 before, 1\.1 )?)[^\r]*", rb"\1PSEUDONYM", head)
    return re.sub(rb"\b(?:%d|%d)\b" % (place.gateway.app.port, place.upstream.port), b"PORT", head)


async def answers_of(client: RawClient, requests: Sequence[Request]) -> list[RawResponse | None]:
    """Send requests at once; return the answers, the last one None if the connection ended instead of it."""
    answers: list[RawResponse | None] = []
    try:
        await client.send(b"".join(one.data for one in requests))
        for one in requests:
            answer = await client.response(head_only=one.method == b"HEAD", within=10)
            while answer.status == 100:
                answer = await client.response(head_only=one.method == b"HEAD", within=10)
            answers.append(answer)
            if answer.one(b"connection") == b"close" or not answer.complete:
                break
    except (asyncio.IncompleteReadError, ConnectionError, TimeoutError, LookupError, ValueError):  # no answer
        answers.append(None)
    return answers


async def over(place: Place, client: RawClient, requests: Sequence[Request]) -> list[tuple[object, object]]:
    """Return what the client and, of all requests together, the upstream got."""
    place.upstream.requests.clear()
    answers = await answers_of(client, requests)
    got = [(_own(one.head, place), one.body, one.complete) for one in place.upstream.requests]
    return [(seen_of(answer, place), got if number == 0 else None) for number, answer in enumerate(answers)]


async def leave(place: Place, client: RawClient) -> None:
    """Close a connection."""
    await client.close()
    place.gateway.clients.remove(client)


async def session(places: Sequence[Place], maker: Maker, random: Random, outcome: Outcome) -> None:
    """Send one session's requests through all gateways, and each again over a new connection of one of them."""
    left = SESSION
    while left > 0:
        size = random.choice((1, 1, 1, 2, SEGMENT))
        left -= size
        segment = [maker.request() for _ in range(size)]
        seen = []
        for place in places:
            if place.kept is None:
                place.kept = await place.gateway.client()
            found = await over(place, place.kept, segment)
            outcome.kept[place.name] += len(found)
            if len(found) < len(segment) or _ended(found[-1][0]):
                await leave(place, place.kept)
                place.kept = None
            seen.append(found)
        outcome.statuses.update(_status(one) for one, _ in seen[0])
        for place, found in zip(places[1:], seen[1:], strict=True):
            _compare(outcome, segment, f"{places[0].name} and {place.name}", seen[0], found)
        await _each_alone(random.choice(places), segment[: len(seen[0])], seen[0], outcome)
    for place in places:
        if place.kept is not None:
            await leave(place, place.kept)
            place.kept = None


async def _each_alone(
    place: Place, segment: Sequence[Request], kept: list[tuple[object, object]], outcome: Outcome
) -> None:
    got: list[object] = []
    for one, (answer, _) in zip(segment, kept, strict=True):
        client = await place.gateway.client()
        [(alone, forwarded)] = await over(place, client, [one])
        await leave(place, client)
        outcome.fresh += 1
        assert isinstance(forwarded, list)
        got += forwarded
        _compare(outcome, [one], f"a kept connection and a new one of {place.name}", answer, alone)
    _compare(outcome, segment, f"upstreams of kept connections and of new ones of {place.name}", kept[0][1], got)


def _compare(outcome: Outcome, requests: Sequence[Request], what: str, first: object, second: object) -> None:
    if first != second:
        sent = b"".join(one.data for one in requests)
        outcome.findings.append(f"{what} differ\n  sent {sent!r}\n  {first!r}\n  {second!r}")


def _ended(seen: object) -> bool:
    """Return whether a connection is over with this answer."""
    if not isinstance(seen, tuple):
        return True
    head, _, complete = seen
    return not complete or b"\r\nConnection: close\r\n" in head


def _status(seen: object) -> int:
    return int(seen[0].split(b" ", 2)[1]) if isinstance(seen, tuple) else 0


@contextlib.asynccontextmanager
async def four_gateways(directory: Path, server: Mapping[str, Any]) -> AsyncIterator[list[Place]]:
    """Run a gateway in each lane with each log, with the same key and these options of ``[server]``."""
    key = SigningKey.rsa("a")
    async with contextlib.AsyncExitStack() as stack:
        places = []
        for lane, log in EVERY:
            folder = directory / f"{lane}-{log}"
            folder.mkdir()
            upstream = await stack.enter_async_context(raw_upstream(respond))
            with running_in(lane, log):
                options: dict[str, Any] = {
                    "routes": ROUTES,
                    "resources": RESOURCES,
                    "api_keys": API_KEYS,
                    "server": server,
                }
                running = running_gateway(upstream.url, folder, key=key, **options)
                places.append(Place(f"{lane}, log {log}", await stack.enter_async_context(running), upstream))
        yield places


async def compare_lanes(count: int, seed: str, directory: Path) -> Outcome:
    """Send at least ``count`` requests over kept connections, in sessions that follow from ``seed``."""
    outcome = Outcome(seed)
    for part, server in enumerate(SERVERS):
        folder = directory / str(part)
        folder.mkdir()
        async with four_gateways(folder, server) as places:
            await _sessions(places, count * (part + 1) // len(SERVERS), f"{seed} {part}", outcome)
    return outcome


async def _sessions(places: Sequence[Place], count: int, seed: str, outcome: Outcome) -> None:
    gateway = places[0].gateway
    tokens = [gateway.token(), gateway.token(sub="bob", scope="read"), gateway.token(exp=1), b"a.b.c"]
    tokens += [tokens[0][:-8] + b"AAAAAAAA", gateway.token(sub="joe", cnf={"jkt": "0" * 43})]
    number = 0
    while outcome.kept.total() < count and len(outcome.findings) < MAX_FINDINGS:
        random = Random(f"{seed} {number}")
        await session(places, Maker(random, tokens), random, outcome)
        for place in places:
            place.gateway.out.seek(0)
            place.gateway.out.truncate()
        number += 1


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code: 0 when nothing was found."""
    parser = argparse.ArgumentParser(prog="lanes", description=__doc__)
    parser.add_argument("--count", type=int, default=100_000, help="over kept connections (default: %(default)s)")
    parser.add_argument(
        "--seed", default=str(SystemRandom().randrange(1 << 32)), help="repeat a run (default: by chance)"
    )
    options = parser.parse_args(arguments)
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as directory, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        outcome = runner.run(compare_lanes(options.count, options.seed, Path(directory)))
    print(
        f"seed {outcome.seed}: {outcome.kept.total()} requests over kept connections and {outcome.fresh} over new ones "
        f"in {time.monotonic() - began:.1f} s"
    )
    print("statuses:", ", ".join(f"{status}: {number}" for status, number in sorted(outcome.statuses.items())))
    print(f"{len(outcome.findings)} differences" + "".join(f"\n- {finding}" for finding in outcome.findings))
    return 1 if outcome.findings else 0


if __name__ == "__main__":
    sys.exit(main())
