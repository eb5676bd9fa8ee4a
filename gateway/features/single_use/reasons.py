"""The reasons for which a single-use token is refused."""

from __future__ import annotations

from gateway.errors import INVALID_TOKEN, Reason

NO_TOKEN_ID = Reason(
    "no_token_id", INVALID_TOKEN, "The access token needs an id (jti) and an expiry (exp) on this route."
)
REPLAYED_TOKEN = Reason("replayed_token", INVALID_TOKEN, "The access token was used before.")

#: All of them.
REASONS = (
    NO_TOKEN_ID,
    REPLAYED_TOKEN,
)
