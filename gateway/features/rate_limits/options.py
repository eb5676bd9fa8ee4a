"""The options that bound how many requests one caller may send.

Declares them, checks single values, and derives what follows from one limit
alone. Checks that need a second option are ``checks.py``'s.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, BeforeValidator, Field

from gateway.settings.tables.base import FeatureOptions, Section

#: What requests may be counted by, besides claims.
SUBJECT, API_KEY, ADDRESS = "sub", "api_key", "address"

#: What stands in front of the name of a claim to count by.
CLAIM = "claim:"


def counted_by(text: str) -> str:
    """Check what a limit counts requests by."""
    if text in (SUBJECT, API_KEY, ADDRESS) or (text.startswith(CLAIM) and text != CLAIM):
        return text
    raise ValueError('must be "sub", "api_key", "address", or "claim:" and the name of a claim')


def _one_or_several(value: Any) -> Any:
    """Take one table for a list of one."""
    if isinstance(value, dict | Section):
        return [value]
    if not isinstance(value, list):
        raise ValueError("must be a table or a list of tables")
    return value


class RateLimit(Section):
    """So many requests in so much time, for each of those that they are counted by."""

    requests: Annotated[int, Field(ge=1, le=1_000_000_000, examples=[100])]
    """How many requests are let through in `seconds`."""
    seconds: Annotated[float, Field(ge=0.001, le=31_622_400)] = 1
    """The time for which `requests` are meant."""
    by: Annotated[str, AfterValidator(counted_by)] = SUBJECT
    """Whose requests are counted together: `"sub"` (issuer and subject; the owner of an API key), `"api_key"`,
    `"address"` (the client's, before its credential is looked at), or `"claim:tenant"` for any top-level claim."""
    burst: Annotated[int, Field(ge=0, le=1_000_000_000)] = 0
    """How many requests may come at once after a pause. 0 = a tenth of `requests`, at least one."""


#: One table, or several.
RateLimitList = Annotated[
    list[RateLimit], BeforeValidator(_one_or_several, json_schema_input_type=RateLimit | list[RateLimit])
]


class Limits(Section):
    """What all rate limits share. The limits themselves are a route's `rate_limit`."""

    note = """\
What limits count, what clients see, and what is shared through Redis: [rate-limits.md](rate-limits.md).
"""

    max_callers: Annotated[int, Field(ge=100, le=10_000_000)] = 50_000
    """Callers whose requests each worker counts at one time, per limit: about 250 bytes each. Above, the least recently
    seen are forgotten, and new ones start without a burst."""


class LimitTables(FeatureOptions):
    """The table ``[limits]`` of the whole configuration."""

    after: ClassVar[str] = "tokens"

    limits: Limits = Limits()


class LimitRouteOptions(FeatureOptions):
    """What rate limits add to ``[[routes]]``."""

    after: ClassVar[str] = "end_at_expiry"

    rate_limit: RateLimitList = []
    """How many requests each caller may send: one table, such as `{ requests = 100, seconds = 1, by = "sub" }`, or a
    list of several, which all must let a request through. More: 429. Empty: no limit."""


def burst_of(limit: RateLimit) -> int:
    """Return how many requests may come at once."""
    return limit.burst or max(1, math.ceil(limit.requests / 10))


def claims_of_limits(limits: Iterable[RateLimit]) -> frozenset[str]:
    """Return the top-level claims that limits count by."""
    return frozenset(limit.by.removeprefix(CLAIM) for limit in limits if limit.by.startswith(CLAIM))
