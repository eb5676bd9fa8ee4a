"""The log of revocations that gateways share in Redis: written, read page by page, and swept.

Defines what is in Redis; what a record means to a token is ``jwt/revocations/table.py``'s. The log is one sorted set: a
member is a record of fixed size, its score the number of the write. A reader knows the number up to which it has read
and asks for the rest, be it everything or one record: so it cannot miss what was written while it was disconnected. In
the same script a write is published on a channel. Redis holds only digests of values from outside (R131).

The first danger is a value in Redis that makes no sense, written by accident or by hand. It must neither be taken for a
number nor be built upon: so scripts and readers both refuse it, and the log counts as unavailable until it is removed.

The second danger is a server that has lost a part of the log unnoticed: evicted, flushed, restarted, a replica that
lagged behind. So a mark among the records names the epoch and the server process; it is there from the first read on,
when there may be no records yet. A script that finds that records, mark, epoch and the number of the last write do not
belong together begins another epoch. Then each worker reads the whole log anew and writes back what it lacks.
"""

from __future__ import annotations

import secrets
from typing import Any, NamedTuple

from gateway.jwt.revocations.table import MAX_RECORDS, RECORD
from gateway.store.answers import OddAnswerError, count, done_or_not, items, number, text
from gateway.store.names import KEY_PREFIX
from gateway.store.redis_link import RedisLink, odd_reply

# One slot of a cluster, so that scripts may use all of them.
_NAME = KEY_PREFIX + "{revocation}"
_LOG, _EPOCH, _HEAD, _SWEPT = (f"{_NAME}:{part}" for part in ("log", "epoch", "head", "swept"))
_RESTORING = f"{_NAME}:restoring"
_KEYS = (_LOG, _EPOCH, _HEAD, _SWEPT)

#: How long one worker keeps the task to write back what Redis has lost, after it last wrote, in milliseconds. If it
#: ends meanwhile, the others wait no longer than this.
_RESTORE_MILLISECONDS = 300

# Records name earlier moments only, in seconds since the epoch.
_MAX_MOMENT = 1e15

#: How many hexadecimal digits an epoch has.
_EPOCH_DIGITS = 16

# The answer of a script that finds in Redis what this module does not write.
_ODD = odd_reply("the log of revocations")

# The first argument of every script is the name of the next epoch, in case one has to begin. The mark is a member of
# the log below every number, so readers never get it; gateways of version 0.1.0 skip it, and share the log.
_BEGIN = f"""
local log, epoch, head = KEYS[1], redis.call('GET', KEYS[2]), redis.call('GET', KEYS[3])
local function odd(number)
  return number and (#number > 15 or not string.find(number, '^%d+$'))
end
local newest = redis.call('ZREVRANGE', log, 0, 0, 'WITHSCORES')[2]
if odd(head) or odd(newest) then {_ODD} end
if epoch and (#epoch ~= {_EPOCH_DIGITS} or not string.find(epoch, '^%w+$')) then {_ODD} end
local info = redis.pcall('INFO', 'replication')
if type(info) == 'string' and string.find(info, 'role:slave', 1, true) then
  return redis.error_reply('READONLY it is not known how old a replica is')
end
info = redis.pcall('INFO', 'server')
local server = type(info) == 'string' and string.match(info, 'run_id:(%x+)') or ''
local function begin()
  epoch, head = ARGV[1], string.format('%.0f', math.max(tonumber(head or '0'), tonumber(newest or '0')))
  redis.call('ZREMRANGEBYSCORE', log, '-inf', 0)
  redis.call('ZADD', log, 0, 'mark:' .. epoch .. ':' .. server)
  redis.call('SET', KEYS[2], epoch)
  redis.call('SET', KEYS[3], head)
end
local function whole()
  local marks = redis.call('ZRANGEBYSCORE', log, '-inf', 0)
  if not epoch or not head or #marks ~= 1 or tonumber(head) < tonumber(newest) then return false end
  local named = 'mark:' .. epoch .. ':'
  return string.sub(marks[1], 1, #named) == named and (server == '' or marks[1] == named .. server)
end
if not whole() then begin() end
"""

_ADD = f"""{_BEGIN}
local first, added = tonumber(head), {{}}
local last = first
for at = 1, #ARGV[2], {RECORD.size} do
  local record = string.sub(ARGV[2], at, at + {RECORD.size - 1})
  if redis.call('ZADD', log, 'NX', string.format('%.0f', last + 1), record) == 1 then
    last = last + 1
    added[#added + 1] = record
  end
end
if last > first then
  local text = string.format('%.0f', last)
  redis.call('SET', KEYS[3], text)
  redis.call('PUBLISH', ARGV[3], string.format('%s %.0f %s ', epoch, first, text) .. table.concat(added))
end
if ARGV[4] then redis.call('SET', KEYS[5], '1', 'PX', ARGV[4]) end
return {{epoch, last - first}}
"""

_PAGE = f"""{_BEGIN}
local rows = redis.call('ZRANGEBYSCORE', log, '(' .. ARGV[2], '+inf', 'LIMIT', 0, ARGV[3])
for _, record in ipairs(rows) do
  if #record ~= {RECORD.size} then {_ODD} end
end
local last = #rows > 0 and redis.call('ZSCORE', log, rows[#rows]) or ARGV[2]
return {{epoch, head, last, table.concat(rows)}}
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


_MAY_RESTORE = "return redis.call('SET', KEYS[1], '1', 'NX', 'PX', ARGV[1])"
_RESTORED = "return redis.call('DEL', KEYS[1])"


class LogPage(NamedTuple):
    """Some records of the log.

    Attributes:
        epoch: names this log. Another one means that the server may have lost some of it.
        head: the number of the last write.
        last: the number of the last record here; without records, the number that was asked for.
        records: one after the other.
    """

    epoch: bytes
    head: int
    last: int
    records: bytes


class Written(NamedTuple):
    """The result of a write.

    Attributes:
        epoch: of the log that the records are in.
        added: how many records were new.
    """

    epoch: bytes
    added: int


class Message(NamedTuple):
    """A write, as the channel announces it.

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


def read_message(message: bytes) -> Message | None:
    """Return what a message of the channel says; None when it is not one of ours."""
    parts = message.split(b" ", 3)
    if len(parts) != 4 or not (parts[1].isdigit() and parts[2].isdigit()):
        return None
    if not _sound(parts[3]):
        return None
    return Message(parts[0], int(parts[1]), int(parts[2]), parts[3])


class RevocationLog:
    """The log, over one link. Every method raises ``StoreUnavailableError`` when Redis does not do it in time.

    Attributes:
        channel: where each write is published. Channels are common to all databases of a server, logs are not.
    """

    def __init__(self, link: RedisLink) -> None:
        self._link = link
        self.channel = f"{_NAME}:{link.database}"

    async def add(self, records: bytes, *, restoring: bool = False) -> Written:
        """Write and publish records, at most ``MAX_RECORDS``.

        Args:
            records: one after the other.
            restoring: keep the task that ``may_restore`` assigned.
        """
        arguments: list[str | bytes | int] = [_fresh_epoch(), records, self.channel]
        if restoring:
            arguments.append(_RESTORE_MILLISECONDS)
        written: Written = await self._link.evaluate(_ADD, [*_KEYS, _RESTORING], arguments, _written, patient=True)
        return written

    async def page(self, after: int) -> LogPage:
        """Return the records that were written after a number, the oldest first, at most ``MAX_RECORDS``."""
        page: LogPage = await self._link.evaluate(
            _PAGE, _KEYS, [_fresh_epoch(), after, MAX_RECORDS], _page, patient=True
        )
        return page

    async def sweep(self) -> int:
        """Remove what has ended from the next part of the log; return how many records that were."""
        removed: int = await self._link.evaluate(_SWEEP, _KEYS, [MAX_RECORDS // 4], count, patient=True)
        return removed

    async def may_restore(self) -> bool:
        """Return whether this worker is the one that writes back what Redis has lost, until it pauses or ends."""
        mine: bool = await self._link.evaluate(
            _MAY_RESTORE, [_RESTORING], [_RESTORE_MILLISECONDS], done_or_not, patient=True
        )
        return mine

    async def restored(self) -> None:
        """Let other workers write back what they find missing at once."""
        await self._link.evaluate(_RESTORED, [_RESTORING], [], count, patient=True)


def _fresh_epoch() -> str:
    return secrets.token_hex(_EPOCH_DIGITS // 2)


# --- reading the answers of Redis ---


def _written(answer: Any) -> Written:
    epoch, added = items(answer, 2)
    return Written(_epoch(epoch), count(added))


def _page(answer: Any) -> LogPage:
    epoch, head, last, records = items(answer, 4)
    if not _sound(text(records)):
        raise OddAnswerError
    return LogPage(_epoch(epoch), number(head), number(last), records)


def _sound(records: bytes) -> bool:
    """Return whether these are records with valid moments: one with NaN would match no token."""
    return not len(records) % RECORD.size and all(0 <= one[3] < _MAX_MOMENT for one in RECORD.iter_unpack(records))


def _epoch(answer: Any) -> bytes:
    if len(text(answer)) != _EPOCH_DIGITS or not answer.isalnum():
        raise OddAnswerError
    return bytes(answer)
