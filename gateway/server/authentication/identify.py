"""Who the caller is, and whether it may use the route: the steps of a request between its route and its upstream.

Runs these steps in order, and decides what an observed route makes of their
refusals. The danger of this file is a way past one of them: a function that
names the caller without waiting does so only when no step is left.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from hashlib import sha256
from typing import Any

from gateway.clock import Clock
from gateway.errors import MISSING_TOKEN, GatewayError, Reasons
from gateway.identity import Identity
from gateway.policy.authorize import authorize
from gateway.server.authentication.credential_places import sent_as_dpop
from gateway.server.authentication.credentials import Credentials
from gateway.server.request.in_progress import Run
from gateway.server.request.in_use import InUse
from gateway.server.request.request import UNSETTLED, Admitted, Unsettled
from gateway.server.seam.credential import SOON, Outcome, Shown, Soon
from gateway.server.seam.guard import Guards


class Identification:
    """The steps, under one configuration.

    Args:
        credentials: finds the credential, and verifies it.
        guards: what some routes ask besides.
        clock: how long a verification takes.
    """

    def __init__(self, credentials: Credentials, guards: Guards, clock: Clock) -> None:
        self._credentials = credentials
        self._knowing = frozenset(name for name, kind in credentials.kinds.items() if kind.knows_revocations)
        self._guards = guards
        self._monotonic = clock.monotonic

    async def identify(self, run: Run, admitted: Admitted) -> Identity | None:
        """Return the caller, once the route and its guards have let it pass; None for an anonymous caller.

        Raises:
            GatewayError: 400, 401, 403, 429 or 503.
        """
        found = self.identify_now(run, admitted)
        return await found if isinstance(found, Coroutine) else found

    def identify_now(self, run: Run, admitted: Admitted) -> Identity | Coroutine[Any, Any, Identity | None] | None:
        """Return the same if nothing has to be waited for; otherwise what is to be awaited for it.

        Raises:
            GatewayError: as ``identify``, at once or when awaited.
        """
        if admitted.guarded:
            try:
                waiting = self._guards.before(run, admitted)
            except GatewayError as error:
                if not _is_only_observed(run, admitted, error):
                    raise
            else:
                if waiting is not None:
                    return self._after_waiting(waiting, run, admitted)
        elif (identity := self.known(run, admitted)) is not UNSETTLED:
            return identity
        return self._of_credential(run, admitted)

    def _of_credential(self, run: Run, admitted: Admitted) -> Identity | Coroutine[Any, Any, Identity | None] | None:
        shown = self.token(run, admitted)
        identity = None if shown is None else self.recognise(shown, run, admitted)
        if identity is UNSETTLED:
            assert shown is not None
            return self._after_verifying(shown, run, admitted)
        return self._of_caller(run, admitted, shown, identity)

    def _of_caller(
        self, run: Run, admitted: Admitted, shown: Shown | None, identity: Identity | None
    ) -> Identity | Coroutine[Any, Any, Identity | None] | None:
        if admitted.guarded:
            try:
                waiting = self._guards.after(run, admitted, shown, identity)
            except GatewayError as error:
                if not _is_only_observed(run, admitted, error):
                    raise
            else:
                if waiting is not None:
                    return self._after_guards(waiting, run, admitted, identity)
        return identity

    async def _after_waiting(self, waiting: Awaitable[None], run: Run, admitted: Admitted) -> Identity | None:
        await _heard(waiting, run, admitted)
        found = self._of_credential(run, admitted)
        return await found if isinstance(found, Coroutine) else found

    async def _after_verifying(self, shown: Shown, run: Run, admitted: Admitted) -> Identity | None:
        identity = await self.verify(shown, run, admitted)
        found = self._of_caller(run, admitted, shown, identity)
        return await found if isinstance(found, Coroutine) else found

    async def _after_guards(
        self, waiting: Awaitable[None], run: Run, admitted: Admitted, identity: Identity | None
    ) -> Identity | None:
        await _heard(waiting, run, admitted)
        return identity

    def token(self, run: Run, admitted: Admitted) -> Shown | None:
        """Return the request's one credential; None when none is asked for, or it has none and may have none.

        Raises:
            GatewayError: 400 or 401.
        """
        auth = admitted.route.auth
        if auth == "public":
            return None
        try:
            return self._credentials.find(admitted, admitted.target.query or b"")
        except GatewayError as error:
            if auth == "optional" and error.reason.kind is MISSING_TOKEN:
                return None
            if not self.lets_pass(run, admitted, error):
                raise
            return None

    def known(self, run: Run, admitted: Admitted) -> Identity | Unsettled | None:
        """Return the same as ``token`` and ``recognise`` for a bearer token that was verified before.

        ``UNSETTLED`` for everything else, of which nothing is noted then: take those steps. That is most requests; a
        token that is remembered was read and verified, so its form is not looked at again.

        Raises:
            GatewayError: 403.
        """
        values, query = run.head.authorization, admitted.target.query
        recall = self._credentials.of(admitted.route).recall
        if recall is None or len(values) != 1 or admitted.websocket or not values[0].startswith(b"Bearer "):
            return UNSETTLED
        if query and (b"access" in query or b"%" in query):  # there may be a second token
            return UNSETTLED
        now, revocations = self._monotonic(), self._credentials.revocations
        if now >= revocations.settled_until or now >= revocations.known_until:
            return UNSETTLED
        identity = recall(sha256(values[0][7:]).digest())
        if identity is None or identity.confirmation is not None:
            return UNSETTLED
        run.record.identity, run.record.cache_hit = identity, True
        try:
            authorize(admitted.route, identity)
        except GatewayError as error:
            if not self.lets_pass(run, admitted, error):
                raise
            return None
        return identity

    def recognise(self, shown: Shown, run: Run, admitted: Admitted) -> Identity | Unsettled | None:
        """Return the identity that the credential proves, without waiting; None when an observed route lets it pass.

        Raises:
            GatewayError: 401, 403 or 503.
        """
        found = self.recognise_soon(shown, run, admitted, None)
        assert found is not SOON, "no callback was given"
        return found

    def recognise_soon(
        self, shown: Shown, run: Run, admitted: Admitted, soon: Callable[[Outcome], None] | None
    ) -> Identity | Unsettled | Soon | None:
        """Return the same as ``recognise``, or that it will be known soon.

        Args:
            soon: see ``Verifier.lookup``; it hands the outcome to ``learned``.

        Raises:
            GatewayError: 401, 403 or 503.
        """
        revocations = self._credentials.revocations
        if self._monotonic() >= revocations.settled_until and revocations.outdated:
            return UNSETTLED
        try:
            found = self._credentials.lookup(shown, admitted.route, run.record, soon)
            if found is SOON:
                return found
            return self._judged(found, shown, run, admitted)
        except GatewayError as error:
            if not self.lets_pass(run, admitted, error):
                raise
            return None

    def learned(
        self, identity: Identity | None, shown: Shown, run: Run, admitted: Admitted
    ) -> Identity | Unsettled | None:
        """Return what ``recognise`` would, from what is known by now of who shows the credential.

        Raises:
            GatewayError: 401, 403 or 503.
        """
        try:
            return self._judged(identity, shown, run, admitted)
        except GatewayError as error:
            if not self.lets_pass(run, admitted, error):
                raise
            return None

    def _judged(self, identity: Identity | None, shown: Shown, run: Run, admitted: Admitted) -> Identity | Unsettled:
        """Return a caller who may, of whom nothing more is to be proved.

        Raises:
            GatewayError: 401, 403 or 503.
        """
        if identity is None or identity.confirmation is not None:
            return UNSETTLED
        if shown.scheme == "DPoP":
            _refuse_unbound(shown, identity)
        run.record.identity = identity
        if identity.credential not in self._knowing or self._monotonic() >= self._credentials.revocations.known_until:
            self._demand_not_revoked(admitted, identity)
        authorize(admitted.route, identity)
        return identity

    async def verify(self, shown: Shown, run: Run, admitted: Admitted) -> Identity | None:
        """Return the identity that the credential proves, waiting for its issuer.

        Raises:
            GatewayError: 401, 403 or 503.
        """
        began = self._monotonic()
        revocations, known = self._credentials.revocations, None
        try:
            if began >= revocations.settled_until and revocations.outdated:
                await revocations.catch_up()
                found = self._credentials.lookup(shown, admitted.route, run.record)
                known = None if found is SOON else found
            identity = known or await self._credentials.resolve(shown, admitted.route)
            _refuse_unbound(shown, identity)
            if identity.confirmation is not None:
                await self._confirm(run, admitted, shown, identity)
            run.record.identity = identity
            self._demand_not_revoked(admitted, identity)
            authorize(admitted.route, identity)
        except GatewayError as error:
            if not self.lets_pass(run, admitted, error):
                raise
            return None
        finally:
            run.record.verify_seconds = self._monotonic() - began
        return identity

    def in_use(self, admitted: Admitted) -> InUse:
        """Return what the verdict on the request's credential, which was good, rests on from now on.

        Raises:
            GatewayError: it is no longer good.
        """
        try:
            return self._credentials.in_use(self._credentials.find(admitted, b""), admitted.route)
        except GatewayError as error:
            _name_scheme(admitted, error)
            raise

    async def _confirm(self, run: Run, admitted: Admitted, shown: Shown, identity: Identity) -> None:
        """Have the sender of a bound credential prove that it is theirs.

        Raises:
            GatewayError: it is not, or nothing here can tell: unproved, it would pass for a plain bearer token.
        """
        if not await self._guards.confirm(run, admitted, shown, identity):
            raise GatewayError(Reasons.SENDER_CONSTRAINED, detail="nothing here checks what a token is bound to")

    def _demand_not_revoked(self, admitted: Admitted, identity: Identity) -> None:
        """Ask what is revoked, and while that is not known, what the route says.

        Raises:
            GatewayError: 401 or 503.
        """
        revocations = self._credentials.revocations
        if identity.credential not in self._knowing:
            revocations.demand(identity)
        if self._monotonic() >= revocations.known_until:
            revocations.demand_known(closed=admitted.route.settings.revocation_failure == "closed")

    def lets_pass(self, run: Run, admitted: Admitted, error: GatewayError) -> bool:
        """Note that a credential is refused; return whether the request goes on all the same."""
        if admitted.guarded:
            self._guards.refused(run, admitted, error)
        return _is_only_observed(run, admitted, error)


async def _heard(waiting: Awaitable[None], run: Run, admitted: Admitted) -> None:
    """Wait for what guards say."""
    try:
        await waiting
    except GatewayError as error:
        if not _is_only_observed(run, admitted, error):
            raise


def _refuse_unbound(shown: Shown, identity: Identity) -> None:
    """Refuse a token that came under the scheme ``DPoP`` and is bound to no key (RFC 9449 section 7.1).

    Raises:
        GatewayError: ``UNBOUND_TOKEN``.
    """
    if shown.scheme == "DPoP" and (identity.confirmation is None or not identity.confirmation.jwk_thumbprint):
        raise GatewayError(Reasons.UNBOUND_TOKEN, detail="the scheme is DPoP, but the token is not bound to a key")


def _name_scheme(admitted: Admitted, error: GatewayError) -> None:
    """Say in a refusal which of the route's schemes for tokens the error is about."""
    schemes = admitted.route.token_schemes
    if error.reason.kind is not MISSING_TOKEN and not error.scheme:
        about_dpop = sent_as_dpop(admitted.head.authorization) or "Bearer" not in schemes
        error.scheme = "DPoP" if about_dpop else "Bearer"


def _is_only_observed(run: Run, admitted: Admitted, error: GatewayError) -> bool:
    """Note a refusal, and return whether the route only observes refusals."""
    if not admitted.route.observe:
        _name_scheme(admitted, error)
        return False
    run.record.observed = error.reason.code
    run.record.detail = error.detail
    return True
