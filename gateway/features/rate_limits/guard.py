"""The guard that counts requests, and refuses those that are too many.

Decides which buckets a request takes from, whether these are the worker's own or shared through Redis, and what is
counted and reported. The arithmetic is ``policy/token_bucket.py``'s, the exchange with Redis
``features/rate_limits/shared_buckets.py``'s. The danger of this file is delay: a request waits for one exchange with
Redis at most, which is bounded by ``redis.timeout_seconds``. Without its answer the worker's own buckets decide.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from gateway.clock import Clock
from gateway.errors import GatewayError
from gateway.features.rate_limits.fields import limit_field, policy_field, retry_after
from gateway.features.rate_limits.limits import compile_limits
from gateway.features.rate_limits.options import ADDRESS, API_KEY, CLAIM, SUBJECT, LimitRouteOptions, LimitTables
from gateway.features.rate_limits.reasons import RATE_LIMITED
from gateway.features.rate_limits.shared_buckets import SharedBuckets
from gateway.identity import Identity
from gateway.policy.caller_names import Namer
from gateway.policy.routes import Route
from gateway.policy.token_bucket import Barred, Buckets, Level, Limit, level, take
from gateway.server.request.in_progress import Run
from gateway.server.request.request import Admitted
from gateway.server.seam.credential import Shown
from gateway.server.seam.guard import Guard, Now
from gateway.settings.tables.root import Settings
from gateway.store.redis_link import RedisLink, StoreUnavailableError

#: What a request may be counted by: its client's address, its credential, and the identity of its caller.
Caller = tuple[str, Shown | None, Identity | None]


class _Together(NamedTuple):
    """Limits that are checked for one request, all at once.

    Attributes:
        limits: in the order of the configuration.
        policy: the field that describes them.
        buckets: this worker's.
        shared: those in Redis; None without it.
    """

    limits: tuple[Limit, ...]
    policy: tuple[bytes, bytes]
    buckets: tuple[Buckets, ...]
    shared: SharedBuckets | None


class _Group:
    """The limits of one route that are checked at the same step.

    Attributes:
        route: its name.
        buckets: this worker's, of each limit.
        barred: callers that Redis has refused, with the moment until which it would refuse them again; None without
            Redis.
    """

    def __init__(self, route: Route, limits: Sequence[Limit], max_callers: int, link: RedisLink | None) -> None:
        self.route = route.name
        self.buckets = [Buckets(limit, max_callers) for limit in limits]
        self.barred = None if link is None else Barred(max_callers)
        self._link = link
        self._namers = [_namer(route, limit) for limit in limits]
        self._together: dict[tuple[int, ...], _Together] = {}

    def names(self, caller: Caller) -> dict[int, bytes]:
        """Return the names of a caller's buckets, by the number of the limit, for limits that apply to the caller."""
        named = ((number, namer(caller)) for number, namer in enumerate(self._namers))
        return {number: name for number, name in named if name is not None}

    def together(self, numbers: Iterable[int]) -> _Together:
        """Return some of the limits, by number."""
        asked = tuple(numbers)
        found = self._together.get(asked)
        if found is None:
            buckets = tuple(self.buckets[number] for number in asked)
            limits = tuple(one.limit for one in buckets)
            rates = [(limit.interval, limit.tolerance) for limit in limits]
            shared = None if self._link is None else SharedBuckets(self._link, rates)
            found = self._together[asked] = _Together(limits, policy_field(limits), buckets, shared)
        return found


class RateLimitGuard(Guard):
    """Counts requests, for all routes with a ``rate_limit``.

    Args:
        settings: the whole configuration.
        clock: the time.
        link: to Redis, if limits are shared.

    Attributes:
        counts: requests by route, limit and "admitted" or "limited".
        fallbacks: requests that this worker's own buckets decided, because Redis was unavailable. They hold what Redis
            last answered about each caller.
    """

    def __init__(self, settings: Settings, clock: Clock, link: RedisLink | None) -> None:
        self.counts: Counter[tuple[str, str, str]] = Counter()
        self.fallbacks = 0
        self._max_callers = LimitTables.of(settings).limits.max_callers
        self._now = clock.monotonic
        self._link = link
        self._before: dict[str, _Group] = {}
        self._after: dict[str, _Group] = {}

    # --- a guard ---

    def covers(self, route: Route) -> bool:
        limits = compile_limits(LimitRouteOptions.of(route.settings).rate_limit)
        by_address = [limit for limit in limits if limit.by == ADDRESS]
        by_caller = [limit for limit in limits if limit.by != ADDRESS]
        for limits_then, groups in ((by_address, self._before), (by_caller, self._after)):
            if limits_then:
                groups[route.name] = _Group(route, limits_then, self._max_callers, self._link)
        return bool(limits)

    def before(self, run: Run, admitted: Admitted) -> Now:
        group = self._before.get(admitted.route.name)
        return None if group is None else self._ask(run, group, (run.record.client, None, None))

    def after(self, run: Run, admitted: Admitted, shown: Shown | None, identity: Identity | None) -> Now:
        group = self._after.get(admitted.route.name)
        return None if group is None else self._ask(run, group, (run.record.client, shown, identity))

    # --- the check of one request ---

    def _ask(self, run: Run, group: _Group, caller: Caller) -> Now:
        names = group.names(caller)
        if not names:
            return None
        asked = group.together(names)
        if group.barred is None or asked.shared is None:
            self._decide(run, group, asked, self._own(asked, names.values()))
            return None
        # A refusal by Redis holds for as long as its answer said: no bucket fills faster.
        now, until = self._now(), group.barred.until
        barred = {number: moment for number, name in names.items() if (moment := until(name, now)) is not None}
        if barred:  # what is left in the other buckets is not known then, and not sent
            levels = [Level(False, 0, moment - now) for moment in barred.values()]
            raise self._refusal(run, group, group.together(barred), levels)
        return self._ask_redis(run, group, asked, asked.shared, group.barred, list(names.values()))

    async def _ask_redis(
        self, run: Run, group: _Group, asked: _Together, shared: SharedBuckets, barred: Barred, names: list[bytes]
    ) -> None:
        now = self._now()  # before the exchange: no caller is barred for longer than Redis said
        try:
            answers = await shared.take(names)
        except StoreUnavailableError:
            self.fallbacks += 1
            self._decide(run, group, asked, self._own(asked, names))
            return
        levels = []
        for buckets, name, (fits, ahead) in zip(asked.buckets, names, answers, strict=True):
            found = level(buckets.limit, ahead, fits=fits)
            buckets.put(name, now + ahead, now)  # this worker goes on from there if Redis becomes unavailable
            if not fits:
                barred.put(name, now + found.wait, now)
            levels.append(found)
        self._decide(run, group, asked, levels)

    def _own(self, asked: _Together, names: Iterable[bytes]) -> list[Level]:
        return take(zip(asked.buckets, names, strict=True), self._now())

    def _decide(self, run: Run, group: _Group, asked: _Together, levels: Sequence[Level]) -> None:
        """Count the decision, put it into the answer's headers, and refuse the request if a limit does.

        Raises:
            GatewayError: 429.
        """
        if not all(one.fits for one in levels):
            raise self._refusal(run, group, asked, levels)
        run.answer_fields += (asked.policy, limit_field(asked.limits, levels))
        for limit in asked.limits:
            self.counts[group.route, limit.name, "admitted"] += 1

    def _refusal(self, run: Run, group: _Group, asked: _Together, levels: Sequence[Level]) -> GatewayError:
        run.answer_fields += (asked.policy, limit_field(asked.limits, levels))
        refusing = [limit.name for limit, one in zip(asked.limits, levels, strict=True) if not one.fits]
        for name in refusing:
            self.counts[group.route, name, "limited"] += 1
        return GatewayError(RATE_LIMITED, detail=f"by {', '.join(refusing)}", retry_after=retry_after(levels))

    # --- what is reported ---

    @property
    def buckets(self) -> list[Buckets]:
        """This worker's buckets, of all limits."""
        return [one for groups in (self._before, self._after) for group in groups.values() for one in group.buckets]

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
    """Return a function that names the bucket of a caller.

    The name is the same in every worker and every gateway with the same route and limit, and in no others.
    """
    settings = route.settings
    scope = (route.name, settings.match, *sorted(route.hosts), "", *sorted(route.methods), "", route.upstream)
    namer = Namer(*scope, limit.name, str(limit.requests), repr(float(limit.seconds)), str(limit.burst))
    claim = limit.by.removeprefix(CLAIM)

    def name(caller: Caller) -> bytes | None:
        address, shown, identity = caller
        if limit.by == API_KEY:
            return (
                None
                if shown is None or identity is None or identity.credential != API_KEY
                else namer.credential(shown.value)
            )
        if identity is None:  # a limit by address, or an anonymous caller
            return namer.address(address)
        return namer.subject(identity) if limit.by == SUBJECT else namer.claim(identity, claim)

    return name
