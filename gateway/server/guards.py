"""What some routes ask beyond a good credential that may: the guards, and which of them watches which route.

Only what a guard is, and their order, live here; each guard is a file of its
own. A route that some guard covers is served by the long way in both lanes:
what a guard decides changes from one request to the next, so nothing of it is
remembered.
"""

from __future__ import annotations

from collections.abc import Awaitable, Iterable
from typing import Protocol

from gateway.errors import GatewayError
from gateway.identity import Identity
from gateway.policy.routes import Route
from gateway.server.request import Admitted
from gateway.server.run import Run


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
    """

    def __init__(self, guards: Iterable[Guard], routes: Iterable[Route]) -> None:
        listed = tuple(guards)
        covering = ((route, tuple(guard for guard in listed if guard.covers(route))) for route in routes)
        self._of = {route: found for route, found in covering if found}

    def of(self, route: Route) -> tuple[Guard, ...]:
        """Return those that cover a route."""
        return self._of.get(route, ())

    async def before(self, run: Run, admitted: Admitted) -> None:
        """Ask them before the credential is looked at.

        Raises:
            GatewayError: the first refusal.
        """
        for guard in self.of(admitted.route):
            if (waiting := guard.before(run, admitted)) is not None:
                await waiting

    async def after(self, run: Run, admitted: Admitted, shown: bytes | None, identity: Identity | None) -> None:
        """Ask them about a caller who may pass.

        Raises:
            GatewayError: the first refusal.
        """
        for guard in self.of(admitted.route):
            if (waiting := guard.after(run, admitted, shown, identity)) is not None:
                await waiting

    def refused(self, run: Run, admitted: Admitted, error: GatewayError) -> None:
        """Tell them that a credential was refused."""
        for guard in self.of(admitted.route):
            guard.refused(run, admitted, error)
