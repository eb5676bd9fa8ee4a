"""What some routes ask beyond a good credential that may: the guards, and which of them watches which route.

Only what a guard is, and their order, live here; each guard is a file of its
own. A route that some guard covers is served by the long way in both lanes:
what a guard decides changes from one request to the next, so nothing of it is
remembered.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Protocol

from gateway.errors import GatewayError
from gateway.features.abuse_watch.watch import AbuseWatch
from gateway.identity import Identity
from gateway.policy.routes import Route
from gateway.server.request.in_progress import Run
from gateway.server.request.request import Admitted


class Guard(Protocol):
    """Something that may refuse a request for another reason than its credential and the route's rules.

    It may wait, but never without a limit. What it has to tell the client with any answer goes into
    ``Run.answer_fields``.
    """

    def covers(self, route: Route) -> bool:
        """Return whether it has anything to say about requests of a route; asked once."""
        ...

    def before(self, run: Run, admitted: Admitted) -> Awaitable[None] | None:
        """Look at a request before its credential; None when there is nothing to wait for.

        Raises:
            GatewayError: the refusal, at once or when awaited.
        """
        ...

    def after(
        self, run: Run, admitted: Admitted, shown: bytes | None, identity: Identity | None
    ) -> Awaitable[None] | None:
        """Look at a request whose caller is known and may pass; None when there is nothing to wait for.

        Args:
            shown: the credential; None without one.
            identity: who shows it; None for nobody in particular, or where the route only observes that it is refused.

        Raises:
            GatewayError: the refusal, at once or when awaited.
        """
        ...

    def refused(self, run: Run, admitted: Admitted, error: GatewayError) -> None:
        """Hear that the request's credential was refused, also where the route only observes."""
        ...


class Guards:
    """All guards of a gateway.

    Args:
        guards: in the order in which they are asked.
        routes: those that can be asked for.
        watch: knows whose address is refused; that is for every route that looks at credentials.
    """

    def __init__(self, guards: Iterable[Guard], routes: Iterable[Route], watch: AbuseWatch) -> None:
        self.watch = watch
        listed = tuple(guards)
        covering = ((route, tuple(guard for guard in listed if guard.covers(route))) for route in routes)
        self._of = {route: found for route, found in covering if found}

    def covered(self, route: Route) -> bool:
        """Return whether some guard covers a route."""
        return route in self._of

    def of(self, route: Route) -> tuple[Guard, ...]:
        """Return those that cover a route."""
        return self._of.get(route, ())

    def watch_over(self, route: Route, client: str) -> bool:
        """Return whether a request has to be asked about: its route is covered, or its client's address refused."""
        return route in self._of or (self.watch.barring and route.auth != "public" and self.watch.bars(client))

    def before(self, run: Run, admitted: Admitted) -> Awaitable[None] | None:
        """Ask them before the credential is looked at; None when there is nothing to wait for.

        Raises:
            GatewayError: the first refusal, at once or when awaited.
        """
        if self.watch.barring and admitted.route.auth != "public":
            self.watch.refuse(run.record.client)
        return _ask_all(self.of(admitted.route), lambda guard: guard.before(run, admitted))

    def after(
        self, run: Run, admitted: Admitted, shown: bytes | None, identity: Identity | None
    ) -> Awaitable[None] | None:
        """Ask them about a caller who may pass; None when there is nothing to wait for.

        Raises:
            GatewayError: the first refusal, at once or when awaited.
        """
        return _ask_all(self.of(admitted.route), lambda guard: guard.after(run, admitted, shown, identity))

    def refused(self, run: Run, admitted: Admitted, error: GatewayError) -> None:
        """Tell them that a credential was refused."""
        for guard in self.of(admitted.route):
            guard.refused(run, admitted, error)


def _ask_all(guards: Sequence[Guard], ask: Callable[[Guard], Awaitable[None] | None]) -> Awaitable[None] | None:
    """Ask guards in their order, as far as none has to be waited for; what is returned asks the rest."""
    for number, guard in enumerate(guards, 1):
        if (waiting := ask(guard)) is not None:
            return _ask_rest(waiting, guards[number:], ask)
    return None


async def _ask_rest(
    waiting: Awaitable[None], guards: Sequence[Guard], ask: Callable[[Guard], Awaitable[None] | None]
) -> None:
    await waiting
    if (more := _ask_all(guards, ask)) is not None:
        await more
