"""The log of revocations that gateways share in Redis: written, read page by page, and swept.

Only what is in Redis lives here; what a record means to a token is
``tokens/revocation_table.py``'s. The log is one sorted set: a member is a
record of fixed size, its score the number of the write. So whoever knows up to
which number it has read asks for the rest, be it everything or one record, and
what was written while it was away cannot be missed. A write tells everybody at
once, in the same script, over a channel. Nothing that came from outside is in
Redis, only digests of it (R131). The danger is a value there that makes no
sense, by accident or by somebody's hand: it must neither be taken for a number
nor be written on, so scripts and readers both refuse it, and the log counts as
unavailable until it is gone.
"""

from __future__ import annotations

import secrets
from struct import Struct
from typing import Any, NamedTuple

from gateway.store.answers import OddAnswerError, count, done_or_not, items, number, text
from gateway.store.names import KEY_PREFIX
from gateway.store.redis_link import RedisLink, odd_reply

#: A record: kind, digest, end in minutes since the epoch, and the moment before which tokens are revoked, in seconds.
RECORD = Struct(">B15sId")

#: Most records of one write and of one page: a few milliseconds of the server's time and of ours.
MOST_RECORDS = 2000

# One slot of a cluster, so that scripts may use all of them.
_NAME = KEY_PREFIX + "{revocation}"
_LOG, _EPOCH, _HEAD, _SWEPT = (f"{_NAME}:{part}" for part in ("log", "epoch", "head", "swept"))
_RESTORING = f"{_NAME}:restoring"
_KEYS = (_LOG, _EPOCH, _HEAD, _SWEPT)

#: How long one worker at most has the task to write back what Redis has lost, in milliseconds.
_RESTORE_MILLISECONDS = 30_000

# No record names so late a moment, in seconds since the epoch.
_LATEST = 1e15

#: How many hexadecimal digits an epoch has.
_EPOCH_DIGITS = 16

# What stands in Redis and is none of what this module writes.
_ODD = odd_reply("the log of revocations")

_ADD = f"""
local epoch, number = redis.call('GET', KEYS[2]), redis.call('GET', KEYS[3]) or '0'
if #number > 15 or not string.find(number, '^%d+$') or (epoch and #epoch ~= {_EPOCH_DIGITS}) then {_ODD} end
if not epoch then
  epoch = ARGV[1]
  redis.call('SET', KEYS[2], epoch)
end
local first = tonumber(number)
local head, added = first, {{}}
for at = 1, #ARGV[2], {RECORD.size} do
  local record = string.sub(ARGV[2], at, at + {RECORD.size - 1})
  if redis.call('ZADD', KEYS[1], 'NX', string.format('%.0f', head + 1), record) == 1 then
    head = head + 1
    added[#added + 1] = record
  end
end
if head > first then
  local text = string.format('%.0f', head)
  redis.call('SET', KEYS[3], text)
  redis.call('PUBLISH', ARGV[3], string.format('%s %.0f %s ', epoch, first, text) .. table.concat(added))
end
return head - first
"""

_PAGE = f"""
local rows = redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. ARGV[1], '+inf', 'LIMIT', 0, ARGV[2])
for _, record in ipairs(rows) do
  if #record ~= {RECORD.size} then {_ODD} end
end
local last = #rows > 0 and redis.call('ZSCORE', KEYS[1], rows[#rows]) or ARGV[1]
return {{redis.call('GET', KEYS[2]), redis.call('GET', KEYS[3]), last, table.concat(rows)}}
"""

_SWEEP = """
local now = tonumber(redis.call('TIME')[1])
local after = redis.call('GET', KEYS[4]) or '0'
if not string.find(after, '^%d+$') then after = '0' end
local rows = redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. after, '+inf', 'WITHSCORES', 'LIMIT', 0, ARGV[1])
local removed, last = 0, '0'
for at = 1, #rows, 2 do
  if struct.unpack('>I4', rows[at], 17) * 60 <= now then
    removed = removed + redis.call('ZREM', KEYS[1], rows[at])
  end
  last = rows[at + 1]
end
redis.call('SET', KEYS[4], last)
return removed
"""


class Page(NamedTuple):
    """Some records of the log.

    Attributes:
        epoch: names this log; another one, or none, means that the server has lost what it had.
        head: the number of the last write.
        last: the number of the last record here; what was asked for when there is none.
        records: one after the other.
    """

    epoch: bytes
    head: int
    last: int
    records: bytes


class Told(NamedTuple):
    """A write, as the channel tells it.

    Attributes:
        epoch: of the log.
        first: the number of the write before.
        head: its own number.
        records: one after the other.
    """

    epoch: bytes
    first: int
    head: int
    records: bytes


def told(message: bytes) -> Told | None:
    """Return what a message of the channel says; None when it is none of ours."""
    parts = message.split(b" ", 3)
    if len(parts) != 4 or not (parts[1].isdigit() and parts[2].isdigit()):
        return None
    if not _sound(parts[3]):
        return None
    return Told(parts[0], int(parts[1]), int(parts[2]), parts[3])


class RevocationLog:
    """The log, over one link. Every method raises ``StoreUnavailableError`` when Redis does not do it in time.

    Attributes:
        channel: where each write is told. Channels are common to all databases of a server, logs are not.
    """

    def __init__(self, link: RedisLink) -> None:
        self._link = link
        self.channel = f"{_NAME}:{link.database}"

    async def add(self, records: bytes) -> int:
        """Write and tell records, at most ``MOST_RECORDS``; return how many were not there already."""
        added: int = await self._link.evaluate(_ADD, _KEYS, [secrets.token_hex(8), records, self.channel], count)
        return added

    async def page(self, after: int) -> Page:
        """Return the records that were written after a number, the oldest first, at most ``MOST_RECORDS``."""
        page: Page = await self._link.evaluate(_PAGE, _KEYS, [after, MOST_RECORDS], _page)
        return page

    async def state(self) -> tuple[bytes, int]:
        """Return the epoch and the number of the last write."""
        state: tuple[bytes, int] = await self._link.command("MGET", _EPOCH, _HEAD, read=_state)
        return state

    async def size(self) -> int:
        """Return how many records there are."""
        size: int = await self._link.command("ZCARD", _LOG, read=count)
        return size

    async def server(self) -> bytes:
        """Return what names the server process: another one may have lost the last writes."""
        name: bytes = await self._link.command("INFO", "server", read=_server)
        return name

    async def sweep(self) -> int:
        """Remove what has ended from the next part of the log; return how many records that were."""
        removed: int = await self._link.evaluate(_SWEEP, _KEYS, [MOST_RECORDS // 4], count)
        return removed

    async def may_restore(self) -> bool:
        """Say whether this worker is the one that writes back what Redis has lost, for the next seconds."""
        mine: bool = await self._link.command(
            "SET", _RESTORING, "1", "NX", "PX", _RESTORE_MILLISECONDS, read=done_or_not
        )
        return mine


# --- what Redis answers, read ---


def _page(answer: Any) -> Page:
    epoch, head, last, records = items(answer, 4)
    if not _sound(text(records)):
        raise OddAnswerError
    return Page(_epoch(epoch), _head(head), number(last), records)


def _sound(records: bytes) -> bool:
    """Tell whether these are records, and all of them say something: nothing is issued before NaN."""
    return not len(records) % RECORD.size and all(0 <= one[3] < _LATEST for one in RECORD.iter_unpack(records))


def _state(answer: Any) -> tuple[bytes, int]:
    epoch, head = items(answer, 2)
    return _epoch(epoch), _head(head)


def _epoch(answer: Any) -> bytes:
    """Read an epoch; empty for none."""
    if answer is None:
        return b""
    if len(text(answer)) != _EPOCH_DIGITS or not answer.isalnum():
        raise OddAnswerError
    return bytes(answer)


def _head(answer: Any) -> int:
    """Read the number of the last write; 0 for none."""
    return 0 if answer is None else number(answer)


def _server(answer: Any) -> bytes:
    return next(line for line in text(answer).split(b"\r\n") if line.startswith(b"run_id:"))
