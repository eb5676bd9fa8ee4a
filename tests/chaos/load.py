"""Clients that know what the right answer is, and judge every one that they get."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from collections import Counter
from dataclasses import dataclass, field

from tests.chaos.content import EARLY, content, receipt
from tests.support.gateways.running import RawClient, RawResponse, request

#: What the gateway may say of an upstream that failed, and no other status but 200.
FAILURES = {502: "bad_gateway", 503: "unavailable", 504: "gateway_timeout"}

#: How long an answer may take in all, in seconds: several times every time limit of the gateway.
PATIENCE = 15.0


@dataclass
class Judgement:
    """What came of all requests."""

    outcomes: Counter[str] = field(default_factory=Counter)
    findings: list[str] = field(default_factory=list)
    posted: int = 0

    def note(self, asked: str, response: RawResponse, expected: bytes) -> bool:
        """Judge one answer; return whether the connection may be used again."""
        if response.status == 418:
            expected = EARLY
        if not response.complete:
            # The head was out already: a break that every client can see is the only honest end.
            self.outcomes["broken off"] += 1
            if response.status not in (200, 418) or not expected.startswith(response.body):
                self.findings.append(f"{asked}: {response.status}, broken off, with content of something else")
            return False
        self.outcomes[str(response.status)] += 1
        if response.status in (200, 418):
            if response.body != expected:
                self.findings.append(f"{asked}: whole, but {_differing(response, expected)}")
        elif response.status not in FAILURES:
            self.findings.append(f"{asked}: {response.status}")
        elif json.loads(response.body)["error"] != FAILURES[response.status]:
            self.findings.append(f"{asked}: {response.status} that is not the gateway's")
        return response.one(b"connection") != b"close"


def _differing(response: RawResponse, expected: bytes) -> str:
    kind = "shortened" if expected.startswith(response.body) else "different"
    return f"{kind}: {len(response.body)} bytes instead of {len(expected)}, under {response.head!r}"


class Load:
    """Some clients, each with one request at a time on a kept connection.

    Args:
        port: the gateway's.
        seed: of what they ask.
    """

    def __init__(self, port: int, seed: int) -> None:
        self._port = port
        self._seed = seed
        self._number = 0
        self.judgement = Judgement()
        self.stopped = False

    async def run(self, clients: int) -> None:
        """Ask until ``stopped``."""
        async with asyncio.TaskGroup() as group:
            for number in range(clients):
                group.create_task(self._client(random.Random(self._seed + number)))

    async def _client(self, chance: random.Random) -> None:
        client: RawClient | None = None
        while not self.stopped:
            if client is None:
                client = RawClient(*await asyncio.open_connection("127.0.0.1", self._port, limit=1 << 20))
            if not await self._exchange(client, chance):
                await client.close()
                client = None
            await asyncio.sleep(chance.uniform(0, 0.02))  # refusals come at once: not a race for them
        if client is not None:
            await client.close()

    async def _exchange(self, client: RawClient, chance: random.Random) -> bool:
        """Send one request and judge its answer; return whether the connection is still good."""
        self._number += 1
        pieces, asked, expected = self._request(chance, self._number)
        sending = asyncio.ensure_future(_send(client, pieces))
        try:
            response = await client.response(within=PATIENCE)
        except (asyncio.IncompleteReadError, ConnectionError):
            self.judgement.outcomes["no answer"] += 1
            self.judgement.findings.append(f"{asked}: closed without an answer")
            return False
        except TimeoutError:
            self.judgement.outcomes["no answer"] += 1
            self.judgement.findings.append(f"{asked}: no answer in {PATIENCE} s")
            return False
        finally:
            whole = sending.done() and not sending.cancelled() and sending.exception() is None
            sending.cancel()
            with contextlib.suppress(asyncio.CancelledError, ConnectionError):
                await sending
        return self.judgement.note(asked, response, expected) and whole

    def _request(self, chance: random.Random, number: int) -> tuple[list[bytes], str, bytes]:
        """Return a request in pieces, its name, and the right answer's content."""
        size = chance.choice([0, 1, 100, 5_000, 70_000, 400_000])
        seed = chance.randrange(1 << 30)
        made = content(seed, size)
        kind = chance.choice(["GET", "GET", "GET", "POST", "POST", "PUT", "DELETE"])
        if kind == "GET":
            target = f"/content/{seed}/{size}/{chance.choice(['length', 'chunks'])}"
            return [request(b"GET", target)], f"GET {target}", made
        target = f"/{self._seed}-{number}"
        asked = f"{kind} {target} with {size} bytes"
        method = kind.encode()
        if kind == "POST":
            self.judgement.posted += 1
        if kind == "DELETE":
            return [request(method, target)], asked, receipt(b"")
        if chance.random() < 0.5:
            head = request(method, target, (b"Content-Length", b"%d" % size))
            return [head + made[:1000], made[1000:]], asked, receipt(made)
        head = request(method, target, (b"Transfer-Encoding", b"chunked"))
        chunks = [made[start : start + 30_000] for start in range(0, size, 30_000)]
        return (
            [head, *(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks), b"0\r\n\r\n"],
            asked,
            receipt(made),
        )


async def _send(client: RawClient, pieces: list[bytes]) -> None:
    for piece in pieces:
        await client.send(piece)
