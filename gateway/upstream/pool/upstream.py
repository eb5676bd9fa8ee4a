"""The services behind the gateway: which of a service's URLs a request goes to.

Chooses the URL: in turn among the URLs that are up, on to the next one when a
connection cannot be opened, and never a refusal only because all of them look
bad. The pool of one URL is ``upstream_url.py``, the judgement of its health
``health.py``.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from functools import partial

from aiohttp.abc import AbstractResolver

from gateway.clock import Clock, SystemClock
from gateway.errors import GatewayError, Reason, Reasons
from gateway.settings.tables.upstreams import UpstreamSettings
from gateway.tasks import Periodic
from gateway.upstream.pool.dialer import CONNECT_FAULTS, client_tls
from gateway.upstream.pool.upstream_url import Lease, Origin


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
        tls = client_tls(settings)
        self.origins = tuple(
            Origin(url, settings, clock=self._clock, tls=tls, resolver=resolver) for url in settings.urls
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
        candidates = self._candidates()
        origin = next(candidates)
        while True:
            try:
                return origin, await self._lease_from(origin, fresh=fresh)
            except GatewayError as error:
                following = next(candidates, None)
                if following is None or not _may_go_on(error.reason, following):
                    raise
                origin = following

    def lease_now(self) -> tuple[Origin, Lease] | None:
        """Return an idle connection to the URL whose turn it is; None when ``lease`` must decide or connect."""
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

    def _candidates(self) -> Iterator[Origin]:
        """Yield the URLs to try, each once.

        First those that are up, or due for a trial, in turn; one with a slot in its pool before one without. Then, as
        a last resort and while less than one connect timeout has passed, the others, the one whose back-off ends
        first to begin with.
        """
        deadline = self._clock.monotonic() + self.settings.connect_timeout_seconds
        left = [*self.origins[self._next :], *self.origins[: self._next]]
        while left:
            now = self._clock.monotonic()
            up = [origin for origin in left if origin.health.sound or origin.health.due(now)]
            if up:
                origin = next((origin for origin in up if origin.has_place), up[0])
            elif now < deadline or len(left) == len(self.origins):
                origin = min(left, key=lambda origin: origin.health.back_off_ends)
            else:
                return
            left.remove(origin)
            self._next = (self.origins.index(origin) + 1) % len(self.origins)
            yield origin

    async def _lease_from(self, origin: Origin, *, fresh: bool) -> Lease:
        trial = origin.health.begin_trial(self._clock.monotonic())
        try:
            # An idle connection would say nothing about new ones.
            return await origin.lease(fresh=fresh or trial)
        finally:
            if trial:
                origin.health.end_trial()

    def failed(self, reason: Reason) -> None:
        """Count an exchange that ended without a usable answer."""
        self.failures[reason.code] = self.failures.get(reason.code, 0) + 1

    async def close(self) -> None:
        """End the checks and close every pool."""
        for check in self._checks:
            await check.stop()
        for origin in self.origins:
            await origin.close()


async def _check(origin: Origin) -> None:
    good = await origin.probe()
    if good is not None:  # else this process could not ask, which says nothing about the URL
        origin.checked(good)


def _may_go_on(reason: Reason, following: Origin) -> bool:
    """Whether a request that got no connection to one URL may ask for one to the next.

    A request waits for a slot once only: after that, only a slot that is free elsewhere helps.
    """
    if reason is Reasons.POOL_EXHAUSTED:
        return following.health.sound and following.has_place
    return reason in CONNECT_FAULTS


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
