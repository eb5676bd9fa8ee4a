"""Public paths that a feature answers itself, without a credential and without an upstream.

This file has the core's side; what one endpoint is, is
``request/endpoint.py``'s.
"""

from __future__ import annotations

from typing import Protocol

from gateway.server.request.endpoint import Endpoint


class Endpoints(Protocol):
    """All endpoints of a feature."""

    def find(self, host: str, path: str) -> Endpoint | None:
        """Return the endpoint at a path.

        Args:
            host: canonical host of the request; empty when it has none.
            path: the rules' reading of the path (``Target.match_path``).
        """
        ...
