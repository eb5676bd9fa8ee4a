"""The services behind the gateway: which of a service's URLs a request goes to, and which request is next.

Chooses: in turn among the URLs that are up, on to the next
one when a connection cannot be opened, and never a refusal only because all of
them look bad. Requests that find no free connection stand in one queue
(``wait_queue.py``), and what comes back or was opened goes to the first of them.
The pool of one URL is ``upstream_url.py``, the judgement of its health
``health.py``.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine, Iterator, Mapping
from functools import partial
from typing import Any

from aiohttp.abc import AbstractResolver

from gateway.clock import Clock, SystemClock
from gateway.errors import GatewayError, Reason, Reasons
from gateway.settings.tables.upstreams import UpstreamSettings
from gateway.tasks import Periodic, note_failure, spawn
from gateway.upstream.pool.dialer import CONNECT_FAULTS, client_tls
from gateway.upstream.pool.upstream_url import Lease, Origin, OriginState
from gateway.upstream.pool.wait_queue import AwaitedLease, LeaseWait, WaitQueue, give, refuse_wait

#: Most requests that are refused in one turn of the loop because they have waited too long: a burst comes due together.
MAX_REFUSED_AT_ONCE = 64


class Upstream:
    """A named service: its URLs in turn.

    To be made on the event loop that will use it.

    Args:
        resolver: looks names up, instead of the system's way.
        jitter: spreads health checks; returns numbers from 0 to 1.

    Attributes:
        failures: exchanges that ended without a usable answer, by reason code.
        response_timeout, idle_timeout: as configured, a step nearer for the hot path.

    Raises:
        OSError: a TLS file cannot be read or used.
    """

    def __init__(
        self,
        settings: UpstreamSettings,
        clock: Clock | None = None,
        *,
        resolver: AbstractResolver | None = None,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self.name = settings.name
        self.settings = settings
        self.response_timeout, self.idle_timeout = settings.response_timeout_seconds, settings.idle_timeout_seconds
        self._clock = clock or SystemClock()
        self._queue = WaitQueue(settings.pool_wait_seconds)
        self._waits = self._queue.waits
        self._openings: dict[_Opening, None] = {}  # what they open goes to the first in the queue
        self._own_openings: dict[LeaseWait, _Opening] = {}  # these are for one that takes no used connection
        self._serving = False
        self._timer: asyncio.TimerHandle | asyncio.Handle | None = None  # for those who wait too long
        tls = client_tls(settings)
        self.origins = tuple(
            Origin(
                url,
                settings,
                waits=self._waits,
                freed=self._freed,
                clock=self._clock,
                tls=tls,
                resolver=resolver,
            )
            for url in settings.urls
        )
        self.failures: dict[str, int] = {}
        self._next = 0  # the number of the URL whose turn it is
        self._jitter = jitter
        self._checks: list[Periodic] = []

    def start_checks(self) -> None:
        """Begin to ask each URL for its health, if the configuration says how."""
        if self.settings.health_path:
            self._checks = [
                Periodic("health check", partial(_check, origin), self._clock, self._until_check, about=str(origin.url))
                for origin in self.origins
            ]
            for check in self._checks:
                check.start(at_once=True)

    def _until_check(self) -> float:
        """Return the seconds between two checks, give or take a tenth, so that many gateways do not ask together."""
        return self.settings.health_interval_seconds * (0.9 + 0.2 * self._jitter())

    async def lease(self, *, fresh: bool = False) -> tuple[Origin, Lease]:
        """Return a connection to the URL whose turn it is, or to the next one that can be connected to.

        Nothing has been sent when this raises: whatever the request is, it can still go elsewhere.

        Args:
            fresh: never a connection that has served before.

        Raises:
            GatewayError: the pool stayed full, or no URL could be connected to; then, why the last one could not.
        """
        if not fresh and (leased := self.lease_now()) is not None:
            return leased
        wait = AwaitedLease(fresh=fresh)
        self.lease_soon(wait)
        return await wait.result(self.leave)

    def lease_now(self) -> tuple[Origin, Lease] | None:
        """Return an idle connection to the URL whose turn it is; None when one must wait or connect for it."""
        if self._waits:
            return None  # a new request is not served before those that wait
        count = len(self.origins)
        if count == 1 and (origin := self.origins[0]).health.sound:
            lease = origin.lease_now()
            return None if lease is None else (origin, lease)
        for step in range(count):
            number = (self._next + step) % count
            origin = self.origins[number]
            if not origin.health.sound:
                if origin.health.due(self._clock.monotonic()):
                    return None
            elif (lease := origin.lease_now()) is not None:
                self._next = (number + 1) % count
                return origin, lease
            elif origin.has_place:
                return None  # its turn, and it needs a new connection: else only those that have one would be asked
        return None

    def lease_soon(self, wait: LeaseWait) -> None:
        """Have a connection given to one request, behind those that wait already; see ``lease``.

        ``wait`` may be called before this returns. It is refused instead when none could be opened for it,
        or when it has waited for ``pool_wait_seconds`` and none is being opened for it.
        """
        if wait.fresh or not self._waits:
            candidates = self._candidates()
            origin = next(candidates, None)
            if origin is None:
                self._stand_in_queue(wait, self._counting())
            elif wait.fresh:
                self._start(origin, candidates, wait)
            elif (lease := self._idle_of(origin)) is not None:
                give(wait, origin, lease)
            else:
                self._stand_in_queue(wait, origin)
                self._start(origin, candidates)
        else:
            self._stand_in_queue(wait, self._counting())
            self._freed()

    def leave(self, wait: LeaseWait) -> None:
        """Have a request wait no longer; it is not called any more. Nothing to do when it does not wait."""
        if wait in self._waits:
            del self._waits[wait]
            if len(self._openings) > len(self._waits):  # the last one is for no request any more
                self._openings.popitem()[0].cancel()
        elif (own := self._own_openings.pop(wait, None)) is not None:
            own.cancel()

    def states(self) -> list[OriginState]:
        """Return the numbers of each URL, for the admin port."""
        covered = len(self._openings)
        return [origin.state(self._queue.counted_for(origin, covered)) for origin in self.origins]

    # --- whose turn it is ---

    def _candidates(self) -> Iterator[Origin]:
        """Yield the URLs to connect to, each once, and none that has no place.

        First those that are up, or due for a trial, in turn. Then, as a last resort and while less than one connect
        timeout has passed, the others, the one whose back-off ends first to begin with; but not while one that is up
        is only full.
        """
        deadline = self._clock.monotonic() + self.settings.connect_timeout_seconds
        left = [*self.origins[self._next :], *self.origins[: self._next]]
        while left:
            now = self._clock.monotonic()
            free = [origin for origin in left if origin.has_place]
            if up := [origin for origin in left if origin.health.sound or origin.health.due(now)]:
                origin = next((origin for origin in up if origin.has_place), None)
            elif free and (now < deadline or len(left) == len(self.origins)):
                origin = min(free, key=lambda origin: origin.health.back_off_ends)
            else:
                origin = None
            if origin is None:
                return
            left.remove(origin)
            self._next = (self.origins.index(origin) + 1) % len(self.origins)
            yield origin

    def _counting(self) -> Origin:
        """Return the URL that one who waits for any of them is counted for: in turn, those that are up first."""
        count = len(self.origins)
        turns = [(self._next + step) % count for step in range(count)]
        number = next((number for number in turns if self.origins[number].health.sound), self._next)
        self._next = (number + 1) % count
        return self.origins[number]

    def _idle_of(self, origin: Origin) -> Lease | None:
        """Return an idle connection of a candidate, unless it is due for a trial, of which that would say nothing."""
        return None if origin.health.due(self._clock.monotonic()) else origin.lease_now()

    # --- the queue ---

    def _stand_in_queue(self, wait: LeaseWait, home: Origin) -> None:
        self._queue.add(wait, home, self._clock.monotonic())
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self.settings.pool_wait_seconds, self._refuse_overdue)

    def _freed(self) -> None:
        """Give what is free to those who wait, and have a connection opened for one more of them, if one may be."""
        if self._serving:
            return  # what is given may come back at once: that goes on below, not within itself
        self._serve()
        if len(self._openings) < len(self._waits) and any(origin.has_place for origin in self.origins):
            candidates = self._candidates()
            if (origin := next(candidates, None)) is not None:
                self._start(origin, candidates)

    def _serve(self) -> None:
        """Give the connections that are idle to those who wait, the first one first."""
        self._serving = True
        try:
            while self._waits:
                if self._queue.first().fresh:
                    candidates = self._candidates()
                    if (origin := next(candidates, None)) is None:
                        break
                    self._start(origin, candidates, self._queue.pop())
                elif (leased := self._take_idle()) is not None:
                    give(self._queue.pop(), *leased)
                else:
                    break
        finally:
            self._serving = False

    def _take_idle(self) -> tuple[Origin, Lease] | None:
        """Return an idle connection for the first in the queue: of a URL that is up, or of any if none is."""
        count = len(self.origins)
        if count == 1:
            return None if (lease := self.origins[0].lease_now()) is None else (self.origins[0], lease)
        any_up = any(origin.health.sound for origin in self.origins)
        for step in range(count):
            number = (self._next + step) % count
            origin = self.origins[number]
            if (origin.health.sound or not any_up) and (lease := origin.lease_now()) is not None:
                self._next = (number + 1) % count
                return origin, lease
        return None

    def _refuse_overdue(self) -> None:
        """Refuse those who have waited too long for a place."""
        loop, now, covered = asyncio.get_running_loop(), self._clock.monotonic(), len(self._openings)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for wait in self._queue.overdue(now, covered, MAX_REFUSED_AT_ONCE):
            if wait in self._waits:  # else the refusal of one before it has made a place free
                del self._waits[wait]
                refuse_wait(wait, GatewayError(Reasons.POOL_EXHAUSTED))
        due = self._queue.next_due(len(self._openings))
        if due is not None and self._timer is None:
            self._timer = loop.call_later(max(0.001, due - now), self._refuse_overdue)

    # --- opening connections ---

    def _start(self, origin: Origin, candidates: Iterator[Origin], wait: LeaseWait | None = None) -> None:
        """Have a connection opened, by the one task that this takes, for one request or for the first in the queue.

        Args:
            origin: where to; it has a place.
            candidates: where to go on when that fails.
            wait: whose it is; None for the request that is first in the queue by then.
        """
        opening = _Opening()
        if wait is None:
            self._openings[opening] = None
        else:
            self._own_openings[wait] = opening
        first = self._connecting(origin)
        opening.task = spawn(self._open(opening, wait, origin, first, candidates), "opens an upstream connection")

    def _connecting(self, origin: Origin) -> Coroutine[Any, Any, Lease]:
        """Take a place of a URL, and its trial if one is due, and return what connects to it."""
        trial = origin.health.begin_trial(self._clock.monotonic())
        return _connected(origin, origin.open(), trial=trial)

    async def _open(
        self,
        opening: _Opening,
        wait: LeaseWait | None,
        origin: Origin,
        connecting: Coroutine[Any, Any, Lease],
        candidates: Iterator[Origin],
    ) -> None:
        tried: list[Origin] = []
        may_open_more = True
        try:
            while True:
                tried.append(origin)
                try:
                    lease = await connecting
                except GatewayError as error:
                    following = next(candidates, None) if error.reason in CONNECT_FAULTS else None
                    if following is None:
                        may_open_more = self._not_opened(opening, wait, error, tried)
                        return
                    origin = following
                else:
                    self._opened(opening, wait, origin, lease)
                    return
                if wait is None and len(self._openings) > len(self._waits):
                    return  # those whom it was for have got another
                if wait is None and (idle := self._idle_of(origin)) is not None:
                    self._opened(opening, wait, origin, idle)
                    return
                connecting = self._connecting(origin)
        except Exception as error:  # a fault of the gateway's own: a request waits, and must be answered
            note_failure("upstream connections", error, self.name)
            self._not_opened(opening, wait, GatewayError(Reasons.INTERNAL), list(self.origins))
        finally:
            self._openings.pop(opening, None)
            if self._waits and may_open_more:
                self._freed()
            elif self._waits:
                self._serve()

    def _opened(self, opening: _Opening, wait: LeaseWait | None, origin: Origin, lease: Lease) -> None:
        """Give a connection to the request that it is for; keep it if that has left."""
        self._openings.pop(opening, None)
        own = None if wait is None else self._own_openings.pop(wait, None)
        if wait is not None and own is not None:
            give(wait, origin, lease)
        elif self._waits:
            give(self._queue.pop(), origin, lease)
        else:
            lease.release()

    def _not_opened(self, opening: _Opening, wait: LeaseWait | None, error: GatewayError, tried: list[Origin]) -> bool:
        """Refuse one request for which there is no connection; return whether another may be opened in its place.

        An opening stands for one request, as if that had connected itself: so one is refused, the first, and the
        others have openings of their own, or wait for what is in use. None is refused while other openings stand for
        all that wait; and while another URL is up, and only full, its connections come back.
        """
        if wait is None and self._openings.pop(opening, opening) is opening:
            return True  # it was cancelled: the one whom it was for has left
        own = None if wait is None else self._own_openings.pop(wait, None)
        elsewhere = error.reason in CONNECT_FAULTS and any(
            origin.health.sound for origin in self.origins if origin not in tried
        )
        if wait is not None:
            # Refused wherever else there may come a place: it would be the first to try the same URL again, at once.
            if own is not None:  # else it has left
                refuse_wait(wait, error)
            return True
        if len(self._openings) >= len(self._waits):
            return True
        if not elsewhere:
            refuse_wait(self._queue.pop(), error)
            return True
        self._refuse_overdue()  # one more waits for a place now, and it may have waited long enough
        return False

    def failed(self, reason: Reason) -> None:
        """Count an exchange that ended without a usable answer."""
        self.failures[reason.code] = self.failures.get(reason.code, 0) + 1

    async def close(self) -> None:
        """End the checks, refuse those who still wait, and close every pool."""
        for check in self._checks:
            await check.stop()
        if self._timer is not None:
            self._timer.cancel()
        openings = [*self._openings, *self._own_openings.values()]
        left = [*self._waits, *self._own_openings]
        self._waits.clear()
        self._own_openings.clear()
        for wait in left:
            refuse_wait(wait, GatewayError(Reasons.UPSTREAM_CONNECT, detail="the gateway stops"))
        for opening in openings:
            opening.cancel()
        await asyncio.gather(*(opening.task for opening in openings), return_exceptions=True)
        for origin in self.origins:
            await origin.close()


async def _check(origin: Origin) -> None:
    good = await origin.probe()
    if good is not None:  # else this process could not ask, which says nothing about the URL
        origin.checked(good)


class _Opening:
    """A connection that is being opened."""

    __slots__ = ("task",)

    task: asyncio.Task[None]

    def cancel(self) -> None:
        """End it; not before its task has begun, or its place would not be given back."""
        asyncio.get_running_loop().call_soon(self.task.cancel)


async def _connected(origin: Origin, opening: Coroutine[Any, Any, Lease], *, trial: bool) -> Lease:
    try:
        return await opening
    finally:
        if trial:
            origin.health.end_trial()


def open_upstreams(upstreams: list[UpstreamSettings], clock: Clock | None = None) -> Mapping[str, Upstream]:
    """Return the upstreams by name, their health checks begun.

    To be called on the event loop that will use them.

    Raises:
        OSError: a TLS file cannot be read or used.
    """
    opened = {settings.name: Upstream(settings, clock) for settings in upstreams}
    for upstream in opened.values():
        upstream.start_checks()
    return opened
