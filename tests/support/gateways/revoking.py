"""What may be revoked, entries for it, and waiting for an answer that a revocation brings about."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from types import MappingProxyType
from typing import Any

from gateway.clock import SystemClock
from gateway.features.revocation.redis_source import RedisRevocations
from gateway.identity import Identity
from gateway.jwt.revocations.entry import RevocationEntry
from gateway.jwt.revocations.table import EntryKind
from gateway.settings.tables.redis import Redis
from gateway.store.redis_link import RedisLink
from gateway.tasks import running
from tests.support.clock import FakeClock, eventually
from tests.support.gateways.running import RawClient, RawResponse, request
from tests.support.pace import paced
from tests.support.stores.redis import RedisServer

#: Where the records are in Redis.
LOG = "gateway:{revocation}:log"

SECRET = b"0123456789-abcdef-secret"

NOW = 1_800_000_000.0
HOUR = 3600.0


def caller(
    token: str | None = None,
    subject: str | None = None,
    session: str | None = None,
    issuer: str = "https://idp.test/",
    issued: float = NOW - 60,
) -> Identity:
    return Identity(
        issuer_name="main",
        issuer=issuer,
        subject=subject,
        scopes=(),
        claims=MappingProxyType({}),
        lines=b"",
        expires_at=math.inf,
        not_before=-math.inf,
        token_id=token,
        session_id=session,
        issued_at=issued,
    )


def revoked(kind: EntryKind, value: str, issuer: str = "", before: float = 0.0, expires: float = NOW + HOUR) -> bytes:
    return RevocationEntry(kind, value, issuer, before, expires).record()


async def until_status(ask: Callable[[], Awaitable[RawResponse]], status: int, within: float) -> float:
    """Ask until the answer has this status; return the seconds that this took.

    Raises:
        AssertionError: it took longer than ``within``.
    """
    began = time.monotonic()
    for _ in range(int(within / 0.01) + 1):
        found = (await ask()).status
        if found == status:
            return time.monotonic() - began
        assert time.monotonic() - began < within, f"still {found} after {within} s"
        await asyncio.sleep(0.01)
    raise AssertionError(f"never {status}")


async def revoke_by_call(port: int, *entries: Any, secret: bytes = SECRET, scheme: bytes = b"Bearer") -> RawResponse:
    """Call ``POST /revoke`` of an admin port, with entries as values or as the bytes that they are sent as."""
    body = b"\n".join(entry if isinstance(entry, bytes) else json.dumps(entry).encode() for entry in entries)
    fields = [(b"Host", b"localhost"), (b"Content-Length", b"%d" % len(body))]
    if secret:
        fields.append((b"Authorization", scheme + b" " + secret))
    client = RawClient(*await asyncio.open_connection("127.0.0.1", port))
    try:
        return await client.exchange(request(b"POST", "/revoke", *fields, body=body))
    finally:
        await client.close()


def token(name: str, expires: float = 3600.0) -> bytes:
    return revoked(EntryKind.TOKEN, name, expires=time.time() + expires)


def covers(source: RedisRevocations, names: Iterable[str]) -> list[bool]:
    return [source.table.covers(caller(token=name), time.time()) for name in names]


def all_of(source: RedisRevocations, names: Iterable[str]) -> bool:
    return all(covers(source, names))


@contextlib.asynccontextmanager
async def linked(url: str, **options: Any) -> AsyncIterator[RedisLink]:
    """Have a started link."""
    link = RedisLink(Redis(url=url, **{"timeout_seconds": paced(0.5), **options}), SystemClock())
    await link.start()
    try:
        yield link
    finally:
        await link.stop()


@contextlib.asynccontextmanager
async def following(link: RedisLink) -> AsyncIterator[RedisRevocations]:
    """Have revocations that follow Redis."""
    source = RedisRevocations(link, SystemClock())
    await source.start()
    try:
        yield source
    finally:
        await source.stop()


@contextlib.asynccontextmanager
async def looking(link: RedisLink) -> AsyncIterator[tuple[RedisRevocations, FakeClock]]:
    """Have revocations that look only when they are asked to, by a clock of the test."""
    clock = FakeClock(time.time())
    source = RedisRevocations(link, clock)
    try:
        yield source, clock
    finally:
        await source.stop()


async def subscribed(server: RedisServer, count: int = 1) -> None:
    """Wait until so many hear the channel."""
    await eventually(lambda: server.run("PUBSUB", "NUMSUB", "gateway:{revocation}:0")[1] == count)


def restoring() -> bool:
    """Return whether anybody in this process is writing back what Redis has lost."""
    return any(task.get_name() == "revocations restored" for task in running())


def size(server: RedisServer) -> int:
    """Return how many records there are, without the mark among them."""
    return len(server.run("ZRANGEBYSCORE", LOG, "(0", "+inf"))
