"""What answers a request instead of an upstream.

This file has the declaration. An endpoint has a route of its own, so that logs,
metrics and the rules for pages of other origins treat it as one.
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
