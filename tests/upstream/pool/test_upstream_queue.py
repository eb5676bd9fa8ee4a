"""The queue of an upstream against what it must do, under whatever happens in whatever order.

Connections are opened, fail and come back when a test says so; the time is the test's. With real sockets:
test_upstream_places.py and tests/e2e/limits/test_pool_waits.py.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.errors import GatewayError, Reason, Reasons
from gateway.tasks import running, spawn
from gateway.upstream.pool import upstream as upstream_module
from gateway.upstream.pool import upstream_url
from gateway.upstream.pool.upstream import Upstream
from gateway.upstream.pool.upstream_url import Lease, Origin
from gateway.upstream.pool.wait_queue import LeaseWait
from tests.support.clock import FakeClock, eventually, settle
from tests.support.loop_side import Timers
from tests.upstream.pools import settings as configured

SECONDS = 2.0


class Connection:
    """As much of a connection, its protocol and its transport as the pool looks at."""

    def __init__(self) -> None:
        self.transport: Any = self
        self.protocol = self
        self.heard = self.should_close = self.closed = False
        self.opened_at = asyncio.get_running_loop().time()

    def is_connected(self) -> bool:
        return not self.closed

    def is_closing(self) -> bool:
        return self.closed

    def get_write_buffer_size(self) -> int:
        return 0

    def close(self) -> None:
        self.closed = True

    abort = close


class Network:
    """Opens connections when a test says so, for all URLs of an upstream.

    Attributes:
        asked: the URL and the connection of each opening, in order.
    """

    def __init__(self) -> None:
        self.asked: list[tuple[str, asyncio.Future[Connection]]] = []

    def dialer(self, url: str, *_: object) -> Dialing:
        """Return what opens connections to one URL; called as ``Dialer`` is."""
        return Dialing(url, self.asked)

    @property
    def pending(self) -> list[tuple[str, asyncio.Future[Connection]]]:
        return [(url, opened) for url, opened in self.asked if not opened.done()]

    async def open(self, number: int = 0) -> None:
        self.pending[number][1].set_result(Connection())
        await settle(5)

    async def fail(self, number: int = 0, reason: Reason = Reasons.UPSTREAM_CONNECT) -> None:
        self.pending[number][1].set_exception(GatewayError(reason))
        await settle(5)


class Dialing:
    """As much of a ``Dialer`` as the pool uses."""

    host, base_path = b"127.0.0.1", b""

    def __init__(self, url: str, asked: list[tuple[str, asyncio.Future[Connection]]]) -> None:
        self.url = url
        self._asked = asked

    async def connect(self) -> tuple[Connection, Connection]:
        opened: asyncio.Future[Connection] = asyncio.get_running_loop().create_future()
        self._asked.append((self.url, opened))
        connection = await opened
        return connection, connection

    async def close(self) -> None:
        pass


class Time(FakeClock):
    """The time of one upstream, as its clock and the loop's timers know it."""

    def __init__(self) -> None:
        super().__init__()
        self._timers = Timers(pytest.MonkeyPatch())  # of this loop, which ends with the test

    def go(self, upstream: Upstream, seconds: float) -> None:
        """Let time pass, and the upstream's timer run out."""
        self.jump(seconds)
        self._timers.run_out(upstream)


class Caller(LeaseWait):
    """One request that waits in callbacks."""

    def __init__(self, number: int = 0, *, fresh: bool = False, ends: list[Caller] | None = None) -> None:
        super().__init__(fresh=fresh)
        self.number, self.ends = number, ends if ends is not None else []
        self.lease: Lease | None = None
        self.origin: Origin | None = None
        self.error: GatewayError | None = None

    @property
    def has_ended(self) -> bool:
        return self in self.ends

    def leased(self, origin: Origin, lease: Lease) -> None:
        assert not self.has_ended
        self.origin, self.lease = origin, lease
        self.ends.append(self)

    def not_leased(self, error: GatewayError) -> None:
        assert not self.has_ended
        self.error = error
        self.ends.append(self)


def made(urls: int = 1, **options: Any) -> tuple[Upstream, Network, Time]:
    clock, network = Time(), Network()
    names = [f"http://127.0.0.1:{number + 1}" for number in range(urls)]
    options = {"pool_size": 2, "pool_wait_seconds": SECONDS, "eject_after_failures": 0, **options}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(upstream_url, "Dialer", network.dialer)
        upstream = Upstream(configured(*names, **options), clock)
    return upstream, network, clock


def callers(upstream: Upstream, count: int, ends: list[Caller] | None = None) -> list[Caller]:
    """So many requests, one after the other."""
    come = [Caller(number, ends=ends) for number in range(count)]
    for caller in come:
        upstream.lease_soon(caller)
    return come


def opening_tasks() -> int:
    return sum(task.get_name() == "opens an upstream connection" for task in running())


# --- one thing after the other ---


async def test_one_task_for_each_connection_that_is_opened_and_none_for_those_who_wait() -> None:
    upstream, network, _ = made()
    come = callers(upstream, 50)
    await settle()
    assert (opening_tasks(), len(network.pending)) == (2, 2)
    await network.open()
    await network.open()
    assert [caller.lease is not None for caller in come] == [True] * 2 + [False] * 48
    assert opening_tasks() == 0
    assert (upstream.states()[0].in_use, upstream.states()[0].waiting) == (2, 48)
    await upstream.close()
    assert {str(caller.error and caller.error.reason.code) for caller in come[2:]} == {"upstream_connect"}


async def test_connection_that_comes_back_goes_to_the_first_at_once_whatever_comes_then() -> None:
    """In both forms; a newcomer finds none, though one has just come back."""
    upstream, network, _ = made(pool_size=1)
    first = Caller()
    upstream.lease_soon(first)
    await settle()
    await network.open()
    assert first.lease is not None
    waiting = spawn(upstream.lease(), "waits", awaited=True)
    await settle(1)
    late = Caller()
    upstream.lease_soon(late)
    first.lease.release()
    assert upstream.lease_now() is None
    newcomer = spawn(upstream.lease(), "waits", awaited=True)
    _, lease = await waiting
    assert not late.has_ended
    lease.release()
    assert late.lease is not None  # within the release
    late.lease.release()
    (await newcomer)[1].release()
    assert upstream.states()[0].in_use == 0
    await upstream.close()


async def test_opened_connection_goes_to_the_first_and_its_cause_takes_what_comes_back() -> None:
    """An opening is no request's own: one that was served meanwhile leaves it to the next, and at last to the pool."""
    upstream, network, _ = made()
    (first,) = callers(upstream, 1)
    await settle()
    await network.open()
    second, third = callers(upstream, 2)
    await settle()
    assert first.lease is not None
    first.lease.release()
    assert (second.lease is not None, third.has_ended) == (True, False)
    await network.open()
    assert third.lease is not None
    (fourth,) = callers(upstream, 1)
    third.lease.release()
    assert fourth.lease is not None
    assert network.pending == []
    await upstream.close()


async def test_connection_that_is_not_needed_any_more_is_kept_but_one_for_a_request_that_left_is_not_opened() -> None:
    upstream, network, _ = made()
    (first,) = callers(upstream, 1)
    await settle()
    await network.open()
    (second,) = callers(upstream, 1)
    await settle()
    assert first.lease is not None
    first.lease.release()
    assert second.lease is not None
    await network.open()
    assert (upstream.states()[0].in_use, upstream.states()[0].idle) == (1, 1)
    leased = upstream.lease_now()
    (third,) = callers(upstream, 1)
    second.lease.discard()
    await settle()
    assert len(network.pending) == 1
    upstream.leave(third)
    upstream.leave(third)
    await settle()
    assert (network.pending, third.has_ended) == ([], False)
    assert upstream.states()[0].in_use == 1
    assert leased is not None
    leased[1].release()
    await upstream.close()


async def test_failed_opening_refuses_one_and_the_next_is_opened_for_the_next() -> None:
    """As if each had connected itself: a service that is down refuses all, one opening each, and none twice."""
    upstream, network, _ = made(pool_size=2)
    ends: list[Caller] = []
    come = callers(upstream, 5, ends)
    await settle()
    for number in range(5):
        await network.fail()
        assert [caller.number for caller in ends] == list(range(number + 1))
    assert len(network.asked) == 5
    assert {caller.error.reason for caller in come if caller.error is not None} == {Reasons.UPSTREAM_CONNECT}
    assert (upstream.states()[0].in_use, upstream.states()[0].connect_failures) == (0, 5)
    await upstream.close()


async def test_failed_opening_refuses_none_when_all_who_wait_have_another() -> None:
    upstream, network, _ = made()
    (first,) = callers(upstream, 1)
    await settle()
    await network.open()
    (second,) = callers(upstream, 1)
    await settle()
    assert first.lease is not None
    first.lease.release()  # to the second, so that its opening is for no request
    assert second.lease is not None
    await network.fail()
    (third,) = callers(upstream, 1)
    await settle()
    await network.open()
    assert third.lease is not None
    await upstream.close()


async def test_own_shortage_refuses_at_once_and_no_other_url_is_tried() -> None:
    upstream, network, _ = made(urls=2)
    (first,) = callers(upstream, 1)
    await settle()
    await network.fail(reason=Reasons.OUT_OF_FILES)
    assert first.error is not None
    assert first.error.reason is Reasons.OUT_OF_FILES
    assert len(network.asked) == 1
    await upstream.close()


async def test_url_that_cannot_be_connected_to_costs_no_answer_while_another_is_only_full() -> None:
    """What is in use there comes back; and the one that fails is not tried again and again meanwhile."""
    upstream, network, clock = made(urls=2, pool_size=1)
    (first,) = callers(upstream, 1)
    await settle()
    await network.open()
    (second,) = callers(upstream, 1)
    await settle()
    await network.fail()
    assert (second.has_ended, network.pending) == (False, [])
    assert first.lease is not None
    first.lease.release()
    assert second.lease is not None
    (third,) = callers(upstream, 1)
    await settle()
    await network.fail()
    clock.go(upstream, SECONDS)
    assert third.error is not None
    assert third.error.reason is Reasons.POOL_EXHAUSTED
    second.lease.release()
    await upstream.close()


async def test_waits_end_when_their_time_is_over_but_not_while_one_is_opened_for_them() -> None:
    """503 is for a full pool: connecting has a limit and a reason of its own."""
    upstream, network, clock = made(pool_size=1)
    ends: list[Caller] = []
    first, second, third = callers(upstream, 3, ends)
    await settle()
    clock.jump(SECONDS - 0.1)
    (late,) = callers(upstream, 1, ends)
    clock.go(upstream, 0)
    assert ends == []
    clock.go(upstream, 0.1)
    assert ends == [second, third]
    assert second.error is not None
    assert second.error.reason is Reasons.POOL_EXHAUSTED
    await network.fail(reason=Reasons.UPSTREAM_CONNECT_TIMEOUT)
    assert first.error is not None
    assert first.error.reason is Reasons.UPSTREAM_CONNECT_TIMEOUT
    await network.open()
    assert late.lease is not None
    await upstream.close()


async def test_many_that_come_due_together_are_refused_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Others have their turn in between."""
    monkeypatch.setattr(upstream_module, "MAX_REFUSED_AT_ONCE", 3)
    upstream, _, clock = made(pool_size=1)
    ends: list[Caller] = []
    callers(upstream, 8, ends)
    await settle()
    clock.go(upstream, SECONDS)
    assert len(ends) == 3
    await eventually(lambda: len(ends) == 7)
    await upstream.close()


@pytest.mark.rule("R310")
async def test_request_that_must_not_use_a_used_connection_gets_a_new_one_when_it_is_its_turn() -> None:
    """At once while there is a place; else when one comes free, and what came back there is closed for it."""
    upstream, network, _ = made(pool_size=2)
    first, second = callers(upstream, 2)
    await settle()
    await network.open()
    await network.open()
    again, after = Caller(fresh=True), Caller()
    upstream.lease_soon(again)
    upstream.lease_soon(after)
    assert first.lease is not None
    assert second.lease is not None
    first.lease.release()
    await settle()
    assert (len(network.pending), again.has_ended, after.has_ended) == (1, False, False)
    assert first.lease.protocol.is_connected() is False
    second.lease.release()
    assert after.lease is not None  # it did not have to wait for the other's new one
    await network.open()
    assert again.lease is not None
    assert (again.lease.reused, after.lease.reused) == (False, True)
    await upstream.close()


@pytest.mark.rule("R310")
async def test_request_that_must_not_use_a_used_connection_tries_each_url_once() -> None:
    """Though another URL is up, and only full: it was in the queue again, first, and tried the dead URL without end."""
    upstream, network, _ = made(urls=2, pool_size=1)
    first, second = callers(upstream, 2)
    await settle()
    await network.open()
    await network.open()
    assert first.lease is not None
    again = Caller(fresh=True)
    upstream.lease_soon(again)
    first.lease.discard()
    await settle()
    assert len(network.pending) == 1
    await network.fail()
    assert (len(network.pending), again.has_ended, second.lease is not None) == (0, True, True)
    assert again.error is not None
    assert again.error.reason is Reasons.UPSTREAM_CONNECT
    await upstream.close()


async def test_request_that_fails_as_it_is_served_does_not_hold_up_those_behind_it() -> None:
    """However many: each gives its connection back within its turn, and nothing goes deeper for that."""

    class Failing(Caller):
        def leased(self, origin: Origin, lease: Lease) -> None:
            super().leased(origin, lease)
            lease.release()

    upstream, network, _ = made(pool_size=1)
    (first,) = callers(upstream, 1)
    await settle()
    await network.open()
    ends: list[Caller] = []
    for number in range(5000):
        upstream.lease_soon(Failing(number, ends=ends))
    last = Caller()
    upstream.lease_soon(last)
    assert first.lease is not None
    first.lease.release()
    assert [caller.number for caller in ends] == list(range(5000))
    assert last.lease is not None
    await upstream.close()


# --- anything in any order ---

STEPS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["come", "come", "come", "await", "fresh", "pass"]), st.just(0)),
        st.tuples(
            st.sampled_from(["leave", "release", "release", "discard", "open", "open", "fail"]), st.integers(0, 9)
        ),
    ),
    max_size=60,
)


class Play:
    """Plays steps, and looks after each whether all is as it must be."""

    def __init__(self, urls: int) -> None:
        self.upstream, self.network, self.clock = made(urls, pool_size=2)
        self.ends: list[Caller] = []
        self.all: list[Caller] = []
        self.left: set[Caller] = set()
        self.came: dict[Caller, float] = {}
        self.tasks: dict[Caller, asyncio.Task[None]] = {}
        self.checked = 0

    def _come(self, *, fresh: bool = False) -> Caller:
        caller = Caller(len(self.all), fresh=fresh, ends=self.ends)
        self.all.append(caller)
        self.came[caller] = self.clock.monotonic()
        return caller

    async def _awaiting(self, caller: Caller) -> None:
        try:
            origin, lease = await self.upstream.lease()
        except GatewayError as error:
            caller.not_leased(error)
        else:
            caller.leased(origin, lease)

    @property
    def waiting(self) -> list[Caller]:
        return [caller for caller in self.all if not caller.has_ended and caller not in self.left]

    @property
    def holding(self) -> list[Caller]:
        return [caller for caller in self.ends if caller.lease is not None]

    async def step(self, name: str, number: int) -> None:
        one = {"leave": self.waiting, "release": self.holding, "discard": self.holding}.get(name, [])
        pending = self.network.pending
        if name in ("come", "fresh"):
            self.upstream.lease_soon(self._come(fresh=name == "fresh"))
        elif name == "await":
            caller = self._come()
            self.tasks[caller] = spawn(self._awaiting(caller), "awaits", awaited=True)
        elif name == "pass":
            self.clock.go(self.upstream, SECONDS / 2)
        elif name in ("open", "fail") and pending:
            await (self.network.open if name == "open" else self.network.fail)(number % len(pending))
        elif one:
            caller = one[number % len(one)]
            if name == "leave":
                self.left.add(caller)
                if caller in self.tasks:
                    self.tasks[caller].cancel()
                else:
                    self.upstream.leave(caller)
            else:
                lease, caller.lease = caller.lease, None
                assert lease is not None
                getattr(lease, name)()
        await settle(8)
        self.check(failed=name == "fail")

    def check(self, *, failed: bool) -> None:
        new, self.checked = self.ends[self.checked :], len(self.ends)
        states, waiting = self.upstream.states(), self.waiting
        # Places: each is held by a request, or a connection is being opened in it.
        for origin, state in zip(self.upstream.origins, states, strict=True):
            opened = sum(url == origin.url for url, _ in self.network.pending)
            assert state.in_use == opened + sum(caller.origin is origin for caller in self.holding)
            assert state.in_use + state.idle <= 2
        # Order: no other request stood before the one that is served and could have taken it.
        for caller in new:
            assert caller not in self.left
            if caller.lease is not None and not caller.fresh:
                assert not [other for other in waiting if other.number < caller.number and not other.fresh]
            if caller.lease is not None and caller.fresh:
                assert not caller.lease.reused
        # Failures: no more than one for each connection that could not be opened; 503 only when the time is over.
        refused = [caller.error.reason for caller in new if caller.error is not None]
        assert refused.count(Reasons.UPSTREAM_CONNECT) <= failed
        for caller in new:
            if caller.error is not None and caller.error.reason is Reasons.POOL_EXHAUSTED:
                assert self.clock.monotonic() >= self.came[caller] + SECONDS
        # No request waits in vain.
        patient = [caller for caller in waiting if not caller.fresh]
        covered = len(self.network.pending)
        if len(states) == 1 and patient:
            assert states[0].idle == 0
            assert states[0].in_use == 2 or covered >= len(waiting)
        # One that takes no used connection begins to wait for a place when its own could not be opened.
        dues = {caller: caller.due if caller.fresh else self.came[caller] + SECONDS for caller in waiting}
        overdue = [caller for caller, due in dues.items() if self.clock.monotonic() >= due]
        assert len(overdue) <= covered

    async def end(self) -> None:
        """Let everything come to its end: no request is left, every place is free, and two can be opened again."""
        for _ in range(500):
            if self.holding:
                await self.step("release", 0)
            elif self.network.pending:
                await self.step("open", 0)
            elif self.waiting:
                await self.step("pass", 0)
        assert not self.waiting
        assert [state.in_use for state in self.upstream.states()] == [0] * len(self.upstream.origins)
        assert opening_tasks() == 0
        for origin in self.upstream.origins:
            while lease := origin.lease_now():
                lease.discard()
        callers(self.upstream, 2)
        await settle(8)
        assert opening_tasks() == len(self.network.pending) == 2
        await self.upstream.close()


@pytest.mark.rule("R314", "R393")
@pytest.mark.parametrize("urls", [1, 2])
def test_whatever_happens_the_queue_is_fair_and_nothing_is_lost(urls: int) -> None:
    @settings(max_examples=200, deadline=None)
    @given(STEPS)
    def holds(steps: list[tuple[str, int]]) -> None:
        async def play() -> None:
            run = Play(urls)
            for name, number in steps:
                await run.step(name, number)
            await run.end()

        asyncio.run(play())

    holds()
