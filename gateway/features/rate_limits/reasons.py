"""The reasons for which rate limits refuse a request."""

from __future__ import annotations

from gateway.errors import TOO_MANY_REQUESTS, Reason

RATE_LIMITED = Reason("rate_limited", TOO_MANY_REQUESTS)

#: All of them.
REASONS = (RATE_LIMITED,)
