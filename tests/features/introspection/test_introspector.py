"""The opaque tokens of one issuer: memory, shared answers, requests, in this order and one for all that wait."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from gateway.errors import GatewayError, Reason, Reasons
from gateway.features.introspection import introspector as introspection
from gateway.features.introspection.choice import introspection_policy
from gateway.features.introspection.introspector import Introspector
from gateway.features.introspection.reasons import INACTIVE_TOKEN, INTROSPECTION_BUSY, INTROSPECTION_FAILED
from gateway.features.introspection.shared_answers import SharedAnswers
from gateway.identity import Identity
from gateway.settings.tables.redis import Redis
from gateway.store.redis_link import RedisLink
from gateway.tasks import running
from tests.support.clock import FakeClock, eventually, settle
from tests.support.issuers.identity_provider import gateway_settings
from tests.support.issuers.introspection import (
    AuthorizationServer,
    authorization_server,
    introspecting,
    json_answer,
    said,
)
from tests.support.pace import paced
from tests.support.stores.redis import RedisServer


def make(folder: Path, url: str, clock: FakeClock, *, redis: RedisLink | None = None, **options: Any) -> Introspector:
    issuer = introspecting(folder, url, **options)
    shared = None if redis is None else SharedAnswers(redis, Redis(), issuer)
    return Introspector(issuer, introspection_policy(issuer, gateway_settings(issuer)), 8192, clock, shared)


@contextlib.asynccontextmanager
async def asking(folder: Path, **options: Any) -> AsyncIterator[tuple[Introspector, AuthorizationServer, FakeClock]]:
    """An introspector and the server that it asks, which knows the token ``t``."""
    clock = FakeClock()
    async with authorization_server() as server:
        server.tokens["t"] = said(clock.wall())
        asker = make(folder, server.url, clock, **options)
        try:
            yield asker, server, clock
        finally:
            await asker.stop()


async def refusal(waiting: Awaitable[Any]) -> Reason:
    with pytest.raises(GatewayError) as caught:
        await waiting
    return caught.value.reason


def refused_now(asker: Introspector, token: bytes) -> Reason:
    with pytest.raises(GatewayError) as caught:
        asker.known(token)
    return caught.value.reason


@pytest.mark.rule("R123")
async def test_first_look_begins_the_question_and_the_second_knows(tmp_path: Path) -> None:
    """A hit needs no network, and no turn of the loop."""
    async with asking(tmp_path) as (asker, server, clock):
        assert asker.known(b"t") is None
        assert (asker.in_flight, asker.waiting) == (1, 0)
        assert (await asker.identify(b"t")).subject == "alice"
        found = asker.known(b"t")
        assert found is not None
        assert (found.credential, asker.in_flight, asker.lookups) == ("opaque", 0, 2)
        assert await asker.identify(b"t") is found
        del server.tokens["t"]
        clock.jump(30)
        assert asker.known(b"t") is None
        assert await refusal(asker.identify(b"t")) is INACTIVE_TOKEN
        assert refused_now(asker, b"t") is INACTIVE_TOKEN
        clock.jump(5)
        assert asker.known(b"t") is None
        await eventually(lambda: asker.gate.taken == 0)
    assert len(server.asked) == 3


@pytest.mark.rule("R124")
async def test_many_who_wait_share_one_question(tmp_path: Path) -> None:
    """Also when the first of them leaves."""
    async with asking(tmp_path) as (asker, server, _):
        server.gate = asyncio.Event()
        first = asyncio.ensure_future(asker.identify(b"t"))
        await eventually(lambda: server.asked)
        others = [asyncio.ensure_future(asker.identify(b"t")) for _ in range(500)]
        await settle()
        first.cancel()
        await settle()
        server.gate.set()
        subjects = {(await other).subject for other in others}
    assert subjects == {"alice"}
    assert first.cancelled()
    assert len(server.asked) == 1


@pytest.mark.rule("R122", "R189")
async def test_failure_is_everybodys_and_is_not_remembered(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Each who waits gets a refusal of its own; the log tells it once in a while."""
    async with asking(tmp_path) as (asker, server, clock):
        server.answer = json_answer({}, 500)
        found = await asyncio.gather(*(asker.identify(b"t") for _ in range(5)), return_exceptions=True)
        assert {error.reason for error in found if isinstance(error, GatewayError)} == {INTROSPECTION_FAILED}
        assert len({id(error) for error in found}) == 5
        assert await refusal(asker.identify(b"t")) is INTROSPECTION_FAILED
        assert len(caplog.records) == 1
        assert asker.last_error.startswith("status_500: ")
        clock.jump(10)
        assert await refusal(asker.identify(b"t")) is INTROSPECTION_FAILED
        assert len(caplog.records) == 2
        server.answer = None
        assert (await asker.identify(b"t")).subject == "alice"
        assert (asker.last_error, asker.outcomes) == ("", {"status": 3, "active": 1})
    assert len(server.asked) == 4


@pytest.mark.rule("R122")
async def test_question_has_one_time_limit_for_all_of_it(tmp_path: Path) -> None:
    """The time until a slot is free included."""
    limits = {"introspection_timeout_seconds": 0.2, "introspection_max_concurrent": 1}
    async with asking(tmp_path, **limits) as (asker, server, _):
        server.gate = asyncio.Event()
        began = time.monotonic()
        reasons = await asyncio.gather(*(refusal(asker.identify(b"%d" % number)) for number in range(3)))
        assert time.monotonic() - began < paced(1)
        assert set(reasons) == {INTROSPECTION_FAILED}
        assert asker.outcomes == {"timeout": 3}


@pytest.mark.rule("R125")
async def test_flood_takes_no_more_than_its_places(tmp_path: Path) -> None:
    """So many run, so many wait, the rest is refused at once and leaves nothing behind."""
    limits = {"introspection_max_concurrent": 4, "introspection_max_waiting": 4}
    async with asking(tmp_path, **limits) as (asker, server, _):
        server.gate = asyncio.Event()
        begun = [asker.known(b"%d" % number) for number in range(6)]
        assert begun == [None] * 6
        for number in range(10_000):
            assert refused_now(asker, b"more-%d" % number) is INTROSPECTION_BUSY
        assert (asker.in_flight, asker.waiting, asker.gate.refusals) == (4, 2, 10_000)
        assert await refusal(asker.identify(b"one more")) is INTROSPECTION_BUSY
        await eventually(lambda: server.running == 4)
        server.gate.set()
        await eventually(lambda: asker.gate.taken == 0)
    assert (len(server.asked), server.most_running) == (6, 4)


@pytest.mark.rule("R125")
async def test_flood_of_unknown_tokens_is_turned_away_at_once(tmp_path: Path) -> None:
    """Those whose answer is known, or on its way, are no part of it."""
    limits = {"introspection_max_concurrent": 1, "introspection_max_waiting": 0}
    async with asking(tmp_path, **limits) as (asker, server, _):
        await asker.identify(b"t")
        assert await refusal(asker.identify(b"bad")) is INACTIVE_TOKEN
        server.gate = asyncio.Event()
        assert asker.known(b"running") is None
        assert (await asker.identify(b"t")).subject
        assert await refusal(asker.identify(b"bad")) is INACTIVE_TOKEN
        assert asker.known(b"running") is None
        assert refused_now(asker, b"new") is INTROSPECTION_BUSY
        assert (asker.gate.refusals, asker.lookups) == (1, 3)
        server.gate.set()
        await eventually(lambda: asker.gate.taken == 0)


@pytest.mark.rule("R125")
async def test_tokens_that_no_server_can_have_issued_are_not_asked_about(tmp_path: Path) -> None:
    """Too long, or no printable ASCII."""
    async with asking(tmp_path) as (asker, server, _):
        assert refused_now(asker, b"x" * 8193) is Reasons.TOKEN_TOO_LONG
        for token in (b"a\x00", b"\xe9", b"\x7f"):
            assert refused_now(asker, token) is Reasons.BAD_ENCODING
        assert asker.known(b"00Dxx!AQ.Uo_.x") is None  # C95: real ones hold more than base64url
        await eventually(lambda: asker.gate.taken == 0)
    assert [asked.token for asked in server.asked] == ["00Dxx!AQ.Uo_.x"]


@pytest.mark.rule("R126")
async def test_unforeseen_fault_is_a_refusal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the judgement 401, of anything else 503; its text is in no log."""

    def broken(*_: Any) -> None:
        raise RuntimeError("s3cr3t")

    async with asking(tmp_path) as (asker, server, _):
        monkeypatch.setattr(introspection, "judge", broken)
        assert await refusal(asker.identify(b"t")) is Reasons.VERIFICATION_FAILED
        monkeypatch.setattr(asker.memory, "put", broken)
        assert await refusal(asker.identify(b"other")) is INTROSPECTION_FAILED
        assert asker.last_error == "internal: RuntimeError"
        assert len(server.asked) == 2


async def test_stop_ends_what_is_asked(tmp_path: Path) -> None:
    async with asking(tmp_path) as (asker, server, _):
        server.gate = asyncio.Event()
        waiting = asyncio.ensure_future(asker.identify(b"t"))
        await eventually(lambda: server.asked)
        await asker.stop()
        assert await refusal(waiting) is INTROSPECTION_FAILED
        assert (asker.gate.taken, asker.outcomes) == (0, {"cancelled": 1})


async def test_what_cannot_be_held_is_refused(tmp_path: Path) -> None:
    async with asking(tmp_path) as (asker, _, _):
        with pytest.raises(GatewayError) as caught:
            asker.hold(b"t")
        assert caught.value.reason is INTROSPECTION_FAILED
        assert await refusal(asker.identify(b"bad")) is INACTIVE_TOKEN
        with pytest.raises(GatewayError) as caught:
            asker.hold(b"bad")
        assert caught.value.reason is INACTIVE_TOKEN
        await asker.identify(b"t")
        assert asker.hold(b"t").ended() is None


async def test_asking_again_needs_a_place(tmp_path: Path) -> None:
    async with asking(tmp_path, introspection_max_concurrent=1, introspection_max_waiting=0) as (asker, server, _):
        server.gate = asyncio.Event()
        assert asker.known(b"other") is None
        digest = sha256(b"t").digest()
        assert asker.ask_again(b"t", digest) is None
        server.gate.set()
        await eventually(lambda: asker.gate.taken == 0)
        flight = asker.ask_again(b"t", digest)
        assert flight is not None
        assert asker.ask_again(b"t", digest) is flight
        verdict = await flight
        assert verdict is not None
        assert verdict.identity is not None


def sharing() -> bool:
    """Return whether an answer is on its way to Redis."""
    return any(task.get_name().endswith(" sharing") for task in running())


@pytest.mark.rule("R440", "R443")
async def test_a_shared_answer_is_believed_for_as_long_as_its_reader_may(tmp_path: Path) -> None:
    """The gateway that got it may believe answers for ten minutes; here five seconds are allowed."""
    clock = FakeClock()
    async with RedisServer(tmp_path / "redis") as redis, authorization_server() as server:
        server.tokens["t"] = said(clock.wall())
        link = RedisLink(Redis(url=redis.url, timeout_seconds=2), clock)
        await link.start()
        patient, strict, late = (
            make(tmp_path, server.url, clock, redis=link, introspection_cache_seconds=most) for most in (600, 5, 5)
        )
        try:
            await patient.identify(b"t")
            await eventually(lambda: not sharing())
            clock.jump(4)
            await strict.identify(b"t")
            assert len(server.asked) == 1
            clock.jump(1.5)
            assert strict.known(b"t") is None  # not for another five seconds
            await strict.identify(b"t")
            await eventually(lambda: not sharing())
            assert len(server.asked) == 2
            clock.jump(4)
            server.tokens.clear()
            await late.identify(b"t")
            clock.jump(1.5)
            with pytest.raises(GatewayError):
                await late.identify(b"t")
            assert len(server.asked) == 3
        finally:
            for asker in (patient, strict, late):
                await asker.stop()
            await link.stop()


@pytest.mark.rule("R123")
async def test_gateways_with_one_redis_ask_once(tmp_path: Path) -> None:
    """And what one of them knows is good for what is left of its time."""
    clock = FakeClock()
    async with RedisServer(tmp_path / "redis") as redis, authorization_server() as server:
        server.tokens["t"] = said(clock.wall())
        links = [RedisLink(Redis(url=redis.url, timeout_seconds=paced(0.2)), clock) for _ in range(2)]
        for link in links:
            await link.start()
        askers = [make(tmp_path, server.url, clock, redis=link) for link in links]
        try:
            for token in (b"t", b"bad"):
                kinds: list[type] = []
                for asker in askers:
                    found = await asyncio.gather(asker.identify(token), return_exceptions=True)
                    kinds.append(type(found[0]))
                    await eventually(lambda: not sharing())
                    clock.jump(1)
                assert kinds == [GatewayError if token == b"bad" else Identity] * 2
            assert len(server.asked) == 2
            clock.jump(28)
            assert askers[0].known(b"t") is None  # its 30 s are over, and so are the others', who got it later
            await askers[0].identify(b"t")
            assert len(server.asked) == 3
            redis.pause()
            clock.jump(31)
            began = time.monotonic()
            assert (await askers[1].identify(b"t")).subject == "alice"
            assert time.monotonic() - began < paced(0.5)
            redis.resume()
        finally:
            for asker, link in zip(askers, links, strict=True):
                await asker.stop()
                await link.stop()
    assert len(server.asked) == 4
