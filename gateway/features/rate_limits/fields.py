"""The headers that describe a route's limits to clients: RateLimit-Policy, RateLimit and Retry-After.

Makes their values (draft-ietf-httpapi-ratelimit-headers-11; RFC 9651 for the
syntax; RFC 9110 section 10.2.3). Every value is a number of the gateway's or a
name from the configuration. Nothing of a request is in them, and no partition
key, which would distinguish callers.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from functools import lru_cache
from urllib.parse import quote

from gateway.policy.token_bucket import Level, Limit

POLICY, LIMIT = b"RateLimit-Policy", b"RateLimit"

# What a String may hold as it is (RFC 9651 section 3.3.3), but "%", which stands for what it may not.
_AS_IT_IS = "".join(chr(code) for code in range(0x20, 0x7F) if chr(code) not in '"\\%')


def policy_field(limits: Sequence[Limit]) -> tuple[bytes, bytes]:
    """Return the field that describes limits, the same in every response (section 3)."""
    return POLICY, b", ".join(map(_policy, limits))


def limit_field(limits: Sequence[Limit], levels: Iterable[Level]) -> tuple[bytes, bytes]:
    """Return the field that says what is left (section 4).

    ``r`` is what would be let through at once now, ``t`` the whole seconds, rounded up, until it is one more.
    """
    items = (
        b"%b;r=%d;t=%d" % (name(limit), level.left, whole_seconds(level.wait))
        for limit, level in zip(limits, levels, strict=True)
    )
    return LIMIT, b", ".join(items)


def retry_after(levels: Iterable[Level]) -> int:
    """Return the whole seconds after which a refused request may be sent again: never less than any ``t`` (section 6).

    Only the buckets that refused count; another one may refuse the next request.
    """
    return max((whole_seconds(level.wait) for level in levels if not level.fits), default=1)


def whole_seconds(seconds: float) -> int:
    """Return a time as it is sent to clients: rounded up, at least one second."""
    return max(1, math.ceil(seconds))


@lru_cache(maxsize=1024)  # of a configuration's limits, which are few
def name(limit: Limit) -> bytes:
    """Return a limit's name as a String (RFC 9651 section 3.3.3)."""
    return b'"%b"' % quote(limit.name, safe=_AS_IT_IS).encode("ascii")


def _policy(limit: Limit) -> bytes:
    item = b"%b;q=%d" % (name(limit), limit.requests)
    # A window is whole seconds, or is left out (section 3.1.3).
    return item + b";w=%d" % limit.seconds if limit.seconds == int(limit.seconds) else item
