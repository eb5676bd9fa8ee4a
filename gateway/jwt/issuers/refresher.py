"""When one issuer's keys are fetched, and whether they may be believed.

This file has the schedule: the background refresher, the shared fetch for an
unknown ``kid``, back-off, cooldown and age. One fetch is ``key_sources.py``'s.
Readers and refresher meet in one assignment of an immutable ``KeySet``.

The dangers: a refresher that dies in silence (so no error but its own
cancellation ends it), a failed answer that throws good keys away (so only a
good one replaces them), and requests that cause fetches (so these are shared
and rare). All times are monotonic: a step of the wall clock changes nothing.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
from collections.abc import Callable
from typing import Any, NamedTuple

from gateway.clock import Clock
from gateway.errors import Reason, Reasons
from gateway.jwt.issuers.key_sources import Fetched, Source
from gateway.jwt.jose.keys import KeySet, RejectedKey
from gateway.outbound.http import FetchError
from gateway.settings.tables.issuers import Issuer
from gateway.tasks import Periodic, spawn, survivable

_log = logging.getLogger("gateway.jwks")

#: First and longest wait after a failed fetch, in seconds; it doubles in between.
FIRST_RETRY, LAST_RETRY = 1.0, 30.0


class KeysLeft(NamedTuple):
    """The keys that one worker leaves to another.

    Attributes:
        document: what they were read from; public.
        good_at: monotonic seconds of the last good fetch.
        due: monotonic seconds of the next one.
    """

    document: bytes
    good_at: float
    due: float


class IssuerKeys:
    """The current keys of one issuer.

    Args:
        issuer: its settings.
        source: where the keys come from; closed by ``stop``.
        clock: the time.
        jitter: a number within [0, 1), anew at each call: gateways that started
            together must not fetch together.
        first_wait: seconds before the very first fetch asks the provider: workers that
            start together must not ask together. Requests that need the keys wait for it.

    Attributes:
        name: the issuer's configured name.
        keys: the set to verify with; empty before the first good fetch.
        loaded: a good fetch has happened.
        stale_at: the monotonic second after which ``keys`` are no longer believed.
        fetches: fetches that ended, good or not.
        failures: those that gave nothing.
        unknown_key_refetches: fetches that an unknown ``kid`` caused.
        used_at: the monotonic second of their last use that is known of; only tenants are given up when idle.
    """

    def __init__(
        self,
        issuer: Issuer,
        source: Source,
        clock: Clock,
        *,
        jitter: Callable[[], float] = random.random,
        first_wait: float = 0.0,
    ) -> None:
        self.name = issuer.name
        self.keys = KeySet()
        self.loaded = False
        self.stale_at = -math.inf
        self.fetches = 0
        self.failures = 0
        self.unknown_key_refetches = 0
        self.used_at = -math.inf
        self._cooldown = issuer.jwks_cooldown_seconds
        self._max_stale = issuer.jwks_max_stale_seconds
        self._source = source
        self._clock = clock
        self._jitter = jitter
        self._first_wait = first_wait
        self._stopping = False
        self._refreshing = Periodic(
            "key refresher", self._refresh, clock, 0.0, about=self.name, on_failure=self._refresh_failed
        )
        self._started = False
        self._flight: asyncio.Task[None] | None = None
        self._flight_started = -math.inf
        self._nap: asyncio.Task[None] | None = None
        self._due = -math.inf
        self._failures_in_a_row = self._failed_before = 0
        self._good_at = -math.inf
        self._document = b""
        self._own = bool(issuer.jwks_file)
        self._unknown_key_at = -math.inf
        self._last_error = ""
        self._reported: tuple[RejectedKey, ...] = ()

    # --- life ---

    def start(self) -> None:
        """Begin the first fetch and the background refresher. Needs a running event loop."""
        if not self._started:
            self._started = True
            if self._clock.monotonic() >= self._due:
                self._flight = self._begin(scheduled=True)  # now: a request that comes next finds a fetch to wait for
            self._refreshing.start(at_once=True)

    def forget(self) -> None:
        """Trust no key any more and fetch none, and with it forget the verdicts that rest on them: before ``stop``."""
        self._stopping, self.loaded = True, False
        self.keys, self.stale_at = KeySet(), -math.inf

    async def stop(self) -> None:
        """End the refresher and whatever fetch is running, and close the source."""
        self._stopping = True
        try:
            await self._refreshing.stop()  # first: it makes the others
            await _ended(self._nap)
            await _ended(self._flight)
        finally:
            await self._source.close()

    # --- another worker's ---

    def bequeath(self) -> KeysLeft | None:
        """Return what is known, for a worker that starts; None before the first good fetch."""
        return KeysLeft(self._document, self._good_at, self._due) if self.loaded else None

    async def inherit(self, left: KeysLeft) -> None:
        """Begin with the keys of another worker; they are as old as they were there. Before ``start``."""
        try:
            self.keys = await self._source.read(left.document)
        except FetchError:
            return
        self.loaded, self._document, self._good_at = True, left.document, left.good_at
        self.stale_at = left.good_at + self._max_stale
        # Not at the same moment as the other one, and not later.
        now = self._clock.monotonic()
        self._due = now + max(0.0, left.due - now) * (0.5 + 0.5 * self._jitter())
        self._reported = self.keys.rejected

    # --- what requests ask ---

    @property
    def ready(self) -> bool:
        """Whether there is no reason here to keep requests away from this gateway.

        The first keys have come. That a provider is away later says nothing about this gateway: all others have the
        same keys. A file is its own.
        """
        return self.usable() is None if self._own else self.loaded

    def usable(self) -> Reason | None:
        """Return why no token can be judged by these keys now; None when it can."""
        if not self.loaded:
            return Reasons.NO_KEYS
        return Reasons.STALE_KEYS if self._clock.monotonic() > self.stale_at else None

    def retry_after(self) -> int:
        """Return in how many whole seconds the next fetch begins, at least 1."""
        wait = self._due - self._clock.monotonic()
        return max(1, math.ceil(wait)) if self._running() is None and math.isfinite(wait) else 1

    async def wait_until_loaded(self) -> None:
        """Wait for the fetch that is running, if keys never came; return at once while backing off.

        All callers share that fetch; one that is cancelled does not cancel it.
        """
        if self.loaded:
            return
        await self._join_or_begin()

    async def refetch_for_unknown_key(self) -> bool:
        """Fetch because a token names a key that is not in the set (OIDC Core 1.0 section 10.1.1).

        A fetch that is already running is joined. Otherwise one is begun, but
        not within the cooldown since the last such fetch began: then the set
        stays as it is.

        Returns:
            Whether a fetch ended since the call, so that looking again may help.
        """
        flight = self._running()
        if flight is None:
            if self._stopping:
                return False
            if self._clock.monotonic() - self._unknown_key_at < self._cooldown:
                return False
            self.unknown_key_refetches += 1
            flight = self._begin(scheduled=False)
        self._unknown_key_at = self._flight_started
        await asyncio.wait({flight})
        return True

    def status(self) -> dict[str, Any]:
        """Return what ``/status`` shows of this issuer. Ages are seconds, None before the first good fetch."""
        now = self._clock.monotonic()
        reason = self.usable()
        return {
            "usable": reason is None,
            "reason": "" if reason is None else reason.code,
            "source": self._source.url,
            "key_ids": list(self.keys.kids),
            "keys": len(self.keys.keys),
            "rejected_keys": [
                {"index": rejected.index, "kid": rejected.kid, "problem": rejected.problem}
                for rejected in self.keys.rejected
            ],
            "age_seconds": round(now - self._good_at, 3) if self.loaded else None,
            "next_refresh_seconds": round(max(0.0, self._due - now), 3) if math.isfinite(self._due) else None,
            "last_error": self._last_error,
            "fetches": self.fetches,
            "failures": self.failures,
            "unknown_keys": self.unknown_key_refetches,
        }

    # --- the refresher ---

    async def _refresh(self) -> None:
        """Fetch if a fetch is due, and return when the next one is."""
        await self._join_or_begin()
        await self._sleep_until_due()

    def _refresh_failed(self, error: BaseException) -> None:
        # Nothing above is known to raise. If it does, keys must still be fetched, and not in a tight loop.
        self._failed("internal", type(error).__name__, scheduled=True)

    async def _join_or_begin(self) -> None:
        flight = self._running()
        if flight is None and self._clock.monotonic() >= self._due and not self._stopping:
            flight = self._begin(scheduled=True)
        if flight is not None:
            await asyncio.wait({flight})

    async def _sleep_until_due(self) -> None:
        """Sleep in a task of its own, which ``_schedule`` ends when the moment moves forward."""
        wait = self._due - self._clock.monotonic()
        if wait > 0:
            self._nap = spawn(self._clock.sleep(wait), f"jwks {self.name} nap")
            await asyncio.wait({self._nap})
            self._nap = None

    def _running(self) -> asyncio.Task[None] | None:
        """Return the fetch that has not ended."""
        return None if self._flight is None or self._flight.done() else self._flight

    def _begin(self, *, scheduled: bool) -> asyncio.Task[None]:
        """Start the one fetch of this issuer; it runs to its end even when all callers stop waiting for it."""
        self._flight_started = self._clock.monotonic()
        self._flight = spawn(self._fetch(scheduled=scheduled), f"jwks {self.name} fetch")
        return self._flight

    async def _fetch(self, *, scheduled: bool) -> None:
        """Fetch once and count the outcome; never raises but when cancelled."""
        wait, self._first_wait = self._first_wait, 0.0
        try:
            if wait:
                await self._clock.sleep(wait)
            fetched = await self._source.fetch(discover=scheduled)
            if not self._stopping:
                self._accept(fetched, scheduled=scheduled)
        except asyncio.CancelledError:
            if not self._stopping:
                self._failed("cancelled", "the fetch was cancelled", scheduled=scheduled)
            raise
        except FetchError as error:
            self._failed(error.code, str(error), scheduled=scheduled)
        except BaseException as error:
            # Whatever an answer can provoke (RecursionError, MemoryError, a fault of a library) is a failed fetch.
            self._failed("internal", type(error).__name__, scheduled=scheduled)
            if not survivable(error):
                raise
        finally:
            self.fetches += 1
            self._flight = None  # not only done: the next caller begins a fetch of its own

    def _accept(self, fetched: Fetched, *, scheduled: bool) -> None:
        if fetched.keys is None and not self.loaded:
            raise FetchError("protocol", "the server answered 304 Not Modified, but no keys were loaded before")
        if fetched.keys is not None:
            self.keys, self._document = fetched.keys, fetched.document
            self._report_rejected(fetched.keys.rejected)
        self.loaded = True
        self._good_at = self._clock.monotonic()
        self.stale_at = self._good_at + self._max_stale
        if failed := self._failed_before:
            _log.info(
                "issuer %s: key fetch succeeded after %d failure%s", self.name, failed, "" if failed == 1 else "s"
            )
        self._last_error = ""
        self._failures_in_a_row = self._failed_before = 0
        # Before the lifetime ends, at a moment of this gateway's own.
        lifetime = min(fetched.lifetime, self._max_stale)
        self._schedule(lifetime * (0.8 + 0.1 * self._jitter()), only_earlier=not scheduled)

    def _failed(self, code: str, message: str, *, scheduled: bool) -> None:
        """Count a failure, and back off. The keys stay: only ``stale_at`` ends them."""
        self.failures += 1
        self._failed_before += 1
        self._last_error = f"{code}: {message}"
        if scheduled:  # before the line: a log that fails must not make the next fetch follow at once
            step = min(LAST_RETRY, FIRST_RETRY * 2.0 ** min(self._failures_in_a_row, 10))
            self._failures_in_a_row += 1
            self._schedule(step * (0.5 + 0.5 * self._jitter()))
        _log.warning("issuer %s: key fetch failed: %s", self.name, self._last_error)

    def _schedule(self, wait: float, *, only_earlier: bool = False) -> None:
        """Set when the next scheduled fetch begins.

        A fetch that a request caused may bring it forward but never put it off:
        only scheduled fetches look for a changed ``jwks_uri``, and a flood of
        unknown ``kid`` values must not keep that from happening.
        """
        due = self._clock.monotonic() + wait
        if only_earlier and due >= self._due:
            return
        self._due = due
        if self._nap is not None:
            self._nap.cancel()

    def _report_rejected(self, rejected: tuple[RejectedKey, ...]) -> None:
        """Log the unusable keys, once for each change."""
        if rejected != self._reported:
            self._reported = rejected
            for key in rejected:
                _log.warning("issuer %s: key %d (kid %s): %s", self.name, key.index, key.kid or "none", key.problem)


async def _ended(task: asyncio.Task[None] | None) -> None:
    if task is not None:
        task.cancel()
        await asyncio.wait({task})
