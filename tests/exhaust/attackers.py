"""The attackers, in a process of their own that gives way to everything else.

``python -m tests.exhaust.attackers KIND PORT CONNECTIONS SECONDS [--tls]``. A kind of attack has several ways; all
connections go one of them at a time, and each way gets the same share of the seconds. Prints the name of a way when
it begins, and in the end a line of JSON. Nothing of the gateway is imported here.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import ssl
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import uvloop

from tests.exhaust.connection import Connection, Target, careless

Life = Callable[[Target], Awaitable[None]]


@dataclass(frozen=True)
class Way:
    """One way to attack.

    Attributes:
        life: what one connection does from its opening to its end; then the next one begins.
        ports: where it makes sense.
    """

    name: str
    life: Life
    ports: tuple[str, ...] = ("plain", "tls")


@dataclass(frozen=True)
class Kind:
    """One kind of attack, in several ways.

    Attributes:
        name: as on the command line.
        ways: all of them; a port gets its own.
        cpu: whether it works as fast as it can, so that it is the core that bounds it.
    """

    name: str
    ways: tuple[Way, ...]
    cpu: bool = False

    def at(self, port: str) -> tuple[Way, ...]:
        """Return the ways to attack a port."""
        return tuple(way for way in self.ways if port in way.ports)


def request(start: bytes, *fields: bytes, body: bytes = b"") -> bytes:
    """Build a request."""
    return b"\r\n".join([start + b" HTTP/1.1", b"Host: gateway.test", *fields]) + b"\r\n\r\n" + body


CHUNKED = b"Transfer-Encoding: chunked"
LONG = b"Content-Length: 100000000"
#: 58 KiB of fields, under the limit of a head.
FIELDS = tuple(b"X-%d: " % number + b"a" * 1000 for number in range(58))


def connected(life: Callable[[Connection], Awaitable[None]], *, handshake: bool = True) -> Life:
    """Return a life that begins with a connection, and with its TLS handshake where there is TLS."""

    async def whole(target: Target) -> None:
        connection = await Connection.open(target, handshake=handshake)
        try:
            await life(connection)
        finally:
            connection.close()

    return whole


def flood(data: bytes, *, reads: bool, first: bytes = b"") -> Life:
    """Send ``first``, and then the same over and over as fast as it is taken; read the answers, or never."""

    async def send(connection: Connection) -> None:
        await connection.send(first)
        while True:
            await connection.send(data)

    async def read(connection: Connection) -> None:
        await connection.until_closed()
        raise ConnectionResetError

    async def life(connection: Connection) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(send(connection))
            if reads:
                group.create_task(read(connection))

    return connected(life)


def drip(first: bytes, data: bytes) -> Life:
    """Send ``first`` at once, then a byte every 10 ms; wait for the answer and begin again."""

    async def life(connection: Connection) -> None:
        await connection.send(first)
        for number in range(len(data)):
            await connection.send(data[number : number + 1])
            await asyncio.sleep(0.01)
        await connection.receive()

    return connected(life)


def silence(data: bytes, *, handshake: bool = True) -> Life:
    """Send this much and nothing more, until the gateway closes."""

    async def life(connection: Connection) -> None:
        await connection.send(data)
        await connection.until_closed()

    return connected(life, handshake=handshake)


def unread(data: bytes) -> Life:
    """Ask and never read."""

    async def life(connection: Connection) -> None:
        await connection.send(data)
        await asyncio.Event().wait()

    return connected(life)


def sipping(data: bytes) -> Life:
    """Ask, and read 200 bytes five times a second."""

    async def life(connection: Connection) -> None:
        await connection.send(data)
        while True:
            if not await connection.receive(200):
                return
            await asyncio.sleep(0.2)

    return connected(life)


def half_closed(data: bytes, *, alert: bool = False) -> Life:
    """Send this much, end the sending and wait for the gateway to close."""

    async def life(connection: Connection) -> None:
        if data:
            await connection.send(data)
        if alert:
            connection.closure_alert()
        else:
            connection.fin()
        await connection.until_closed()

    return connected(life)


async def _ask_once(connection: Connection) -> None:
    await connection.send(request(b"GET /"))
    await connection.receive()


async def _leave(connection: Connection) -> None:
    """Do nothing with a connection."""


def s_client(version: str, command: bytes, pause: float) -> Life:
    """Let ``openssl s_client`` send what Python cannot, and again after each pause of so many seconds."""

    async def life(target: Target) -> None:
        pipe, null = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL
        address = f"127.0.0.1:{target.port}"
        process = await asyncio.create_subprocess_exec(
            "openssl", "s_client", "-connect", address, version, stdin=pipe, stdout=null, stderr=null
        )
        target.opened += 1
        assert process.stdin is not None
        try:
            while process.returncode is None and not process.stdin.is_closing():
                process.stdin.write(command)
                await process.stdin.drain()
                target.sent += len(command)
                await asyncio.sleep(pause)
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()

    return life


def client_hello() -> bytes:
    """Return the first bytes of a TLS client."""
    outgoing = ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        careless().wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="localhost").do_handshake()
    return outgoing.read()


_BAD_TOKENS = b"".join(request(b"GET /good", b"Authorization: Bearer a.%d.c" % number) for number in range(4000))
_CHUNKED = request(b"POST /", CHUNKED, body=b"1\r\na\r\n1\r\nb\r\n0\r\n\r\n")
_SMALL = b"1\r\na\r\n" * 40_000
_HELLO = client_hello()
_TLS = ("tls",)

KINDS = {
    kind.name: kind
    for kind in (
        Kind(
            "pipeline",
            (
                Way("answered", flood(request(b"GET /") * 1000, reads=True)),
                Way("answered, unread", flood(request(b"GET /") * 1000, reads=False)),
                Way("refused", flood(request(b"GET /%2e%2e/x") * 4000, reads=True)),
                Way("refused, unread", flood(request(b"GET /%2e%2e/x") * 4000, reads=False)),
                Way("without a token", flood(request(b"GET /good") * 4000, reads=True)),
                Way("bad tokens", flood(_BAD_TOKENS, reads=True)),
                Way("heads of 58 KiB", flood(request(b"GET /", *FIELDS) * 10, reads=True)),
                Way("with content", flood(_CHUNKED * 2000, reads=True)),
            ),
            cpu=True,
        ),
        Kind(
            "stall",
            (
                Way("head by the byte", drip(b"", request(b"GET /", *FIELDS))),
                Way("content by the byte", drip(request(b"POST /sink", LONG), b"a" * 1_000_000)),
                Way("content of small chunks", flood(_SMALL, reads=False, first=request(b"POST /sink", CHUNKED))),
                Way("content that does not come", silence(request(b"POST /sink", LONG))),
                Way("big answer, unread", unread(request(b"GET /big"))),
                Way("big answer, 1 KB/s", sipping(request(b"GET /big"))),
            ),
        ),
        Kind(
            "half-close",
            (
                Way("behind a request", half_closed(request(b"GET /"))),
                Way("behind a slow request", half_closed(request(b"GET /slow"))),
                Way("behind a refused request", half_closed(request(b"GET /good"))),
                Way("in the content", half_closed(request(b"POST /sink", LONG, body=b"a"))),
                Way("behind nothing", half_closed(b"")),
                Way("closure alert only", half_closed(request(b"GET /slow"), alert=True), _TLS),
            ),
        ),
        Kind(
            "renegotiate",
            (
                Way("handshakes", connected(_leave), _TLS),
                Way("handshakes with a request", connected(_ask_once), _TLS),
                Way("TLS 1.2 renegotiations", s_client("-tls1_2", b"R\n", 0.02), _TLS),
                Way("TLS 1.3 key updates", s_client("-tls1_3", b"K\n", 0.01), _TLS),
            ),
            cpu=True,
        ),
        Kind(
            "silent",
            (
                Way("nothing", silence(b"", handshake=False)),
                Way("half a head", silence(request(b"GET /")[:-2])),
                Way("half a hello", silence(_HELLO[:100], handshake=False), _TLS),
                Way("a hello", silence(_HELLO, handshake=False), _TLS),
                Way("nothing after the handshake", silence(b""), _TLS),
            ),
        ),
    )
}


async def attack(way: Way, target: Target, count: int, seconds: float) -> None:
    """Go one way with so many connections at a time for so long."""

    async def again() -> None:
        while True:
            pause = 0.0
            try:
                await way.life(target)
            except* OSError as group:
                target.ends.update(type(error).__name__ for error in group.exceptions)
                pause = 0.01
            await asyncio.sleep(pause)

    try:
        async with asyncio.timeout(seconds), asyncio.TaskGroup() as group:
            for _ in range(count):
                group.create_task(again())
    except TimeoutError:
        pass


async def attack_every_way(kind: str, target: Target, count: int, seconds: float) -> None:
    """Go all ways of a kind, each for its share of the seconds."""
    ways = KINDS[kind].at("tls" if target.tls else "plain")
    for way in ways:
        print(way.name, flush=True)
        await attack(way, target, count, seconds / len(ways))


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("port", type=int)
    parser.add_argument("connections", type=int)
    parser.add_argument("seconds", type=float)
    parser.add_argument("--tls", action="store_true")
    options = parser.parse_args()
    os.nice(10)
    target = Target(options.port, options.tls)
    began = time.monotonic()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(attack_every_way(options.kind, target, options.connections, options.seconds))
    spent = os.times()
    result = {
        "opened": target.opened,
        "sent": target.sent,
        "received": target.received,
        "ends": target.ends,
        "cores": sum(spent[:4]) / (time.monotonic() - began),
    }
    print(json.dumps(result), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
