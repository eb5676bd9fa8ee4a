"""Who is next, who has waited too long, and what a wait does when its request has gone; times are arguments."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from gateway.errors import GatewayError, Reasons
from gateway.tasks import failures, spawn
from gateway.upstream.pool.upstream_url import Lease, Origin
from gateway.upstream.pool.wait_queue import AwaitedLease, LeaseWait, WaitQueue, give, refuse_wait
from tests.support.clock import settle

FULL = GatewayError(Reasons.POOL_EXHAUSTED)


class Waiting(LeaseWait):
    """Notes what it is given; raises it as well when it is a broken one."""

    def __init__(self, *, broken: bool = False) -> None:
        super().__init__()
        self.given: list[object] = []
        self._broken = broken

    def leased(self, origin: Origin, lease: Lease) -> None:
        self._note(lease)

    def not_leased(self, error: GatewayError) -> None:
        self._note(error)

    def _note(self, what: object) -> None:
        self.given.append(what)
        if self._broken:
            raise RuntimeError


class Held:
    """As much of a lease as a wait uses."""

    def __init__(self) -> None:
        self.ends: list[str] = []

    def release(self) -> None:
        self.ends.append("released")

    def discard(self) -> None:
        self.ends.append("discarded")


def somewhere() -> Origin:
    return cast(Origin, object())


def held() -> Any:
    return Held()


def filled(count: int, seconds: float = 2) -> tuple[WaitQueue, list[Waiting], Origin]:
    """A queue whose requests came one second after the other, the first one at second 100."""
    queue, waits, home = WaitQueue(seconds), [Waiting() for _ in range(count)], somewhere()
    for number, wait in enumerate(waits):
        queue.add(wait, home, 100.0 + number)
    return queue, waits, home


def test_first_come_first_served_and_any_may_leave() -> None:
    queue, waits, _ = filled(5)
    del queue.waits[waits[0]], queue.waits[waits[3]]
    assert queue.first() is waits[1]
    assert [queue.pop() for _ in range(3)] == [waits[1], waits[2], waits[4]]
    assert not queue.waits


def test_time_limit_is_each_ones_own() -> None:
    queue, waits, _ = filled(4)
    assert queue.next_due(0) == 102
    assert queue.overdue(101.9, 0, 9) == []
    assert queue.overdue(103.0, 0, 9) == waits[:2]
    assert queue.overdue(200.0, 0, 3) == waits[:3]  # no more in one turn than is asked for


def test_those_for_whom_a_connection_is_opened_do_not_wait_for_a_place() -> None:
    """They have the time limits of connecting."""
    queue, waits, home = filled(3)
    assert queue.overdue(200.0, 2, 9) == waits[2:]
    assert [queue.next_due(covered) for covered in (1, 2, 3, 9)] == [103, 104, None, None]
    assert [queue.counted_for(home, covered) for covered in (0, 2, 5)] == [3, 1, 0]
    assert queue.counted_for(somewhere(), 0) == 0


def test_fault_of_one_that_waits_is_not_that_of_whose_turn_it_is() -> None:
    """It is counted, and the connection is not lost."""
    before, lease = failures["upstream connections"], held()
    give(Waiting(broken=True), somewhere(), lease)
    refuse_wait(Waiting(broken=True), FULL)
    assert lease.ends == ["discarded"]
    assert failures["upstream connections"] == before + 2


async def test_awaited_wait_returns_or_raises_what_it_was_given() -> None:
    good, bad, origin, lease = AwaitedLease(fresh=False), AwaitedLease(fresh=True), somewhere(), held()
    assert (good.fresh, bad.fresh) == (False, True)
    give(good, origin, lease)
    refuse_wait(bad, FULL)
    assert await good.result(lambda wait: None) == (origin, lease)
    with pytest.raises(GatewayError, match="pool_exhausted"):
        await bad.result(lambda wait: None)


@pytest.mark.parametrize("given", ["nothing", "lease", "error", "lease too late", "error too late"])
async def test_awaited_wait_that_is_cancelled_leaves_and_hands_on_what_it_got(given: str) -> None:
    """The request is cancelled just before or just after, and has not noticed yet."""
    wait, lease = AwaitedLease(fresh=False), held()
    left: list[LeaseWait] = []
    waiting = spawn(wait.result(left.append), "waits", awaited=True)
    await settle(1)
    if given.endswith("too late"):
        waiting.cancel()
    if given.startswith("lease"):
        give(wait, somewhere(), lease)
    elif given.startswith("error"):
        refuse_wait(wait, FULL)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert left == [wait]
    assert lease.ends == (["released"] if given.startswith("lease") else [])
