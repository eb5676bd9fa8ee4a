"""Introspection of the opaque tokens of one issuer: verdicts are requested from its server and cached for a while.

Orders the steps: the cache, the answers that gateways share, the introspection request. There are four dangers:

- many requests about one token: so all that wait for it share one, and none of them ends it by leaving;
- a flood of made-up tokens: see ``budget.py``;
- a failure taken for an answer: so only answers are remembered, and a failure is 503;
- a token that is used after it was revoked: so no verdict is older than the configuration allows, and the tokens of
  long responses and WebSockets are introspected again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from hashlib import sha256
from typing import Any

from aiohttp.abc import AbstractResolver

from gateway.clock import Clock
from gateway.errors import GatewayError, Reason, Reasons
from gateway.features.introspection.answer import judge
from gateway.features.introspection.budget import Gate
from gateway.features.introspection.client import IntrospectionClient
from gateway.features.introspection.options import IssuerOptions
from gateway.features.introspection.reasons import INACTIVE_TOKEN, INTROSPECTION_BUSY, INTROSPECTION_FAILED
from gateway.features.introspection.shared_answers import SharedAnswers
from gateway.features.introspection.verdict_cache import Verdict, VerdictMemory
from gateway.features.introspection.verdict_in_use import HeldVerdict
from gateway.identity import Identity
from gateway.jwt.claims.issuer_policy import IssuerPolicy
from gateway.jwt.jose.compact import unforeseen
from gateway.outbound.http import FetchError
from gateway.server.seam.credential import Shown
from gateway.settings.tables.issuers import Issuer, issuer_values
from gateway.tasks import cancelled, spawn
from gateway.telemetry.counters import Histogram, Record

_log = logging.getLogger("gateway.introspection")

#: Seconds between two log lines about introspection requests that fail.
_LOG_SECONDS = 10.0


class Introspector:
    """The opaque tokens of one issuer.

    Args:
        issuer: its settings, with an ``introspection_url``.
        policy: what its tokens must say.
        max_bytes: longer tokens are refused unread.
        clock: the time.
        shared: the answers that other workers and gateways got; None to share none.
        resolver: looks up the server's host; None for the system's.

    Attributes:
        name: the issuer's configured name.
        memory: the cached verdicts.
        gate: the bounds on introspection requests.
        shared: as given.
        policy, clock: as given.
        limit: how many requests may run at a time.
        lookups: tokens looked up.
        outcomes: requests that ended, by outcome: ``active``, ``inactive``, the code of a reason or of a failure.
        duration: how long they took.
        last_error: the error of the last request, if it failed; else empty.
    """

    def __init__(
        self,
        issuer: Issuer,
        policy: IssuerPolicy,
        max_bytes: int,
        clock: Clock,
        shared: SharedAnswers | None = None,
        resolver: AbstractResolver | None = None,
    ) -> None:
        self.name = issuer.name
        options = IssuerOptions.of(issuer)
        self.memory = VerdictMemory(options.introspection_cache_size, policy.leeway, clock)
        self.limit = options.introspection_max_concurrent
        slots = self.limit + options.introspection_max_waiting
        self.gate = Gate(slots, options.introspection_max_inactive_per_second, clock)
        self.shared = shared
        self.lookups = 0
        self.outcomes: Counter[str] = Counter()
        self.duration = Histogram()
        self.last_error = ""
        self._url = options.introspection_url
        self._issuer = issuer_values(issuer)[0]
        self.policy = policy
        self._max_bytes = max_bytes
        self._timeout = options.introspection_timeout_seconds
        self._good_seconds = options.introspection_cache_seconds
        self._bad_seconds = options.introspection_inactive_cache_seconds
        self.clock = clock
        self._wall, self._monotonic = clock.wall, clock.monotonic
        self._client = IntrospectionClient(issuer, clock, resolver)
        self._turns = asyncio.Semaphore(self.limit)
        self._flights: dict[bytes, asyncio.Task[Verdict | None]] = {}
        self._sharing: set[asyncio.Task[None]] = set()
        self._logged_at = float("-inf")

    @property
    def in_flight(self) -> int:
        """Introspection requests in progress."""
        return min(self.gate.taken, self.limit)

    @property
    def waiting(self) -> int:
        """Introspection requests that wait for a slot."""
        return self.gate.taken - self.in_flight

    async def stop(self) -> None:
        """End every introspection request, and close the connections."""
        for task in (*self._flights.values(), *self._sharing):
            await cancelled(task)
        await self._client.close()

    # --- for requests ---

    def lookup(self, shown: Shown, record: Record) -> Identity | None:
        """Return the identity of a token if its verdict is cached; else begin introspection and return None.

        After None call ``resolve``.

        Raises:
            GatewayError: the refusal; ``INTROSPECTION_BUSY`` for lack of a slot or budget.
        """
        identity = self.known(shown.value)
        record.cache_hit = identity is not None
        return identity

    async def resolve(self, shown: Shown) -> Identity:
        """Return the identity of a token, waiting for the answer.

        Raises:
            GatewayError: the refusal; ``INTROSPECTION_FAILED`` when there was no answer.
        """
        return await self.identify(shown.value)

    def in_use(self, shown: Shown) -> HeldVerdict:
        """Return the verdict on a token that was good a moment ago, so that it can be checked again later.

        Raises:
            GatewayError: the verdict was dropped, or the token is no longer good.
        """
        return self.hold(shown.value)

    def known(self, token: bytes) -> Identity | None:
        """Return the identity of a token if its verdict is cached; else begin introspection and return None.

        After None call ``identify``.

        Raises:
            GatewayError: the refusal; ``INTROSPECTION_BUSY`` for lack of a slot or budget.
        """
        self.lookups += 1
        # Checked first: nothing of such a token is read or remembered.
        if len(token) > self._max_bytes:
            raise GatewayError(Reasons.TOKEN_TOO_LONG, detail=f"more than {self._max_bytes} bytes")
        digest = sha256(token).digest()
        verdict = self.memory.find(digest)
        if verdict is not None:
            return _identity(verdict)
        if digest not in self._flights:
            if not token.isascii() or not token.decode("ascii").isprintable():
                raise GatewayError(Reasons.BAD_ENCODING)
            _ = self._begin(token, digest)
        return None

    def turns_away(self, token: bytes) -> bool:
        """Return whether ``known`` would raise ``INTROSPECTION_BUSY`` for a printable token, and count it then.

        Refuses the tokens of a flood like ``known``, but at less cost.
        """
        gate = self.gate
        if (self._monotonic() >= gate.closed_until and not gate.closed()) or len(token) > self._max_bytes:
            return False
        digest = sha256(token).digest()
        if digest in self._flights or digest in self.memory:
            return False
        self.lookups += 1
        gate.refusals += 1
        return True

    async def identify(self, token: bytes) -> Identity:
        """Return the identity of a token, waiting for the answer. A caller that stops waiting does not end the request.

        Raises:
            GatewayError: the refusal; ``INTROSPECTION_FAILED`` when there was no answer. No other exception but
                cancellation.
        """
        digest = sha256(token).digest()
        verdict = self.memory.find(digest)
        if verdict is None:
            flight = self._flights.get(digest) or self._begin(token, digest)
            await asyncio.wait({flight})
            verdict = None if flight.cancelled() else flight.result()
            if verdict is None:
                raise GatewayError(INTROSPECTION_FAILED, detail=f"issuer {self.name}")
        return _identity(verdict)

    def hold(self, token: bytes) -> HeldVerdict:
        """Return the verdict on a token that was good a moment ago, so that it can be checked again later.

        Raises:
            GatewayError: the verdict was dropped, or the token is no longer good.
        """
        digest = sha256(token).digest()
        verdict = self.memory.last(digest)
        if verdict is None:
            raise GatewayError(INTROSPECTION_FAILED, detail="the cached answer was dropped")
        return HeldVerdict(self, token, digest, verdict, _identity(verdict))

    def ask_again(self, token: bytes, digest: bytes) -> asyncio.Task[Verdict | None] | None:
        """Return the introspection of a token that was good, begun now or before; None for lack of a slot."""
        flight = self._flights.get(digest)
        if flight is None:
            with contextlib.suppress(GatewayError):
                flight = self._begin(token, digest, known=True)
        return flight

    # --- one introspection request ---

    def _begin(self, token: bytes, digest: bytes, *, known: bool = False) -> asyncio.Task[Verdict | None]:
        known = known or self.memory.was_good(digest)
        if not self.gate.enter(known=known):
            raise GatewayError(INTROSPECTION_BUSY, detail=f"issuer {self.name}")
        flight = spawn(self._flight(token, digest, known=known), f"introspection {self.name}", awaited=True)
        self._flights[digest] = flight
        return flight

    async def _flight(self, token: bytes, digest: bytes, *, known: bool) -> Verdict | None:
        """Return the verdict on a token; None when there is no answer."""
        began = self._monotonic()
        verdict: Verdict | None = None
        outcome = "cancelled"
        try:
            async with asyncio.timeout(self._timeout), self._turns:
                verdict = await self._find_out(token, digest)
            outcome = "active" if verdict.reason is None else _outcome(verdict.reason)
            self.memory.put(digest, verdict)
            self.last_error = ""
        except TimeoutError:
            verdict, outcome = None, self._failed("timeout", f"no answer within {self._timeout:g} s")
        except FetchError as error:
            verdict, outcome = None, self._failed(error.code, str(error))
        except Exception as error:
            # An exception that an answer causes is a failure. Its text may quote the token.
            verdict, outcome = None, self._failed("internal", type(error).__name__)
        finally:
            self.outcomes[outcome] += 1
            self.duration.observe(self._monotonic() - began)
            self.gate.leave(known=known, good=verdict is not None and verdict.identity is not None)
            self._flights.pop(digest, None)
        return verdict

    async def _find_out(self, token: bytes, digest: bytes) -> Verdict:
        if self.shared is None:
            return self._judged(await self._client.ask(token))
        credential = await self._client.authentication.credential()
        found = await self.shared.find(digest, credential)
        if found is not None:
            # The gateway that got it may use answers for longer than is allowed here.
            verdict = self._judged(found.answer, found.seconds, found.age)
            if verdict.fresh_until > self._monotonic():
                return verdict
        answer = await self._client.ask(token)
        verdict = self._judged(answer)
        seconds = verdict.fresh_until - self._monotonic()
        if verdict.identity is not None:
            seconds = min(seconds, verdict.identity.expires_at - self._wall())
        # In a task: callers that wait for the verdict do not also wait for Redis.
        sharing = spawn(self.shared.put(digest, credential, answer, seconds), f"introspection {self.name} sharing")
        self._sharing.add(sharing)
        sharing.add_done_callback(self._sharing.discard)
        return verdict

    def _judged(self, answer: dict[str, Any], max_seconds: float = float("inf"), age: float = 0.0) -> Verdict:
        """Return the verdict that follows from an answer of this age, to be used for at most ``max_seconds``."""
        now = self._monotonic()
        lives = (min(seconds - age, max_seconds) for seconds in (self._good_seconds, self._bad_seconds))
        good_until, bad_until = (now + life for life in lives)
        try:
            identity = judge(answer, self.policy, self._issuer, self._wall())
        except GatewayError as error:
            return Verdict(None, error.reason, error.detail, bad_until)
        except Exception as error:
            refusal = unforeseen(error)
            return Verdict(None, refusal.reason, refusal.detail, bad_until)
        return Verdict(identity, None, "", good_until)

    def _failed(self, code: str, message: str) -> str:
        """Note an introspection request without an answer; return the outcome to count."""
        self.last_error = f"{code}: {message}"
        now = self._monotonic()
        if now - self._logged_at >= _LOG_SECONDS:
            self._logged_at = now
            _log.warning("issuer %s: introspection request failed: %s", self.name, self.last_error)
        return "status" if code.startswith("status_") else code

    def status(self) -> dict[str, Any]:
        """Return what ``/status`` shows."""
        memory = self.memory
        return {
            "url": self._url,
            "outcomes": dict(self.outcomes),
            "in_flight": self.in_flight,
            "waiting": self.waiting,
            "refused_busy": self.gate.refusals,
            "remembered": len(memory),
            "bytes": memory.bytes_used,
            "hits": memory.hits,
            "bad_hits": memory.bad_hits,
            "last_error": self.last_error,
        }


def _identity(verdict: Verdict) -> Identity:
    if verdict.identity is None:
        raise GatewayError(verdict.reason or INACTIVE_TOKEN, detail=verdict.detail)
    return verdict.identity


def _outcome(reason: Reason) -> str:
    return "inactive" if reason is INACTIVE_TOKEN else "refused"
