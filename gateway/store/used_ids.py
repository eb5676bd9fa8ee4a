"""What was used once, kept in Redis for all workers and gateways, and since when Redis remembers it.

This file has the exchange: one script that looks an id up, writes it, and says since when everything is known. What
follows from that is for ``store/one_time_ids.py``. The dangers: a server that has lost ids and does not know it (so
the mark "remembers since" is in the same value as the ids: they are evicted, flushed and copied together, and a mark
that another server process has written counts for nothing, since that process may be a replica which came late), and
clocks (so every moment here is compared with Redis' own clock).

The value is one sorted set. A member of ``DIGEST_BYTES`` bytes is an id, its
score the millisecond until which it is kept. Three more members have scores
below zero: ``server:`` with the server's ``run_id`` (since when it remembers),
``ahead`` and ``window``; see ``UsedIds``.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from gateway.store import names
from gateway.store.answers import OddAnswerError, text
from gateway.store.redis_link import RedisLink

#: What is remembered of an id, in bytes: enough that two ids with the same cannot be found.
DIGEST_BYTES = 16

#: The most by which the clocks of Redis and of a gateway may differ, in seconds: for so much longer an id is kept.
CLOCK_MARGIN = 120.0

#: From the mark on, every id is undecided for this long: an asker that has used some says meanwhile what "ahead" was.
_SETTLING_MILLISECONDS = 1000

#: Ids that are removed at one look after their time.
_SWEPT = 1000

# Arguments: what the asker knows of "ahead", and its window; with an id also its digest, earliest, the end before the
# window, and whether it passes undecided.
_SCRIPT = f"""
local key, digest = KEYS[1], ARGV[3]
local known_ahead, own_window = tonumber(ARGV[1]), tonumber(ARGV[2])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local info = redis.pcall('INFO', 'server')
local server = 'server:' .. (type(info) == 'string' and string.match(info, 'run_id:(%x+)') or '')
local function get(name)
  return 0 - tonumber(redis.call('ZSCORE', key, name) or '0')
end
local function set(name, number)
  redis.call('ZADD', key, string.format('%.0f', -number), name)
end
local since, ahead, window = get(server), get('ahead'), get('window')
-- In this millisecond ids may have been used and lost. That nothing was lost cannot be seen from an empty store.
local from_now_on = now + 1
if since == 0 then
  for _, member in ipairs(redis.call('ZRANGEBYSCORE', key, '-inf', '(0')) do
    if string.sub(member, 1, 7) == 'server:' then redis.call('ZREM', key, member) end
  end
  since = from_now_on
  set(server, since)
end
if known_ahead > ahead then
  ahead = known_ahead
  set('ahead', ahead)
end
if own_window > window then
  if window > 0 then
    since = math.max(since, from_now_on)
    set(server, since)
  end
  window = own_window
  set('window', window)
end
local function answer(what)
  return string.format('%s %.0f %.0f %.0f', what, since, ahead, window)
end
if not digest then
  local ended = redis.call('ZRANGEBYSCORE', key, '(0', now, 'LIMIT', 0, {_SWEPT})
  if #ended > 0 then
    redis.call('ZREM', key, unpack(ended))
  end
  return answer('looked')
end
local earliest, last = tonumber(ARGV[4]), tonumber(ARGV[5]) + window
if redis.call('ZSCORE', key, digest) or redis.call('EXISTS', KEYS[2]) == 1 then
  return answer('used')
end
local decided = earliest >= since + ahead and last > now and now >= since + {_SETTLING_MILLISECONDS}
if not decided and ARGV[6] == '0' then
  return answer('undecided')
end
local text = string.format('%.0f', last)
redis.call('SET', KEYS[2], '1', 'PX', string.format('%.0f', math.max(1, last - now)))
redis.call('ZADD', key, text, digest)
if earliest - now > ahead then
  ahead = earliest - now
  set('ahead', ahead)
end
return answer(decided and 'new' or 'passed')
"""

#: What the script says of an id.
NEW, USED, UNDECIDED, PASSED = b"new", b"used", b"undecided", b"passed"
_ANSWER = re.compile(rb"(new|used|undecided|passed|looked) (\d{1,15}) (\d{1,15}) (\d{1,15})")


class UsedIds:
    """The used ids of one purpose.

    Args:
        link: to Redis.
        purpose: tells these ids from others.
        window: seconds for which each id is kept behind its own end. Redis keeps the greatest that any gateway has
            asked for; when it grows, ids may have been forgotten that now had to be kept, so it remembers since then.

    Attributes:
        since: the moment since which Redis remembers every id, in milliseconds of its own clock; None before the
            first answer.
        ahead: how far the ``earliest`` of some used id was ahead of Redis' clock at most, in milliseconds. After a loss
            an id is known to be unused only when its ``earliest`` is so much behind ``since``.
        window: in milliseconds, as Redis keeps it.
    """

    def __init__(self, link: RedisLink, purpose: str, window: float = 0.0) -> None:
        self.since: int | None = None
        self.ahead = 0
        self.window = round(window * 1000)
        self._link = link
        self._purpose = purpose
        self._name = names.used_ids(purpose)
        self._own_window = self.window

    async def look(self) -> None:
        """Ask since when Redis remembers, and remove some ids whose time is over.

        Raises:
            StoreUnavailableError: Redis did not do it.
        """
        await self._ask([self._name], [])

    async def use(self, digest: bytes, earliest: float, until: float, *, undecided_passes: bool) -> bytes:
        """Use an id up, and return ``NEW``, ``USED``, ``UNDECIDED`` or, instead of that, ``PASSED``.

        Of any number of callers at a time, one gets ``NEW``.

        Args:
            digest: stands for the id.
            earliest: seconds since the epoch before which it cannot have been used.
            until: seconds since the epoch after which no gateway accepts it, but for the window.
            undecided_passes: use it up although it may have been used before ``since``.

        Raises:
            StoreUnavailableError: Redis did not do it in time. It may have done it all the same.
        """
        arguments: list[str | bytes] = [digest, _milliseconds(earliest), _milliseconds(until)]
        keys = [self._name, names.used_id(self._purpose, digest)]
        return await self._ask(keys, [*arguments, "1" if undecided_passes else "0"])

    async def _ask(self, keys: list[str], arguments: list[str | bytes]) -> bytes:
        state: list[str | bytes] = [str(self.ahead), str(self._own_window)]
        answer: _Answer = await self._link.evaluate(_SCRIPT, keys, [*state, *arguments], _read)
        outcome, since, ahead, window = answer
        self.since, self.ahead, self.window = since, max(self.ahead, ahead), window
        return outcome


class _Answer(NamedTuple):
    outcome: bytes
    since: int
    ahead: int
    window: int


def _read(answer: object) -> _Answer:
    """Read an answer of the script."""
    # One string: redis-py takes its time for each element of a list.
    if (found := _ANSWER.fullmatch(text(answer))) is None:
        raise OddAnswerError
    return _Answer(found[1], int(found[2]), int(found[3]), int(found[4]))


def _milliseconds(moment: float) -> str:
    """Return a moment as the script takes it; what lies before the epoch is long over in any case."""
    return f"{max(0.0, moment) * 1000:.0f}"
