"""The reasons for which introspection refuses a request."""

from __future__ import annotations

from gateway.errors import INVALID_TOKEN, TRY_AGAIN_LATER, UNAVAILABLE, Ending, Reason

INACTIVE_TOKEN = Reason("inactive_token", INVALID_TOKEN, "The access token is not active.")
INTROSPECTION_FAILED = Reason(
    "introspection_failed",
    UNAVAILABLE,
    ending=Ending("introspection_failed", TRY_AGAIN_LATER, b"token cannot be checked"),
)
INTROSPECTION_BUSY = Reason("introspection_busy", UNAVAILABLE)

#: All of them.
REASONS = (
    INACTIVE_TOKEN,
    INTROSPECTION_FAILED,
    INTROSPECTION_BUSY,
)
