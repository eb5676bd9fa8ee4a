"""The reasons for which abuse detection refuses a request."""

from __future__ import annotations

from gateway.errors import TOO_MANY_REQUESTS, Reason

WATCHED_ADDRESS = Reason("watched_address", TOO_MANY_REQUESTS)
WATCHED_TOKEN = Reason("watched_token", TOO_MANY_REQUESTS)
WATCHED_SUBJECT = Reason("watched_subject", TOO_MANY_REQUESTS)

#: All of them.
REASONS = (
    WATCHED_ADDRESS,
    WATCHED_TOKEN,
    WATCHED_SUBJECT,
)
