"""Public paths that a feature answers itself, without a credential and without an upstream.

Only the core's side lives here. An endpoint has a route of its own, so that
logs, metrics and the rules for pages of other origins treat it as one.
"""

from __future__ import annotations

from typing import Protocol

from gateway.policy.routes import Route
from gateway.server.request.error_answers import Answer


class Endpoint(Protocol):
    """One path, or several that are answered alike."""

    @property
    def route(self) -> Route:
        """Stands for it in logs and metrics; public, and no upstream is ever asked."""
        ...

    def answer(self, method: str) -> Answer:
        """Answer a request for it, but for the fields that the core adds; a preflight is answered by the core.

        Raises:
            GatewayError: the refusal.
        """
        ...


class Endpoints(Protocol):
    """All endpoints of a feature."""

    def find(self, host: str, path: str) -> Endpoint | None:
        """Return the endpoint at a path.

        Args:
            host: canonical host of the request; empty when it has none.
            path: the rules' reading of the path (``Target.match_path``).
        """
        ...
