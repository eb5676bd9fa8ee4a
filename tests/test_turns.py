"""Work in turns: a bounded time of each turn of the loop, however many have such work."""

from __future__ import annotations

import asyncio
import functools

import pytest

from gateway import tasks
from gateway.turns import MAX_TURN_SECONDS, Turns, later, own
from tests.support.clock import FakeClock


async def turn() -> None:
    """Let the event loop turn once."""
    await asyncio.sleep(0)


@pytest.mark.rule("R429")
async def test_turn_of_the_loop_has_a_bound_however_many_have_work() -> None:
    """Fifty connections, each with a part, are not fifty parts in one turn."""
    clock = FakeClock()
    done: list[int] = []
    turns = Turns(clock.monotonic)

    def work(number: int) -> None:
        done.append(number)
        clock.jump(0.6 * MAX_TURN_SECONDS)

    for number in range(50):
        turns.later(functools.partial(work, number))
    assert done == []
    for count in range(2, 51, 2):
        await turn()
        assert done == list(range(count))


@pytest.mark.rule("R429")
async def test_who_has_more_stands_behind_those_that_wait() -> None:
    """A connection with much to do does not keep out another one."""
    turns = Turns()
    done: list[str] = []

    def much() -> None:
        done.append("much")
        if done.count("much") < 3:
            turns.later(much)

    turns.later(much)
    turns.later(lambda: done.append("little"))
    for _ in range(5):
        await turn()
    assert done == ["much", "little", "much", "much"]


@pytest.mark.rule("R286")
async def test_part_that_fails_takes_no_other_with_it() -> None:
    """The fault is counted, and the others have their turn."""
    turns, failures = Turns(), tasks.failures["work in turns"]
    done: list[str] = []

    def fail() -> None:
        raise RuntimeError

    turns.later(fail)
    turns.later(lambda: done.append("other"))
    for _ in range(3):
        await turn()
    assert done == ["other"]
    assert tasks.failures["work in turns"] == failures + 1


@pytest.mark.rule("R429")
async def test_all_of_a_loop_share_its_turns() -> None:
    """Whichever part of it asks."""
    done: list[int] = []
    for number in range(3):
        later(functools.partial(done.append, number))
    assert done == []
    await turn()
    assert done == [0, 1, 2]
    await own()


@pytest.mark.rule("R429")
async def test_who_waits_for_a_turn_of_its_own_shares_it_with_none_that_waits_so() -> None:
    """Fifty connections with one request each are not fifty requests in one turn; who gave up costs none."""
    turns = Turns()
    done: list[int] = []

    async def work(number: int) -> None:
        for _ in range(2):
            await turns.own()
            done.append(number)

    workers = [asyncio.ensure_future(work(number)) for number in range(6)]
    await turn()
    for number in (0, 3, 4):
        workers[number].cancel()
    counts = []
    while len(done) < 6:
        before = len(done)
        await turn()
        counts.append(len(done) - before)
    assert done == [1, 2, 5, 1, 2, 5]
    assert max(counts) == 1
    assert len(counts) < 12  # it does not wait for those that have gone
    await asyncio.gather(*workers, return_exceptions=True)
    for _ in range(3):  # none waits: the next one does not wait for long
        await turn()
    await asyncio.wait_for(turns.own(), 1)
