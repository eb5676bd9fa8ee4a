"""Clients that leave at any point of anything: nothing of them is left in the gateway (R284, R285).

Where each one leaves is drawn from a seed, which a failure shows.
"""

from __future__ import annotations

import asyncio
import random
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from gateway import tasks
from tests.support.gateways.running import RawClient, RunningGateway, request, running_gateway, until
from tests.support.leaks import everything_logged
from tests.support.upstreams.recording import RawUpstream, Received, raw_upstream

pytestmark = pytest.mark.every_log

CLIENTS = 500
AT_ONCE = 40
CONTENT = bytes(range(256)) * 1200


@dataclass
class Service:
    """What the upstream does with each target, and which requests it is holding."""

    waiting: dict[bytes, asyncio.Event] = field(default_factory=dict)

    async def respond(
        self, received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bytes | None:
        kind = received.target.split(b"/")[1]
        if kind == b"wait":
            self.waiting[received.target].set()
            assert await reader.read() == b""  # ends when the gateway lets go of the request
            return None
        if kind == b"length":
            return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(CONTENT), CONTENT)
        if kind == b"chunks":
            chunks = (CONTENT[start : start + 5000] for start in range(0, len(CONTENT), 5000))
            coded = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks)
            return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%b0\r\n\r\n" % coded
        if kind == b"close":
            writer.write(b"HTTP/1.1 200 OK\r\n\r\n" + CONTENT)
            await writer.drain()
            return None
        return b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


async def leaves_in_its_request(client: RawClient, chance: random.Random, target: bytes) -> None:
    """Send a part of a request: of its head, or of its content."""
    size = chance.choice([10, 5000, 100_000])
    data = chance.choice(
        [
            request(b"GET", b"/ok" + target, (b"X-Long", b"a" * chance.choice([1, 8000]))),
            request(b"POST", b"/ok" + target, (b"Content-Length", b"%d" % size), body=CONTENT[:size]),
            request(
                *(b"POST", b"/ok" + target, (b"Transfer-Encoding", b"chunked")),
                body=b"%x\r\n%b\r\n" % (size, CONTENT[:size]),
            ),
            request(b"POST", b"/wait" + target, (b"Content-Length", b"%d" % size), (b"Expect", b"100-continue")),
        ]
    )
    await client.send(data[: chance.randrange(1, len(data))])


async def leaves_while_it_waits(client: RawClient, chance: random.Random, target: bytes, service: Service) -> None:
    """Send a whole request and leave when the upstream has it."""
    event = service.waiting[b"/wait" + target] = asyncio.Event()
    length = (b"Content-Length", b"3")
    whole = [
        request(b"GET", b"/wait" + target),
        request(b"POST", b"/wait" + target, length, body=b"abc"),
        request(b"POST", b"/wait" + target, (b"Transfer-Encoding", b"chunked"), body=b"3\r\nabc\r\n0\r\n\r\n"),
    ]
    await client.send(chance.choice(whole))
    async with asyncio.timeout(10):
        await event.wait()


async def leaves_in_a_response(client: RawClient, chance: random.Random, target: bytes) -> None:
    """Ask for one to three large responses at once, and read a part of them."""
    kinds = [chance.choice([b"/length", b"/chunks", b"/close"]) for _ in range(chance.randrange(1, 4))]
    await client.send(b"".join(request(b"GET", kind + target) for kind in kinds))
    left = chance.randrange(1, len(CONTENT) * len(kinds))
    while left > 0:
        piece = await client.reader.read(left)
        assert piece, "the gateway closed first"
        left -= len(piece)


async def leaves_after_a_refusal(client: RawClient, chance: random.Random, target: bytes) -> None:
    """Send a request that is refused, with content or garbage behind it."""
    refused = [
        request(b"GET", b"/../x"),
        request(b"POST", b"/%2e%2e/", (b"Content-Length", b"100000"), body=CONTENT[: chance.randrange(50_000)]),
        b"garbage" * chance.randrange(1, 3000) + b"\r\n\r\n",
    ]
    await client.send(chance.choice(refused))


def go(client: RawClient, chance: random.Random) -> None:
    """Close the connection, in order or by a reset."""
    if chance.random() < 0.5:
        client.writer.get_extra_info("socket").setsockopt(1, 13, struct.pack("ii", 1, 0))  # SOL_SOCKET, SO_LINGER
        client.writer.transport.abort()
    else:
        client.writer.close()


async def all_leave(gateway: RunningGateway, service: Service, seed: int) -> None:
    """Let the clients come and go, some at a time."""
    free = asyncio.Semaphore(AT_ONCE)

    async def one(number: int) -> None:
        chance = random.Random(seed * CLIENTS + number)
        target = b"/%d" % number
        async with free:
            client = RawClient(*await asyncio.open_connection("127.0.0.1", gateway.app.port))
            try:
                match chance.randrange(4):
                    case 0:
                        await leaves_in_its_request(client, chance, target)
                    case 1:
                        await leaves_while_it_waits(client, chance, target, service)
                    case 2:
                        await leaves_in_a_response(client, chance, target)
                    case _:
                        await leaves_after_a_refusal(client, chance, target)
            except ConnectionError:
                pass  # it was the gateway that closed, after a refusal
            finally:
                go(client, chance)

    await asyncio.gather(*map(one, range(CLIENTS)))


def at_rest(gateway: RunningGateway, upstream: RawUpstream) -> Callable[[], bool]:
    """Say when nothing is going on: no connection of a client, no place of the pool taken, only idle connections."""

    def rests() -> bool:
        state = gateway.app.upstreams["main"].origins[0].state()
        taken = (gateway.app.telemetry.connections, state.in_use, state.waiting)
        return taken == (0, 0, 0) and upstream.open_connections == state.idle

    return rests


def open_sockets() -> int:
    """Return how many sockets this process has, gateway, upstream and clients together."""
    links = (str(entry.readlink()) for entry in Path("/proc/self/fd").iterdir() if entry.is_symlink())
    return sum(link.startswith("socket:") for link in links)


@pytest.mark.parametrize("seed", [4, 5])
@pytest.mark.rule("R284", "R285", "R294")
async def test_clients_that_leave_leave_nothing_behind(tmp_path: Path, seed: int) -> None:
    """500 of them, by FIN or RST, in requests, waits, responses and after refusals."""
    service = Service()
    loop_faults: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: loop_faults.append(str(context)))
    pool = {"pool_size": AT_ONCE * 2}
    routes = ({"path": "/", "auth": "public"},)
    with everything_logged() as logged:
        async with (
            raw_upstream(service.respond) as upstream,
            running_gateway(upstream.url, tmp_path, routes=routes, upstream=pool) as gateway,
        ):
            assert (await gateway.get("/ok")).body == b"ok"
            await gateway.clients.pop().close()
            await until(at_rest(gateway, upstream))
            sockets, work = open_sockets(), len(tasks.running())

            await all_leave(gateway, service, seed)

            await until(at_rest(gateway, upstream))
            idle = gateway.app.upstreams["main"].origins[0].state().idle
            # Of one idle connection there were both ends before; of each further one both ends are here, too.
            await until(lambda: open_sockets() == sockets + 2 * (idle - 1))
            assert len(tasks.running()) == work
            assert (await gateway.get("/ok")).body == b"ok"
            outcomes = {line["outcome"] for line in await gateway.log()}
    faults = [
        line
        for line, record in zip(logged.lines, logged.records, strict=True)
        if record.levelname in ("ERROR", "CRITICAL") or record.exc_info
    ]
    assert (faults, loop_faults) == ([], [])
    assert outcomes <= {"forwarded", "refused", "client_gone"}, outcomes
