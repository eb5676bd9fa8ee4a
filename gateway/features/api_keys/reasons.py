"""The reasons for which API keys refuse a request."""

from __future__ import annotations

from gateway.errors import INVALID_REQUEST, INVALID_TOKEN, POLICY_VIOLATION, UNAVAILABLE, Ending, Reason

MALFORMED_API_KEY = Reason("malformed_api_key", INVALID_REQUEST)
API_KEY_TOO_LONG = Reason("api_key_too_long", INVALID_TOKEN, "The API key is not valid here.")
UNKNOWN_API_KEY = Reason(
    "unknown_api_key",
    INVALID_TOKEN,
    "The API key is not valid here.",
    ending=Ending("withdrawn", POLICY_VIOLATION, b"API key withdrawn"),
)
EXPIRED_API_KEY = Reason(
    "expired_api_key",
    INVALID_TOKEN,
    "The API key expired.",
    ending=Ending("expired", POLICY_VIOLATION, b"API key expired"),
)
NO_API_KEYS = Reason("no_api_keys", UNAVAILABLE)

#: All of them.
REASONS = (
    MALFORMED_API_KEY,
    API_KEY_TOO_LONG,
    UNKNOWN_API_KEY,
    EXPIRED_API_KEY,
    NO_API_KEYS,
)
