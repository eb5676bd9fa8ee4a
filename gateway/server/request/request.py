"""One request, as the steps of its path see it.

This file has declarations only: what is known of a request once its target is
sound and a route serves it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final

from gateway.http1.request_head import RequestHead
from gateway.http1.target import Target
from gateway.policy.routes import Route
from gateway.server.request.endpoint import Endpoint


class Unsettled(Enum):
    """The answer of a step that would have to wait."""

    UNSETTLED = "unsettled"


UNSETTLED = Unsettled.UNSETTLED


@dataclass(slots=True)
class Admitted:
    """A request that may go on to its credential: its target is sound and a route serves it.

    It does not change: its types say so, which costs nothing.

    Attributes:
        head: the request's.
        preflight: a browser asks whether a page may send a request that this route would serve.
        websocket: it asks for a WebSocket, and the route offers that.
        guarded: the route asks more than a good credential that may, or the client is refused (``seam/guard.py``).
        overridden: a token that was verified as a JWT elsewhere may be for another kind to judge on this route.
        forwards_left: how often an OPTIONS request may still be forwarded; None for any number.
        endpoint: what answers it instead of an upstream.
    """

    route: Final[Route]
    target: Final[Target]
    host: Final[str]
    head: Final[RequestHead]
    preflight: Final[bool] = False
    websocket: Final[bool] = False
    endpoint: Final[Endpoint | None] = None
    guarded: Final[bool] = False
    overridden: Final[bool] = False
    forwards_left: Final[int | None] = None
