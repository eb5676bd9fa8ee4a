"""Answers that gateways share, in a real Redis: what is kept there, what is believed, and Redis away."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import AsyncIterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from joserfc.jwk import ECKey

from gateway.features.introspection.shared_answers import Shared, SharedAnswers
from gateway.settings.client_credentials import ClientKey
from gateway.settings.tables.redis import Redis
from gateway.store.redis_link import HEARTBEAT_SECONDS, RedisLink
from tests.support.clock import FakeClock, eventually
from tests.support.issuers.introspection import introspecting, said
from tests.support.pace import paced
from tests.support.stores.redis import RedisServer

TOKEN = b"2YotnFZFEjr1zCsicMWpAA"
DIGEST = sha256(TOKEN).digest()
ANSWER = said(1_800_000_000, sub="alice@example.com")
SECRET = "s3cr3t"


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[RedisServer]:
    async with RedisServer(tmp_path / "redis") as running:
        yield running


@contextlib.asynccontextmanager
async def linked(
    server: RedisServer, folder: Path, clock: FakeClock, **options: Any
) -> AsyncIterator[tuple[SharedAnswers, RedisLink]]:
    settings = Redis(url=server.url, timeout_seconds=paced(0.2))
    link = RedisLink(settings, clock)
    await link.start()
    try:
        yield SharedAnswers(link, settings, introspecting(folder, "https://as.test/introspect", **options)), link
    finally:
        await link.stop()


@contextlib.asynccontextmanager
async def sharing(server: RedisServer, folder: Path, clock: FakeClock, **options: Any) -> AsyncIterator[SharedAnswers]:
    async with linked(server, folder, clock, **options) as (answers, _):
        yield answers


def keys(server: RedisServer) -> list[bytes]:
    return sorted(server.run("KEYS", "*"))


@pytest.mark.rule("R123")
async def test_answer_is_shared_for_its_time(server: RedisServer, tmp_path: Path) -> None:
    """By gateways that have the same client's secret, for what is left of its time."""
    clock = FakeClock()
    async with sharing(server, tmp_path, clock) as one, sharing(server, tmp_path, clock) as other:
        assert await one.find(DIGEST, SECRET) is None
        await one.put(DIGEST, SECRET, ANSWER, 30)
        clock.jump(10)
        found = await other.find(DIGEST, SECRET)
        # Each link has its own sample of the server's clock, which it read somewhen within an exchange.
        assert found is not None
        assert found == Shared(ANSWER, found.seconds, found.age)
        assert abs(found.seconds - 20) < 1
        assert abs(found.age - 10) < 1
        assert await other.find(sha256(b"another").digest(), SECRET) is None
        (key,) = keys(server)
        assert 29_000 < server.run("PTTL", key) <= 30_000
        clock.jump(21)
        assert await other.find(DIGEST, SECRET) is None
    assert (one.misses, other.hits, other.misses) == (1, 1, 2)


@pytest.mark.rule("R131")
async def test_neither_token_nor_claims_can_be_read_there(server: RedisServer, tmp_path: Path) -> None:
    """Keys are hashes, values are sealed."""
    async with sharing(server, tmp_path, FakeClock()) as one:
        await one.put(DIGEST, SECRET, ANSWER, 30)
    (key,) = keys(server)
    assert key.startswith(b"gateway:2:introspection:")
    assert key.endswith(b":" + DIGEST.hex().encode())
    content = key + server.run("GET", key)
    assert not [text for text in (TOKEN, SECRET.encode(), b"alice", b"active", b"read") if text in content]


@pytest.mark.rule("R122", "R195")
async def test_what_does_not_open_is_a_miss(server: RedisServer, tmp_path: Path) -> None:
    """Garbage, cut and changed values, another token's, another secret's, another type."""
    async with sharing(server, tmp_path, FakeClock()) as one:
        await one.put(DIGEST, SECRET, ANSWER, 30)
        (key,) = keys(server)
        good = server.run("GET", key)
        another = sha256(b"another").digest()
        server.run("SET", key.replace(DIGEST.hex().encode(), another.hex().encode()), good)
        assert await one.find(another, SECRET) is None
        assert await one.find(DIGEST, "another secret") is None
        forged = json.dumps({"until": time.time() + 1e9, "answer": ANSWER}).encode()
        flipped = good[:-1] + bytes([good[-1] ^ 1])
        for value in (b"", b"x", forged, good[:20], good[:-1], flipped, b"\xff" * 100):
            server.run("SET", key, value)
            assert await one.find(DIGEST, SECRET) is None, value
        server.run("DEL", key)
        server.run("LPUSH", key, "x")
        assert await one.find(DIGEST, SECRET) is None
        assert one.failures == 1  # WRONGTYPE
        server.run("DEL", key)
        server.run("SET", key, good)
        assert await one.find(DIGEST, SECRET) is not None


async def test_sealed_nonsense_is_a_miss(server: RedisServer, tmp_path: Path) -> None:
    """What another version of the gateway may have put there."""
    async with sharing(server, tmp_path, FakeClock()) as one:
        for answer in (None, "text", [1]):
            await one.put(DIGEST, SECRET, answer, 30)  # type: ignore[arg-type]
            assert await one.find(DIGEST, SECRET) is None


async def test_private_key_seals_as_a_secret_does(server: RedisServer, tmp_path: Path) -> None:
    first, second = (ClientKey(ECKey.generate_key("P-256"), "ES256", None) for _ in range(2))
    async with sharing(server, tmp_path, FakeClock()) as one:
        await one.put(DIGEST, first, ANSWER, 30)
        assert await one.find(DIGEST, second) is None
        found = await one.find(DIGEST, first)
        assert found is not None
        assert found.answer == ANSWER


async def test_issuers_do_not_see_each_others_answers(server: RedisServer, tmp_path: Path) -> None:
    async with (
        sharing(server, tmp_path, FakeClock()) as one,
        sharing(server, tmp_path, FakeClock(), introspection_client_id="other") as other,
    ):
        await one.put(DIGEST, SECRET, ANSWER, 30)
        assert await other.find(DIGEST, SECRET) is None


@pytest.mark.parametrize("seconds", [0.0, -5.0, 0.001])
async def test_what_has_ended_is_not_shared(seconds: float, server: RedisServer, tmp_path: Path) -> None:
    async with sharing(server, tmp_path, FakeClock()) as one:
        await one.put(DIGEST, SECRET, ANSWER, seconds)
    assert keys(server) == []


@pytest.mark.rule("R130")
async def test_redis_away_is_a_miss_and_never_a_wait(server: RedisServer, tmp_path: Path) -> None:
    """Standing still it costs the time limit at most; dead, nothing."""
    clock = FakeClock()
    async with linked(server, tmp_path, clock) as (one, link):
        await one.put(DIGEST, SECRET, ANSWER, 30)
        server.pause()
        began = time.monotonic()
        assert await one.find(DIGEST, SECRET) is None
        await one.put(DIGEST, SECRET, ANSWER, 30)
        assert time.monotonic() - began < paced(0.5)
        assert one.failures == 2
        server.resume()
        assert await one.find(DIGEST, SECRET) is not None
        await server.kill()
        assert await one.find(DIGEST, SECRET) is None
        await clock.advance(HEARTBEAT_SECONDS)
        await eventually(lambda: not link.available)
        failures = one.failures
        assert await one.find(DIGEST, SECRET) is None
        await one.put(DIGEST, SECRET, ANSWER, 30)
        assert one.failures == failures
