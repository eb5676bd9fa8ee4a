"""What looks like abuse: found, logged, and refused for a while where the configuration says so.

Decides what is watched and what follows from a flag; the counting is ``features/abuse_watch/windows.py``'s. Two things
are watched. Refused credentials are counted by the address of the client, at the end of each request. Used credentials
are counted by the addresses that they are used from; this needs a check at each request and is therefore a guard.

The dangers: a log that an attacker can flood (so only few flags are logged in full, and the rest as a number), a log
that identifies people (so subjects and tokens appear as hashes only), and many good callers behind one bad address (so
no client is refused unless the configuration says so).
"""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Callable
from hashlib import sha256
from typing import Any

from gateway.clock import Clock
from gateway.errors import GatewayError, Reason, Reasons
from gateway.features.abuse_watch.options import FINDERS, Watch
from gateway.features.abuse_watch.reasons import WATCHED_ADDRESS, WATCHED_SUBJECT, WATCHED_TOKEN
from gateway.features.abuse_watch.windows import Bursts, Varieties
from gateway.http1.trusted_proxies import TrustedProxies
from gateway.identity import Identity
from gateway.policy.caller_names import Namer
from gateway.policy.routes import Route
from gateway.policy.token_bucket import Barred
from gateway.server.request.in_progress import Run
from gateway.server.request.request import Admitted
from gateway.server.seam.credential import Shown
from gateway.server.seam.guard import Guard, Now
from gateway.telemetry.counters import Record

_log = logging.getLogger("gateway.watch")

#: How many flags are logged in full, within how many seconds.
MAX_LOGGED_FLAGS, FLAG_LOG_SECONDS = 10, 60.0

#: The reason code of a key that does not exist, where API keys are a feature of the gateway.
_UNKNOWN_API_KEY = "unknown_api_key"

#: Bytes of the names of things that are only counted.
_SHORT = 8


class AbuseWatch(Guard):
    """The watch of one worker.

    Args:
        settings: the table ``[watch]``.
        clock: the time.

    Attributes:
        flags: how many flags were raised, by the option that raised them.
        barring: whether some address is refused; nearly always False, and cheap to read.
    """

    def __init__(self, settings: Watch, clock: Clock) -> None:
        self.flags: Counter[str] = Counter(dict.fromkeys(FINDERS, 0))
        self.barring = False
        self._settings = settings
        self._now = clock.monotonic
        self._window = settings.window_seconds
        self._namer = Namer("watch")
        self._exempt = TrustedProxies(settings.exempt)
        self._addresses, self._tokens, self._subjects = (Barred(settings.max_tracked) for _ in range(3))
        self._found_before = Barred(settings.max_tracked)
        self._log_budget = Bursts(MAX_LOGGED_FLAGS, FLAG_LOG_SECONDS, 1)
        self._suppressed = 0
        #: By reason code: the option, and what decides, given the log's detail, whether an address had too many.
        self._of_refusals: dict[str, tuple[str, Callable[[bytes, str, float], bool]]] = {}
        if settings.bad_signatures:
            self._of_refusals[Reasons.BAD_SIGNATURE.code] = "bad_signatures", self._bursts(settings.bad_signatures)
        if settings.unknown_api_keys:
            self._of_refusals[_UNKNOWN_API_KEY] = "unknown_api_keys", self._bursts(settings.unknown_api_keys)
        if settings.unknown_kids:
            kids = self._varieties(settings.unknown_kids)
            # The detail of this refusal says which kid it was.
            self._of_refusals[Reasons.UNKNOWN_KEY.code] = (
                "unknown_kids",
                lambda name, detail, now: kids.too_many(name, self._namer.thing(detail)[:_SHORT], now),
            )
        self.codes = frozenset(self._of_refusals)
        self._token_uses = self._varieties(settings.token_addresses) if settings.token_addresses else None
        self._subject_uses = self._varieties(settings.subject_addresses) if settings.subject_addresses else None

    def _bursts(self, limit: int) -> Callable[[bytes, str, float], bool]:
        bursts = Bursts(limit, self._window, self._settings.max_tracked)
        return lambda name, _, now: bursts.too_many(name, now)

    def _varieties(self, limit: int) -> Varieties:
        return Varieties(limit, self._window, self._settings.max_tracked)

    # --- addresses ---

    def finished(self, record: Record) -> None:
        """Count a finished request whose credential was refused, or would have been on a route that only observes."""
        self.refused_credential(record.client, record.reason or record.observed, record.detail)

    def refused_credential(self, client: str, code: str, detail: str) -> None:
        """Count a refusal, by its reason code and the log's detail."""
        found = self._of_refusals.get(code)
        if found is None or self._is_exempt(client):
            return
        option, too_many = found
        now, name = self._now(), self._namer.address(client)
        if too_many(name, detail, now):
            self._find(option, name, now, f"client={client}")
            self._bar(self._addresses, name, now)

    def bars(self, client: str) -> bool:
        """Return whether requests of a client's address are refused where a credential is looked at."""
        if not self.barring or self._is_exempt(client):
            return False
        now = self._now()
        barred = self._addresses.until(self._namer.address(client), now) is not None
        if not barred:
            self._addresses.tidy(now)
            self.barring = bool(self._addresses)
        return barred

    def demand_unbarred(self, client: str) -> None:
        """Refuse a client whose address is barred.

        Raises:
            GatewayError: 429.
        """
        if self.bars(client):
            self._refuse(WATCHED_ADDRESS, self._addresses, self._namer.address(client))

    # --- a guard, for tokens and subjects ---

    def covers(self, route: Route) -> bool:
        return route.auth != "public" and (self._token_uses is not None or self._subject_uses is not None)

    def after(self, run: Run, admitted: Admitted, shown: Shown | None, identity: Identity | None) -> Now:
        client = run.record.client
        if identity is None or shown is None or self._is_exempt(client):
            return None
        now, address = self._now(), self._namer.address(client)[:_SHORT]
        if self._token_uses is not None and identity.issuer_name:
            token_id = identity.token_id
            name = (
                self._namer.credential(shown.value)
                if token_id is None
                else self._namer.token_id(identity.issuer, token_id)
            )
            self._refuse(WATCHED_TOKEN, self._tokens, name)
            if self._token_uses.too_many(name, address, now):
                self._find("token_addresses", name, now, f"token_hash={name.hex()} {_who(identity)} client={client}")
                self._bar(self._tokens, name, now)
                self._refuse(WATCHED_TOKEN, self._tokens, name)
        if self._subject_uses is not None and identity.subject is not None:
            name = self._namer.subject(identity)
            self._refuse(WATCHED_SUBJECT, self._subjects, name)
            if self._subject_uses.too_many(name, address, now):
                self._find("subject_addresses", name, now, f"{_who(identity)} client={client}")
                self._bar(self._subjects, name, now)
                self._refuse(WATCHED_SUBJECT, self._subjects, name)
        return None

    # --- what follows from a flag ---

    def _is_exempt(self, client: str) -> bool:
        return client == "unknown" or self._exempt.believes(client.encode("ascii", "replace"))

    def _find(self, option: str, name: bytes, now: float, who: str) -> None:
        """Count and log a flag, once in a window."""
        key = option.encode("ascii") + name
        if self._found_before.until(key, now) is not None:
            return
        self._found_before.put(key, now + self._window, now)
        self.flags[option] += 1
        if self._log_budget.too_many(b"", now):
            self._suppressed += 1
            return
        settings = self._settings
        _log.warning(
            "abuse: kind=%s most=%d window_seconds=%g refuse_seconds=%g untold=%d %s",
            *(option, getattr(settings, option), self._window, settings.refuse_seconds, self._suppressed, who),
        )
        self._suppressed = 0

    def _bar(self, barred: Barred, name: bytes, now: float) -> None:
        if self._settings.refuse_seconds:
            barred.put(name, now + self._settings.refuse_seconds, now)
            self.barring = bool(self._addresses)

    def _refuse(self, reason: Reason, barred: Barred, name: bytes) -> None:
        """Refuse an address, token or subject that is barred.

        Raises:
            GatewayError: 429.
        """
        now = self._now()
        until = barred.until(name, now) if barred else None
        if until is not None:
            raise GatewayError(reason, retry_after=math.ceil(until - now))

    def status(self) -> dict[str, Any]:
        """Return what ``/status`` shows of the watch."""
        return {
            "flags": dict(self.flags),
            "refused": {
                "addresses": len(self._addresses),
                "tokens": len(self._tokens),
                "subjects": len(self._subjects),
            },
        }


def _who(identity: Identity) -> str:
    """Return the caller's issuer and hashed subject, as the access log writes them."""
    subject = "" if identity.subject is None else sha256(identity.subject.encode("utf-8", "replace")).hexdigest()[:16]
    return f"issuer={identity.issuer_name or '-'} subject_hash={subject or '-'}"
