"""What is known of one request: the value that is counted, logged and observed at its end.

It has no methods, and nothing in it may hold a token.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from gateway.identity import Identity


@dataclass(slots=True)
class Record:
    """What is known of one request; filled on its way, counted and logged once.

    Times are monotonic seconds. ``reason`` is the code of a refusal or failure
    and empty for a forwarded request; ``observed`` the code of the refusal
    that a route with ``observe = true`` let pass. ``tunnel_end`` says how a
    WebSocket ended; bytes are those of its frames.
    """

    started: float
    client: str = ""
    request_id: str = ""
    method: str = ""
    path: str = ""
    route: str = ""
    status: int = 0
    outcome: Literal["forwarded", "answered", "refused", "failed", "client_gone"] = "forwarded"
    reason: str = ""
    detail: str = ""
    observed: str = ""
    identity: Identity | None = None
    cache_hit: bool | None = None
    verify_seconds: float | None = None
    upstream: str = ""
    upstream_seconds: float | None = None
    bytes_in: int = 0
    bytes_out: int = 0
    tunnel_end: str = ""

    @property
    def refused_here(self) -> bool:
        """Whether the gateway refused the request, or could not do it, without asking an upstream."""
        return self.outcome == "refused" or (self.outcome == "failed" and self.upstream_seconds is None)
