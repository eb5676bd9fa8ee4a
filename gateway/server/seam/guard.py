"""What some routes ask beyond a good credential that may: the guards, and which of them covers which route.

This file says what a guard is, and has their order; each guard belongs to a
feature. What a guard decides changes from one request to the next, so it is
asked each time and nothing of it is remembered.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence

from gateway.errors import GatewayError
from gateway.identity import Identity
from gateway.policy.routes import Route
from gateway.server.request.in_progress import Run
from gateway.server.request.request import Admitted
from gateway.server.seam.credential import Shown
from gateway.server.seam.observer import Observer
from gateway.settings.feature_faults import Hook

#: None: decided without waiting; otherwise what is to be awaited.
Now = Awaitable[None] | None


class Guard:
    """Something that may refuse a request for another reason than its credential and the route's rules.

    It may wait, but never without a limit. Fields for whatever answer its client gets go into ``Run.answer_fields``.
    """

    def covers(self, route: Route) -> bool:
        """Return whether it has anything to say about requests of a route; asked once."""
        return False

    def before(self, run: Run, admitted: Admitted) -> Now:
        """Look at a request before its credential.

        Raises:
            GatewayError: the refusal, at once or when awaited.
        """
        return None

    async def confirm(self, run: Run, admitted: Admitted, shown: Shown, identity: Identity) -> bool:
        """Look at a good credential that is bound to its sender, on any route, before the route's rules.

        Returns:
            The sender has proved to have all that it is bound to; False: this guard cannot tell.

        Raises:
            GatewayError: the sender does not have what it is bound to.
        """
        return False

    def after(self, run: Run, admitted: Admitted, shown: Shown | None, identity: Identity | None) -> Now:
        """Look at a request whose caller is known and may pass.

        Args:
            shown: the credential; None without one.
            identity: the caller's; None for an anonymous caller, or where the route only observes that it is refused.

        Raises:
            GatewayError: the refusal, at once or when awaited.
        """
        return None

    def refused(self, run: Run, admitted: Admitted, error: GatewayError) -> None:
        """Note that the request's credential was refused, also where the route only observes."""


class Guards:
    """All guards of a gateway.

    Args:
        guards: in the order in which they are asked, each with the name of its feature.
        routes: those that can be asked for.
        observer: may refuse client addresses; that is for every route that looks at credentials.
    """

    def __init__(self, guards: Iterable[tuple[str, Guard]], routes: Iterable[Route], observer: Observer) -> None:
        self._observer = observer
        given = tuple(guards)
        self._all = tuple(guard for _, guard in given)
        self._confirming = tuple(guard for guard in self._all if type(guard).confirm is not Guard.confirm)
        covering = ((route, tuple(guard for name, guard in given if _covers(name, guard, route))) for route in routes)
        self._of = {route: found for route, found in covering if found}

    def covered(self, route: Route) -> bool:
        """Return whether some guard covers a route."""
        return route in self._of

    def of(self, route: Route) -> tuple[Guard, ...]:
        """Return those that cover a route."""
        return self._of.get(route, ())

    def before(self, run: Run, admitted: Admitted) -> Now:
        """Ask them before the credential is looked at.

        Raises:
            GatewayError: the first refusal, at once or when awaited.
        """
        if self._observer.barring and admitted.route.auth != "public":
            self._observer.demand_unbarred(run.record.client)
        return _ask_all(self.of(admitted.route), lambda guard: guard.before(run, admitted))

    async def confirm(self, run: Run, admitted: Admitted, shown: Shown, identity: Identity) -> bool:
        """Ask all whether the sender of a bound credential has what it is bound to; return whether one has seen it.

        Raises:
            GatewayError: it has not.
        """
        confirmed = False
        for guard in self._confirming:
            if await guard.confirm(run, admitted, shown, identity):
                confirmed = True
        return confirmed

    def after(self, run: Run, admitted: Admitted, shown: Shown | None, identity: Identity | None) -> Now:
        """Ask them about a caller who may pass.

        Raises:
            GatewayError: the first refusal, at once or when awaited.
        """
        return _ask_all(self.of(admitted.route), lambda guard: guard.after(run, admitted, shown, identity))

    def refused(self, run: Run, admitted: Admitted, error: GatewayError) -> None:
        """Let them note that a credential was refused."""
        for guard in self.of(admitted.route):
            guard.refused(run, admitted, error)


def _covers(name: str, guard: Guard, route: Route) -> bool:
    with Hook(name, "covers"):
        return guard.covers(route)


def _ask_all(guards: Sequence[Guard], ask: Callable[[Guard], Now]) -> Now:
    """Ask guards in their order, as far as none has to be waited for; what is returned asks the rest."""
    for number, guard in enumerate(guards, 1):
        if (waiting := ask(guard)) is not None:
            return _ask_rest(waiting, guards[number:], ask)
    return None


async def _ask_rest(waiting: Awaitable[None], guards: Sequence[Guard], ask: Callable[[Guard], Now]) -> None:
    await waiting
    if (more := _ask_all(guards, ask)) is not None:
        await more
