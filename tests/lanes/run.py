"""The differential run behind ``scripts/lanes``: nobody can tell by an answer how its request was served.

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
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random, SystemRandom
from typing import Any, NamedTuple

import uvloop

from tests.support.gateway import RawClient, RawResponse, RunningGateway, running_gateway
from tests.support.keys import KEY, OTHER, entry
from tests.support.lanes import EVERY, running_in
from tests.support.minting import SigningKey
from tests.support.upstream import RawUpstream, Received, raw_upstream

ROUTES: tuple[dict[str, Any], ...] = (
    {"path": "/"},
    {"path": "/pub", "auth": "public"},
    {"path": "/opt", "auth": "optional"},
    {"path": "/scope", "scopes": ["write"]},
    {"path": "/no", "scopes": ["nobody:has"]},
    {"path": "/observed", "observe": True, "scopes": ["nobody:has"]},
    {"path": "/strip", "strip_prefix": True, "auth": "public"},
    {"path": "/token", "forward_authorization": True},
    {"path": "/post", "methods": ["POST"], "auth": "public"},
    {"path": "/bound", "sender_constrained": "required"},
    {"path": "/keys", "credentials": ["api_key"]},
    {"path": "/either", "credentials": ["jwt", "api_key"], "scopes": ["read"]},
    {"path": "/pages", "auth": "public", "cors_origins": ["https://a.test"]},
    {"path": "/limited", "rate_limit": [{"requests": 1_000_000}]},
)
API_KEYS = [entry(scopes=["read"]), entry(OTHER, "other", expires="2020-01-01T00:00:00Z")]
RESOURCES = [{"resource": "https://api.test"}]

TARGETS = (
    *(b"/", b"/a?x=1", b"/pub", b"/pub/%61;p?q", b"/opt", b"/scope", b"/no", b"/observed", b"/strip/x?z", b"/token"),
    *(b"/post", b"/bound", b"/keys", b"/either", b"/pages", b"/limited", b"/a%2fb", b"/a/../b", b"http://o.test/pub"),
    *(b"/a?access_token=x", b"/.well-known/oauth-protected-resource", b"*", b"/pub?kind=chunked", b"/pub?kind=closing"),
    *(b"/pub?kind=none", b"/pub?kind=cookies", b"/pub?kind=error", b"/pub?kind=nominating"),
)
METHODS = (*(b"GET",) * 6, b"HEAD", b"POST", b"DELETE", b"OPTIONS", b"PURGE", b"TRACE")

RESPONSES: dict[bytes, bytes] = {
    b"chunked": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    b"closing": b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
    b"none": b"HTTP/1.1 204 No Content\r\nX-A: b\r\n\r\n",
    b"cookies": b"HTTP/1.1 200 Fine\r\nSet-Cookie: a=1\r\nset-cookie: b=2\r\nX-Odd:  \xff \r\n"
    b"Content-Length: 1\r\n\r\nx",
    b"error": b"HTTP/1.1 500 Oops\r\nContent-Length: 3\r\n\r\nerr",
    b"nominating": b"HTTP/1.1 200 OK\r\nConnection: X-Gone\r\nX-Gone: 1\r\nX-Kept: 2\r\nContent-Length: 0\r\n\r\n",
}

FIELDS = (
    *(b"Connection: keep-alive", b"X-A: 1", b"x-a:2", b"X-User-Id: admin", b"X_User_Id: admin", b"Cookie: a=b"),
    *(b"X-Forwarded-For: 10.0.0.1", b"X-Odd: \xff\xfe", b"X-Space:   a \t ", b"Via: 1.0 before", b"TE: trailers"),
    *(b"Origin: https://a.test", b"Origin: https://b.test", b"Access-Control-Request-Method: POST", b"Expect: other"),
    *(b"Upgrade: foo", b"Max-Forwards: 3", b"Content-Length: 0", b"Connection: close", b"Bad Name: x"),
    *(b"X-Api-Key: " + KEY, b"X-Api-Key: " + OTHER, b"X-Api-Key: unknown", b"X-Api-Key:"),
)

#: What ids are made of, and words that answers and heads are made of.
ID_LETTERS = b"ABCXYZabcxyz0123456789._~+/=:@-"
WORDS = (
    *(b"1", b"9", b"77", b"4", b"401", b"200", b"OK", b"HTTP/1.1", b"H", b"Unauthorized", b"X-Request-Id:", b"error"),
    *(b"Content-Length:", b"request_id", b"Bearer", b"gateway", b"invalid_token", b"Host:", b"Via:", b"e", b":", b"/"),
)

#: Requests of one session, and most of them in one segment.
SESSION, SEGMENT = 24, 6

#: Differences that are shown before the run gives up.
MOST_FINDINGS = 10


class Request(NamedTuple):
    """One request, and what is needed to read its answer."""

    data: bytes
    method: bytes


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


async def respond(received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    """Answer as the target asks for."""
    kind = received.target.partition(b"kind=")[2]
    data = RESPONSES.get(kind, b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")
    if received.line.startswith(b"HEAD "):
        return data.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
    return data


class Maker:
    """Makes the requests of one session, which repeat each other as those of one client do."""

    def __init__(self, random: Random, tokens: Sequence[bytes]) -> None:
        self._random = random
        self._tokens = [*random.sample(tokens, 2), b""]
        self._targets = random.sample(TARGETS, random.randint(1, 5))
        self._fields = random.sample(FIELDS[:-8], random.randint(0, 3))
        self._traced = random.random() < 0.5

    def request(self) -> Request:
        random = self._random
        method, target = random.choice(METHODS), random.choice(self._targets)
        fields = list(self._fields)
        if random.random() < 0.1:
            fields.append(random.choice(FIELDS))
        token = random.choice(self._tokens)
        if token:
            fields.append(b"Authorization: Bearer " + token)
        if self._traced:
            fields.append(b"X-Trace: %d" % random.randrange(1000))
        if random.random() < 0.9:
            fields.append(b"X-Request-Id: " + self._id())
        content = b""
        if method == b"POST":
            content = b"x" * random.choice((1, 3, 3, 200))
            chunked = random.random() < 0.2
            fields.append(b"Transfer-Encoding: chunked" if chunked else b"Content-Length: %d" % len(content))
            content = b"%x\r\n%b\r\n0\r\n\r\n" % (len(content), content) if chunked else content
        version = b"1.0" if random.random() < 0.005 else b"1.1"
        lines = [b"%b %b HTTP/%b" % (method, target, version), b"Host: api.test", *fields]
        return Request(b"\r\n".join(lines) + b"\r\n\r\n" + content, method)

    def _id(self) -> bytes:
        if self._random.random() < 0.3:
            return self._random.choice(WORDS)
        return bytes(self._random.choices(ID_LETTERS, k=self._random.randint(1, 128)))


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
            answers.append(answer := await client.response(head_only=one.method == b"HEAD", within=10))
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
async def four_gateways(directory: Path) -> AsyncIterator[list[Place]]:
    """Run a gateway in each lane with each log, with the same key."""
    key = SigningKey.rsa("a")
    async with contextlib.AsyncExitStack() as stack:
        places = []
        for lane, log in EVERY:
            folder = directory / f"{lane}-{log}"
            folder.mkdir()
            upstream = await stack.enter_async_context(raw_upstream(respond))
            with running_in(lane, log):
                options: dict[str, Any] = {"routes": ROUTES, "resources": RESOURCES, "api_keys": API_KEYS}
                running = running_gateway(upstream.url, folder, key=key, **options)
                places.append(Place(f"{lane}, log {log}", await stack.enter_async_context(running), upstream))
        yield places


async def compare_lanes(count: int, seed: str, directory: Path) -> Outcome:
    """Send at least ``count`` requests over kept connections, in sessions that follow from ``seed``."""
    outcome = Outcome(seed)
    async with four_gateways(directory) as places:
        gateway = places[0].gateway
        tokens = [gateway.token(), gateway.token(sub="bob", scope="read"), gateway.token(exp=1), b"a.b.c"]
        tokens += [tokens[0][:-8] + b"AAAAAAAA", gateway.token(sub="joe", cnf={"jkt": "0" * 43})]
        number = 0
        while outcome.kept.total() < count and len(outcome.findings) < MOST_FINDINGS:
            random = Random(f"{seed} {number}")
            await session(places, Maker(random, tokens), random, outcome)
            for place in places:
                place.gateway.out.seek(0)
                place.gateway.out.truncate()
            number += 1
    return outcome


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
