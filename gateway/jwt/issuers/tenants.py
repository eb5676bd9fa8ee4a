"""The keys of a template's tenants: begun with a tenant's first plausible token, bounded in number, given up when idle.

Decides which tenants have keys now; how one set is fetched and kept fresh is
``refresher.py``'s. The danger of this file is that any client may name a
tenant. So tenants without a verified token have a few slots of their own, begin
at a bounded rate, and cannot push out a tenant with a verified token; and a
tenant that gave no keys is not tried again for a while. Where the configuration
lists the tenants, the list is the only bound.
"""

from __future__ import annotations

import asyncio
import math
import weakref
from collections import Counter
from collections.abc import Callable, Coroutine
from itertools import islice
from typing import Any

from gateway.clock import Clock
from gateway.errors import GatewayError, Reason, Reasons
from gateway.jwt.issuers.refresher import IssuerKeys, KeysLeft
from gateway.settings.tables.issuers import Issuer, issuer_values
from gateway.tasks import Periodic, spawn

#: Seconds between two looks for idle tenants.
SWEEP_SECONDS = 30.0

#: How many tenants may begin in a minute, however few are kept.
MIN_STARTS = 10

#: How many tenants are remembered that gave no keys, and how many of anything ``/status`` shows.
FAILED_SIZE, MAX_STATUS_ENTRIES = 1000, 100

# What is counted, as status and as attributes say it.
_COUNTED = {"fetches": "fetches", "failures": "failures", "unknown_keys": "unknown_key_refetches"}


class Tenants:
    """The tenants of one template, each with keys of its own.

    Args:
        issuer: the template's settings.
        make: returns the keys of a tenant, not yet started.
        clock: the time.
        cache_seconds: for so long a token may be served without a look here, so its tenant counts as in use.

    Attributes:
        name: the issuer's configured name.
        begun: tenants whose keys were asked for.
        failed: of these, those that gave none and were given up.
        idle: those given up because they were not used.
        evicted: those given up to make room.
        refused: tokens of tenants for which there was no room.
    """

    def __init__(self, issuer: Issuer, make: Callable[[str], IssuerKeys], clock: Clock, cache_seconds: float) -> None:
        self.name = issuer.name
        self.begun = self.failed = self.idle = self.evicted = self.refused = 0
        self._template = issuer_values(issuer)[0]
        self._listed = bool(issuer.tenants)
        self._most = len(issuer.tenants) or issuer.max_tenants
        self._places = max(4, self._most // 4)
        self._starts = max(MIN_STARTS, self._most)
        self._cooldown = issuer.jwks_cooldown_seconds
        self._busy_seconds = cache_seconds
        self._max_stale = issuer.jwks_max_stale_seconds
        self._idle_seconds = issuer.tenant_idle_seconds + cache_seconds
        self._make = make
        self._clock = clock
        self._kept: dict[str, IssuerKeys] = {}
        self._new: dict[str, IssuerKeys] = {}
        self._proven: weakref.WeakSet[IssuerKeys] = weakref.WeakSet()
        self._failed_until: dict[str, float] = {}
        self._allowance, self._allowance_at = float(self._starts), clock.monotonic()
        self._gone: Counter[str] = Counter()
        self._sweeping = Periodic("sweep of tenants", self._sweep, clock, SWEEP_SECONDS, about=self.name)
        self._tasks: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._kept) + len(self._new)

    # --- life ---

    def start(self) -> None:
        """Begin to look for idle tenants; keys are for the first token of each. Needs a running event loop."""
        self._sweeping.start()

    async def stop(self) -> None:
        """Give up all tenants, and return once their fetches have ended."""
        await self._sweeping.stop()
        for table in (self._kept, self._new):
            while table:
                self._give_up(table.popitem()[1])
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def wait_until_loaded(self) -> None:
        """Return at once: nothing is fetched before it is asked for."""

    # --- another worker's ---

    def bequeath(self) -> dict[str, KeysLeft | None]:
        """Return the keys of tenants that have earned a lasting slot, for a worker that starts."""
        return {tenant: keys.bequeath() for tenant, keys in self._kept.items()}

    async def inherit(self, tenant: str, left: KeysLeft) -> None:
        """Begin with the keys that another worker had of a tenant."""
        if len(self._kept) < self._most and tenant not in self._kept:
            keys = self._kept[tenant] = self._make(tenant)
            keys.used_at = self._clock.monotonic()
            await keys.inherit(left)
            self.begun += 1
            keys.start()

    # --- what tokens ask ---

    def get(self, tenant: str) -> IssuerKeys | None:
        """Return the keys of a tenant that has begun; looking begins nothing and proves nothing."""
        return self._kept.get(tenant) or self._new.get(tenant)

    def admit(self, tenant: str) -> IssuerKeys:
        """Return the keys of a tenant, begun now if need be, for a token of which only the signature is unchecked.

        Raises:
            GatewayError: 503; ``NO_KEYS`` for a tenant that gave none a moment ago, ``TOO_MANY_TENANTS``
                when there is no slot for another one.
        """
        if (keys := self.get(tenant)) is not None:
            return keys
        now = self._clock.monotonic()
        if not self._listed:
            self._refuse(tenant, now)
        keys = self._make(tenant)
        keys.used_at = now
        self.begun += 1
        keys.start()
        if self._listed:
            self._kept[tenant] = keys
        else:
            self._new[tenant] = keys
            self._spawn(self._try(tenant, keys), f"first keys of {keys.name}")
        return keys

    def verified(self, tenant: str) -> None:
        """Note that a token of a tenant was verified: it is in use, and has earned a lasting slot if one is free."""
        now = self._clock.monotonic()
        if (keys := self._kept.get(tenant)) is not None:
            keys.used_at = now
        elif (keys := self._new.get(tenant)) is not None:
            keys.used_at = now
            self._proven.add(keys)
            if len(self._kept) >= self._most:
                oldest = min(self._kept, key=lambda name: self._kept[name].used_at)
                if self._in_use(self._kept[oldest], now):
                    return  # all are in use: this one stays in its slot among the new ones
                self.evicted += 1
                self._give_up(self._kept.pop(oldest))
            self._kept[tenant] = self._new.pop(tenant)

    # --- what the admin port asks ---

    @property
    def ready(self) -> bool:
        """Whether there is no reason here to keep requests away from this gateway: there never is."""
        return True

    def usable(self) -> Reason | None:
        """Return None: a template is ready to fetch what is asked for."""
        return None

    def status(self) -> dict[str, Any]:
        """Return what ``/status`` shows: sums over all tenants, and bounded lists of them and of their odd keys."""
        tenants = {**self._kept, **self._new}
        rejected = ((name, odd) for name, keys in tenants.items() for odd in keys.keys.rejected)
        oldest = min((keys.stale_at for keys in tenants.values() if keys.loaded), default=None)
        age = None if oldest is None else round(self._clock.monotonic() - oldest + self._max_stale, 3)
        return {
            "usable": all(keys.usable() is None for keys in self._kept.values()),
            "reason": "",
            "source": self._template,
            "keys": sum(len(keys.keys.keys) for keys in tenants.values()),
            "rejected_keys": [
                {"tenant": name, "index": odd.index, "kid": odd.kid, "problem": odd.problem}
                for name, odd in islice(rejected, MAX_STATUS_ENTRIES)
            ],
            "age_seconds": age,
            **{
                shown: self._gone[shown] + sum(getattr(keys, name) for keys in tenants.values())
                for shown, name in _COUNTED.items()
            },
            "tenants": {name: keys.status() for name, keys in islice(tenants.items(), MAX_STATUS_ENTRIES)},
            "tenant_count": len(tenants),
            "new_tenants": 0 if self._listed else len(self._new),
            "failed_tenants": len(self._failed_until),
        }

    # --- slots ---

    def _refuse(self, tenant: str, now: float) -> None:
        """Refuse a tenant that is not listed, if it failed a moment ago or there is no slot for it."""
        where = f"issuer {self.name}, tenant {tenant}"
        if (wait := self._failed_until.get(tenant, now) - now) > 0:
            raise GatewayError(Reasons.NO_KEYS, detail=where, retry_after=math.ceil(wait))
        # At most so many begin within a minute: each costs the provider requests that a client has caused.
        self._allowance += (now - self._allowance_at) * self._starts / 60
        self._allowance, self._allowance_at = min(self._allowance, float(self._starts)), now
        if self._allowance < 1 or not self._make_room(now):
            self.refused += 1
            raise GatewayError(Reasons.TOO_MANY_TENANTS, detail=where)
        self._allowance -= 1

    def _make_room(self, now: float) -> bool:
        """Find a slot for a tenant without a verified token; never that of a fetch under way or of a tenant in use."""
        if len(self._new) >= self._places:
            idle = [name for name, keys in self._new.items() if keys.loaded and not self._in_use(keys, now)]
            if not idle:
                return False
            self.evicted += 1
            self._give_up(self._new.pop(min(idle, key=lambda name: self._new[name].used_at)))
        return True

    def _in_use(self, keys: IssuerKeys, now: float) -> bool:
        return keys in self._proven and now - keys.used_at <= self._busy_seconds

    async def _try(self, tenant: str, keys: IssuerKeys) -> None:
        """Wait for the first fetch of a tenant, and give it up if that gave no keys."""
        await keys.wait_until_loaded()
        if keys.loaded or self._new.get(tenant) is not keys:
            return
        del self._new[tenant]
        self.failed += 1
        self._failed_until.pop(tenant, None)
        self._failed_until[tenant] = self._clock.monotonic() + self._cooldown
        if len(self._failed_until) > FAILED_SIZE:
            del self._failed_until[next(iter(self._failed_until))]
        self._give_up(keys)

    async def _sweep(self) -> None:
        now = self._clock.monotonic()
        for table in (self._kept, self._new):
            for name in [name for name, keys in table.items() if now - keys.used_at > self._idle_seconds]:
                self.idle += 1
                self._give_up(table.pop(name))
        for name in [name for name, until in self._failed_until.items() if until <= now]:
            del self._failed_until[name]

    def _give_up(self, keys: IssuerKeys) -> None:
        """Believe a tenant's keys no longer, since they are not kept fresh, and end their refresher."""
        self._gone.update({shown: getattr(keys, name) for shown, name in _COUNTED.items()})
        keys.forget()
        self._spawn(keys.stop(), f"end of {keys.name}")

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> None:
        task = spawn(work, name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
