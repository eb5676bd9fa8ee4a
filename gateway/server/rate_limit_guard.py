"""The guard that counts requests, and refuses those that are too many.

Only the asking lives here: which buckets a request takes from, whether these
are the worker's own or shared through Redis, and what is counted and told. The
arithmetic is ``policy/rate_limits.py``'s, the exchange with Redis
``store/shared_buckets.py``'s. The danger of this file is the wait: nothing but
one exchange with Redis is ever waited for, which is bounded by
``redis.timeout_seconds``; without its answer the worker's own buckets decide.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, NamedTuple

from gateway.clock import Clock
from gateway.errors import GatewayError, Reason
from gateway.identity import Identity
from gateway.policy.callers import Namer
from gateway.policy.rate_limit_fields import limit_field, policy_field, retry_after
from gateway.policy.rate_limits import Barred, Buckets, Level, Limit, compile_limits, level, take
from gateway.policy.routes import Route
from gateway.server.request import Admitted
from gateway.server.run import Run
from gateway.settings import schema
from gateway.settings.rate_limits import ADDRESS, API_KEY, CLAIM, SUBJECT
from gateway.store.redis_link import RedisLink, StoreUnavailableError
from gateway.store.shared_buckets import SharedBuckets

#: Who a request comes from: its client's address, its credential, and whoever shows it.
Caller = tuple[str, bytes | None, Identity | None]


class _Counted(NamedTuple):
    """One limit of one route.

    Attributes:
        buckets: this worker's.
        name: names the bucket of a caller; None where the limit is not about it.
    """

    buckets: Buckets
    name: Callable[[Caller], bytes | None]


class _Group:
    """The limits of one route that are asked at the same moment.

    Attributes:
        limits: in the order of the configuration.
        policy: the field that describes them.
        barred: callers whom Redis has refused, until when it would again; None without Redis.
    """

    def __init__(self, route: Route, limits: Sequence[Limit], most: int, link: RedisLink | None) -> None:
        self.route = route.name
        self.counted = [_Counted(Buckets(limit, most), _namer(route, limit)) for limit in limits]
        self.limits = tuple(limits)
        self.barred = None if link is None else Barred(most)
        self._link = link
        self._shared: dict[tuple[int, ...], SharedBuckets] = {}

    def shared(self, asked: tuple[int, ...]) -> SharedBuckets:
        """Return the shared buckets of some of the limits, by number."""
        found = self._shared.get(asked)
        if found is None:
            assert self._link is not None
            rates = [(self.limits[number].interval, self.limits[number].tolerance) for number in asked]
            found = self._shared[asked] = SharedBuckets(self._link, rates)
        return found


class RateLimitGuard:
    """Counts requests, for all routes with a ``rate_limit``.

    Args:
        settings: the whole configuration.
        clock: the time.
        link: to Redis, if limits are shared.

    Attributes:
        counts: requests by route, limit and "admitted" or "limited".
        fallbacks: requests that this worker's own buckets decided, because Redis was away.
    """

    def __init__(self, settings: schema.Settings, clock: Clock, link: RedisLink | None) -> None:
        self.counts: Counter[tuple[str, str, str]] = Counter()
        self.fallbacks = 0
        self._most = settings.limits.max_callers
        self._now = clock.monotonic
        self._link = link
        self._before: dict[str, _Group] = {}
        self._after: dict[str, _Group] = {}

    # --- a guard ---

    def covers(self, route: Route) -> bool:
        limits = compile_limits(route.settings.rate_limit)
        by_address = [limit for limit in limits if limit.by == ADDRESS]
        by_caller = [limit for limit in limits if limit.by != ADDRESS]
        for limits_then, groups in ((by_address, self._before), (by_caller, self._after)):
            if limits_then:
                groups[route.name] = _Group(route, limits_then, self._most, self._link)
        return bool(limits)

    def before(self, run: Run, admitted: Admitted) -> Awaitable[None] | None:
        group = self._before.get(admitted.route.name)
        return None if group is None else self._ask(run, group, (run.record.client, None, None))

    def after(
        self, run: Run, admitted: Admitted, shown: bytes | None, identity: Identity | None
    ) -> Awaitable[None] | None:
        group = self._after.get(admitted.route.name)
        return None if group is None else self._ask(run, group, (run.record.client, shown, identity))

    def refused(self, run: Run, admitted: Admitted, error: GatewayError) -> None:
        """Nothing is counted then but the address, and that was before."""

    # --- the asking ---

    def _ask(self, run: Run, group: _Group, caller: Caller) -> Awaitable[None] | None:
        named = [(number, name) for number, one in enumerate(group.counted) if (name := one.name(caller)) is not None]
        if not named:
            return None
        asked = tuple(number for number, _ in named)
        names = [name for _, name in named]
        if group.barred is None:
            self._decide(run, group, asked, self._own(group, asked, names))
            return None
        # Redis' answer to one who is refused holds until it said it would: no bucket fills faster.
        now = self._now()
        untils = [group.barred.until(name, now) for name in names]
        if any(until is not None for until in untils):
            # What is left of the others is not known then, and not told.
            known = [
                (number, Level(False, 0, until - now))
                for number, until in zip(asked, untils, strict=True)
                if until is not None
            ]
            self._decide(run, group, tuple(number for number, _ in known), [one for _, one in known])
            return None
        return self._ask_redis(run, group, asked, names)

    async def _ask_redis(self, run: Run, group: _Group, asked: tuple[int, ...], names: list[bytes]) -> None:
        now = self._now()  # before the exchange: nobody is barred for longer than Redis said
        try:
            answers = await group.shared(asked).take(names)
        except StoreUnavailableError:
            self.fallbacks += 1
            self._decide(run, group, asked, self._own(group, asked, names))
            return
        levels = []
        for number, name, (fits, ahead) in zip(asked, names, answers, strict=True):
            found = level(group.limits[number], ahead, fits=fits)
            if not fits and group.barred is not None:
                group.barred.put(name, now + found.wait, now)
            levels.append(found)
        self._decide(run, group, asked, levels)

    def _own(self, group: _Group, asked: Iterable[int], names: Iterable[bytes]) -> list[Level]:
        buckets = [group.counted[number].buckets for number in asked]
        return take(zip(buckets, names, strict=True), self._now())

    def _decide(self, run: Run, group: _Group, asked: tuple[int, ...], levels: Sequence[Level]) -> None:
        """Count what was decided, tell it, and refuse.

        Raises:
            GatewayError: 429.
        """
        limits = [group.limits[number] for number in asked]
        run.answer_fields += [policy_field(limits), limit_field(limits, levels)]
        if all(one.fits for one in levels):
            for limit in limits:
                self.counts[group.route, limit.name, "admitted"] += 1
            return
        refusing = [limit.name for limit, one in zip(limits, levels, strict=True) if not one.fits]
        for name in refusing:
            self.counts[group.route, name, "limited"] += 1
        raise GatewayError(Reason.RATE_LIMITED, detail=f"by {', '.join(refusing)}", retry_after=retry_after(levels))

    # --- what is told of it ---

    @property
    def buckets(self) -> list[Buckets]:
        """This worker's buckets, of all limits."""
        return [one.buckets for groups in (self._before, self._after) for g in groups.values() for one in g.counted]

    def status(self) -> dict[str, Any]:
        """Return what ``/status`` shows of the limits."""
        return {
            "limits": len(self.buckets),
            "shared": self._link is not None,
            "callers": sum(map(len, self.buckets)),
            "forgotten": sum(buckets.forgotten for buckets in self.buckets),
            "fallbacks": self.fallbacks,
        }


def _namer(route: Route, limit: Limit) -> Callable[[Caller], bytes | None]:
    """Return what names the bucket of a caller.

    The name is the same in every worker and every gateway with the same route and limit, and in no others.
    """
    settings = route.settings
    scope = (route.name, settings.match, *sorted(route.hosts), "", *sorted(route.methods), "", route.upstream)
    namer = Namer(*scope, limit.name, str(limit.requests), repr(limit.seconds), str(limit.burst))
    claim = limit.by.removeprefix(CLAIM)

    def name(caller: Caller) -> bytes | None:
        address, shown, identity = caller
        if limit.by == API_KEY:
            return (
                None if shown is None or identity is None or identity.credential != API_KEY else namer.credential(shown)
            )
        if identity is None:  # an address, or nobody in particular
            return namer.address(address)
        return namer.subject(identity) if limit.by == SUBJECT else namer.claim(identity, claim)

    return name
