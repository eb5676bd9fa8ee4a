"""Token buckets that gateways and their workers share through Redis.

Exchanges with Redis: one script checks all buckets of a request and takes one
request out of each, or out of none. The time is that of Redis, so differences
between the gateways' clocks do not matter. What a bucket is, and what its state
means, is ``policy/token_bucket.py``'s.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from gateway.store import names
from gateway.store.answers import OddAnswerError, count, items, number
from gateway.store.redis_link import RedisLink, odd_reply

# Numbers go to Redis and come back as text, in seconds.
_ROUNDING = 1e-3

# Each key holds the moment at which its bucket will be full, in microseconds of Redis' clock, and is gone by then.
# Arguments: for each key its interval and its tolerance, in microseconds. Answer: for each key whether it lets the
# request through, and the microseconds until it is full.
_TAKE = f"""
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local full_at, fits, passes = {{}}, {{}}, true
for i, key in ipairs(KEYS) do
  local value = redis.call('GET', key)
  local moment = tonumber(value or '0')
  -- None is ever further ahead than its tolerance and one interval.
  if value and not (string.find(value, '^%d+%.?%d*$') and moment <= now + ARGV[2 * i] + ARGV[2 * i - 1]) then
    {odd_reply("the bucket of a rate limit")}
  end
  full_at[i] = math.max(moment, now)
  fits[i] = full_at[i] <= now + ARGV[2 * i] and 1 or 0
  passes = passes and fits[i] == 1
end
local answer = {{}}
for i, key in ipairs(KEYS) do
  if passes then
    full_at[i] = full_at[i] + ARGV[2 * i - 1]
    local left = math.max(1, math.ceil((full_at[i] - now) / 1000))
    redis.call('SET', key, string.format('%.3f', full_at[i]), 'PX', string.format('%.0f', left))
  end
  answer[2 * i - 1] = fits[i]
  answer[2 * i] = string.format('%.0f', full_at[i] - now)
end
return answer
"""


class SharedBuckets:
    """The buckets of several limits that are asked together.

    Args:
        link: to Redis.
        limits: for each limit its interval and its tolerance, in seconds.
    """

    def __init__(self, link: RedisLink, limits: Sequence[tuple[float, float]]) -> None:
        self._link = link
        self._max_ahead = [sum(limit) + _ROUNDING for limit in limits]
        self._arguments = [f"{seconds * 1e6:.3f}" for limit in limits for seconds in limit]

    async def take(self, callers: Sequence[bytes]) -> list[tuple[bool, float]]:
        """Take one request out of the bucket of this name of each limit if all let it through, or out of none.

        Args:
            callers: names of the buckets, no two the same; what is in them came from the gateway, never from a client.

        Returns:
            For each bucket whether it lets the request through, and the seconds until it is full.

        Raises:
            StoreUnavailableError: Redis is unavailable, or did not answer in time. It may have taken the request all
                the same.
        """
        keys = [names.bucket(caller) for caller in callers]
        read = partial(_taken, max_ahead=self._max_ahead)
        taken: list[tuple[bool, float]] = await self._link.evaluate(_TAKE, keys, self._arguments, read)
        return taken


def _taken(answer: Any, max_ahead: Sequence[float]) -> list[tuple[bool, float]]:
    """Read what the script says of each bucket."""
    parts = items(answer, 2 * len(max_ahead))
    found = [(count(fits), number(ahead) / 1e6) for fits, ahead in zip(parts[::2], parts[1::2], strict=True)]
    for (fits, ahead), limit in zip(found, max_ahead, strict=True):
        if fits > 1 or ahead > limit:
            raise OddAnswerError
    return [(fits == 1, ahead) for fits, ahead in found]
