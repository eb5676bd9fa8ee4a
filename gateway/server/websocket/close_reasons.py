"""Why the gateway itself ends a WebSocket, and what it then says to both sides.

Lists these reasons, with the causes that logs and metrics show.
"""

from __future__ import annotations

from gateway.errors import Ending
from gateway.http1.websocket import GOING_AWAY, MESSAGE_TOO_BIG, PROTOCOL_ERROR

DRAINED = Ending("drained", GOING_AWAY, b"the gateway is stopping")
TOO_LARGE = Ending("too_large", MESSAGE_TOO_BIG, b"message too large")
BAD_FRAME = Ending("bad_frame", PROTOCOL_ERROR, b"control frame too large")
