"""Looking at tokens that are used for long, under a test's clock."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from gateway.errors import Reason, Reasons
from gateway.identity import Identity
from gateway.server.authentication.token_expiry import EXPIRY_LOOK_SECONDS, SLICE, TokenWatch
from gateway.server.request.in_use import InUse
from gateway.tasks import failures
from tests.support.clock import FakeClock, settle


class Tokens:
    """Credentials in use by number; ``bad`` says which are good no longer."""

    def __init__(self) -> None:
        self.bad: dict[int, Reason] = {}
        self.clock = FakeClock()
        self.watch = TokenWatch(self.clock)
        self.looks = 0
        self.broken: int | None = None

    def __call__(self, number: int) -> InUse:
        return Token(self, number)

    def ended(self, number: int) -> Reason | None:
        self.looks += 1
        if number == self.broken:
            raise RuntimeError("secret")
        return self.bad.get(number)


@dataclass(frozen=True)
class Token:
    """One of them."""

    tokens: Tokens
    number: int

    @property
    def identity(self) -> Identity:
        raise AssertionError("who shows it makes no difference")

    def ended(self) -> Reason | None:
        return self.tokens.ended(self.number)


@contextlib.asynccontextmanager
async def watched() -> AsyncIterator[Tokens]:
    tokens = Tokens()
    try:
        yield tokens
    finally:
        await tokens.watch.stop()


@pytest.mark.rule("C65", "R322")
async def test_each_token_is_looked_at_once_a_second_and_its_end_is_reported_once() -> None:
    ended = list[tuple[int, Reason]]()
    async with watched() as tokens:
        with (
            tokens.watch.watching(tokens(1), lambda reason: ended.append((1, reason))),
            tokens.watch.watching(tokens(2), lambda reason: ended.append((2, reason))),
        ):
            await tokens.clock.advance(EXPIRY_LOOK_SECONDS)
            assert (tokens.looks, ended) == (2, [])
            tokens.bad[2] = Reasons.EXPIRED
            await tokens.clock.advance(3 * EXPIRY_LOOK_SECONDS)
            assert ended == [(2, Reasons.EXPIRED)]
            assert tokens.looks == 2 + 2 + 1 + 1
        await tokens.clock.advance(EXPIRY_LOOK_SECONDS)
        assert tokens.looks == 6


@pytest.mark.rule("C65")
async def test_token_is_not_looked_at_when_its_use_is_over() -> None:
    ended = list[Reason]()
    async with watched() as tokens:
        with tokens.watch.watching(tokens(1), ended.append):
            pass
        tokens.bad[1] = Reasons.EXPIRED
        await tokens.clock.advance(EXPIRY_LOOK_SECONDS)
        assert (tokens.looks, ended) == (0, [])
        with tokens.watch.watching(tokens(1), ended.append):
            await tokens.clock.advance(EXPIRY_LOOK_SECONDS)
        assert ended == [Reasons.EXPIRED]


@pytest.mark.rule("C65")
async def test_nobodys_token_never_ends() -> None:
    ended = list[Reason]()
    async with watched() as tokens:
        with tokens.watch.watching(None, ended.append):
            await tokens.clock.advance(10 * EXPIRY_LOOK_SECONDS)
        assert (tokens.looks, ended) == (0, [])


@pytest.mark.rule("C65")
async def test_many_tokens_are_all_looked_at_and_one_may_leave_meanwhile() -> None:
    """Between two slices other work has its turn."""
    ended = list[int]()
    count = 2 * SLICE + 10
    async with watched() as tokens:
        tokens.bad = dict.fromkeys(range(count), Reasons.UNKNOWN_KEY)

        def tell(number: int) -> None:
            ended.append(number)
            if number == 0:
                watches[-1].__exit__(None, None, None)

        watches = [tokens.watch.watching(tokens(n), lambda _, n=n: tell(n)) for n in range(count)]  # type: ignore[misc]
        for watch in watches:
            watch.__enter__()
        await tokens.clock.advance(EXPIRY_LOOK_SECONDS)
        assert ended == list(range(count - 1))
        for watch in watches[:-1]:
            watch.__exit__(None, None, None)


@pytest.mark.rule("R406")
async def test_a_token_that_cannot_be_judged_ends_and_the_others_are_looked_at(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Neither a fault in the judging nor one in what is called about it keeps another token from its end."""
    ended = list[tuple[int, Reason]]()
    before = failures["token watch"]

    def fail(reason: Reason) -> None:
        ended.append((2, reason))
        raise RuntimeError("secret")

    async with watched() as tokens:
        with (
            tokens.watch.watching(tokens(1), lambda reason: ended.append((1, reason))),
            tokens.watch.watching(tokens(2), fail),
            tokens.watch.watching(tokens(3), lambda reason: ended.append((3, reason))),
        ):
            tokens.bad = {2: Reasons.EXPIRED, 3: Reasons.EXPIRED}
            tokens.broken = 1
            await tokens.clock.advance(EXPIRY_LOOK_SECONDS)
    assert ended == [(1, Reasons.VERIFICATION_FAILED), (2, Reasons.EXPIRED), (3, Reasons.EXPIRED)]
    assert failures["token watch"] == before + 2
    assert "secret" not in caplog.text


@pytest.mark.rule("R371")
async def test_stop_ends_the_looking() -> None:
    tokens = Tokens()
    await tokens.watch.stop()
    with tokens.watch.watching(tokens(1), lambda reason: None):
        await settle()
        await tokens.watch.stop()
        await tokens.clock.advance(EXPIRY_LOOK_SECONDS)
    assert tokens.looks == 0
