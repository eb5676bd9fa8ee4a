"""What counts as an answer of each kind, and every command sent to a server that answers something else."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from gateway.clock import SystemClock
from gateway.features.rate_limits.shared_buckets import SharedBuckets
from gateway.features.revocation.redis_log import RevocationLog
from gateway.settings.tables.redis import Redis
from gateway.store import answers
from gateway.store.answers import OddAnswerError, StoreUnavailableError
from gateway.store.redis_link import RedisLink
from tests.support.clock import eventually
from tests.support.stores.scripted_redis import ODD_ANSWERS, RespServer

ALL: tuple[Any, ...] = (
    *(None, b"", b"OK", b"1", b"-1", b"inf", b"nan", b" 7", b"1_0", b"9" * 16, "OK", "7"),
    *(-1, 0, 7, True, 1.0, float("inf"), [], [b"OK"], [1, 2], (1, 2), {}, Exception("inside a list")),
)


@pytest.mark.parametrize(
    ("read", "taken"),
    [
        (answers.done, {b"OK": None}),
        (answers.done_or_not, {b"OK": True, None: False}),
        (answers.count, {0: 0, 7: 7}),
        (answers.number, {b"1": 1}),
        (answers.text, {value: value for value in ALL if type(value) is bytes}),
    ],
    ids=["done", "done or not", "count", "number", "text"],
)
@pytest.mark.rule("R435")
def test_a_reader_takes_its_own_kind_and_nothing_else(read: Callable[[Any], Any], taken: dict[Any, Any]) -> None:
    for value in ALL:
        wanted = [(key, found) for key, found in taken.items() if type(key) is type(value) and key == value]
        if wanted:
            assert read(value) == wanted[0][1]
        else:
            with pytest.raises(OddAnswerError):
                read(value)


@pytest.mark.rule("R435")
def test_a_list_has_just_so_many_values() -> None:
    assert answers.items([None, 1], 2) == [None, 1]
    for value in ALL:
        with pytest.raises(OddAnswerError):
            answers.items(value, 3)


@contextlib.asynccontextmanager
async def linked() -> AsyncIterator[tuple[RespServer, RedisLink]]:
    async with RespServer() as server:
        link = RedisLink(Redis(url=server.url, timeout_seconds=2), SystemClock())
        await link.start()
        try:
            yield server, link
        finally:
            await link.stop()


def _number(name: bytes) -> Callable[[RedisLink], Awaitable[Any]]:
    asked: dict[bytes, Callable[[RevocationLog], Awaitable[Any]]] = {
        b"page": lambda log: log.page(0),
        b"add": lambda log: log.add(b""),
        b"sweep": lambda log: log.sweep(),
        b"may restore": lambda log: log.may_restore(),
        b"restored": lambda log: log.restored(),
    }
    return lambda link: asked[name](RevocationLog(link))


#: Each request, the command that it sends, and what counts as an answer to it of what is odd otherwise.
QUESTIONS: dict[str, tuple[bytes, Callable[[RedisLink], Awaitable[Any]], set[bytes]]] = {
    "buckets": (b"EVALSHA", lambda link: SharedBuckets(link, [(1.0, 1.0)]).take([b"a"]), set()),
    "page": (b"EVALSHA", _number(b"page"), set()),
    "add": (b"EVALSHA", _number(b"add"), set()),
    "sweep": (b"EVALSHA", _number(b"sweep"), {b":7\r\n"}),
    "may restore": (b"EVALSHA", _number(b"may restore"), set()),
    "restored": (b"EVALSHA", _number(b"restored"), {b":7\r\n"}),
}


@pytest.mark.parametrize("question", QUESTIONS)
@pytest.mark.rule("R435")
async def test_an_answer_that_makes_no_sense_is_a_store_that_is_unavailable(question: str) -> None:
    """Whatever the request, and the server counts as connected: the next good answer is one."""
    command, ask, good = QUESTIONS[question]
    async with linked() as (server, link):
        for odd in ODD_ANSWERS:
            server.odd = {command: odd}
            if odd in good:
                await ask(link)
                continue
            with pytest.raises(StoreUnavailableError):
                await ask(link)
            assert link.available, odd
        server.odd = {}
        assert link.failures == len(ODD_ANSWERS) - len(good)
        assert link.odd_answers == link.failures - 1, "all but what is an error of a known form"


@pytest.mark.rule("R435")
async def test_an_answer_too_many_is_not_taken_for_the_next_one() -> None:
    """What a command has left behind on its connection says nothing about the next command."""
    async with linked() as (server, link):
        server.odd = {b"SET": b"$-1\r\n+OK\r\n"}
        for _ in range(3):
            assert await link.command("SET", "a", "1", "NX", read=answers.done_or_not) is False


@pytest.mark.rule("R432", "R435")
async def test_odd_answers_are_logged_once_in_a_while_and_never_quoted(caplog: pytest.LogCaptureFixture) -> None:
    async with linked() as (server, link):
        for odd in (b"$6\r\nsecret\r\n", b"%secret\r\n", b"-WRONGTYPE secret\r\n"):
            server.odd = {b"EVALSHA": odd}
            with pytest.raises(StoreUnavailableError, match=r"^unexpected answer from Redis at \S+$"):
                await RevocationLog(link).page(0)
    warnings = [line.getMessage() for line in caplog.records if line.levelno == logging.WARNING]
    assert len(warnings) == 1
    assert "(1 so far)" in warnings[0]
    assert "secret" not in caplog.text


@pytest.mark.rule("R435")
async def test_a_heartbeat_that_is_answered_oddly_is_no_heartbeat() -> None:
    """What answers is no Redis then; nothing is asked of it."""
    async with linked() as (server, link):
        server.odd = {b"TIME": b":1\r\n"}
        await eventually(lambda: not link.available)
        with pytest.raises(StoreUnavailableError):
            await link.command("GET", "a")
        server.odd = {}
        await eventually(lambda: link.available)
