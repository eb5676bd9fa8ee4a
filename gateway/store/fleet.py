"""The gateways that share one Redis: each tells the others what must agree, and warns of what does not.

Writes and compares these records. It decides nothing: no request waits for it
or depends on it. The dangers: records that another program wrote (so they are
read as foreign text, and bounded), and a log that repeats itself (so each
difference is logged once, by one worker of a gateway).
"""

from __future__ import annotations

import json
import logging
import secrets
import socket
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any, NamedTuple

from gateway import __version__
from gateway.clock import Clock
from gateway.errors import printable
from gateway.settings.tables.root import Settings
from gateway.store import names
from gateway.store.agreement import what_must_agree
from gateway.store.answers import OddAnswerError, text
from gateway.store.redis_link import RedisLink, StoreUnavailableError
from gateway.tasks import Periodic

_log = logging.getLogger("gateway.fleet")

#: Seconds between two looks at the others, and for which a record counts.
FLEET_LOOK_SECONDS, RECORD_SECONDS = 10.0, 30

#: From so many seconds on, a difference of clocks is logged.
CLOCK_SECONDS = 5.0

#: Most records that are read, most bytes of one, and most differences that are logged.
MAX_GATEWAY_RECORDS, MAX_FLEET_RECORD_BYTES, MAX_DIFFERENCES = 200, 65_536, 100

#: What a difference from the clock of Redis names instead of a gateway.
_REDIS = "Redis"

# Arguments: the writing worker, the record, for how many seconds a record counts, and how many are returned at most.
_TELL = """
local now = tonumber(redis.call('TIME')[1])
redis.call('HSET', KEYS[1], ARGV[1], string.format('%.0f ', now) .. ARGV[2])
redis.call('EXPIRE', KEYS[1], ARGV[3])
local rows, answer = redis.call('HGETALL', KEYS[1]), {}
for at = 1, #rows, 2 do
  local written = tonumber(string.match(rows[at + 1], '^%d+'))
  if not written or math.abs(now - written) > tonumber(ARGV[3]) then
    redis.call('HDEL', KEYS[1], rows[at])
  elseif #answer < 2 * tonumber(ARGV[4]) then
    answer[#answer + 1] = rows[at]
    answer[#answer + 1] = rows[at + 1]
  end
end
return answer
"""


class FleetRecord(NamedTuple):
    """What a worker of some gateway says of itself.

    Attributes:
        worker: another name each time it starts; names of one host are in the order of these.
        gateway: where it listens.
        values: of what must agree, by option.
    """

    worker: str
    gateway: str
    values: Mapping[str, float | str]


class Difference(NamedTuple):
    """Something in which another gateway differs. Foreign text in it can stand in a log line."""

    gateway: str
    option: str
    there: str
    here: str


def read_record(worker: bytes, value: bytes) -> FleetRecord | None:
    """Return the record that a worker wrote; None when it is not a record."""
    if len(value) > MAX_FLEET_RECORD_BYTES:
        return None
    try:
        found = json.loads(value.partition(b" ")[2])
        gateway, values = found["gateway"], found["values"]
        items = {str(name): each if isinstance(each, str) else float(each) for name, each in values.items()}
        return FleetRecord(worker.decode("ascii"), str(gateway), items)
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
        return None


def differences(own: FleetRecord, others: list[FleetRecord]) -> Iterator[Difference]:
    """Return in what others differ; what only one of two has is not a difference."""
    for other in others:
        for option, there in other.values.items():
            here = own.values.get(option)
            if here is None or there == here:
                continue
            if isinstance(here, float) != isinstance(there, float):
                continue
            if option == "clock" and abs(float(there) - float(here)) <= CLOCK_SECONDS:
                continue
            yield Difference(printable(other.gateway, 100), option, _shown(there), _shown(here))


def _shown(value: float | str) -> str:
    return printable(value, 40) if isinstance(value, str) else f"{value:g}"


class Fleet:
    """This worker among all that share its Redis.

    Args:
        link: to Redis.
        settings: the whole configuration.
        clock: the time.

    Attributes:
        found: in what others differ now.
        others: how many workers of whatever gateway there are besides.
    """

    def __init__(self, link: RedisLink, settings: Settings, clock: Clock) -> None:
        self.found: tuple[Difference, ...] = ()
        self.others = 0
        self._link = link
        self._wall = clock.wall
        # The eldest of a gateway's workers is the one that warns, so that none does again that starts later.
        self._worker = f"{int(clock.wall() * 1000):012x}-{secrets.token_hex(8)}"
        self._gateway = f"{socket.gethostname()} {' '.join(settings.server.addresses)}"
        self._values: dict[str, float | str] = {
            "version": __version__,
            "format": float(names.FORMAT),
            **what_must_agree(settings),
        }
        self._told: set[tuple[str, str]] = set()
        self._watching = Periodic("fleet", self.look, clock, FLEET_LOOK_SECONDS)

    async def start(self) -> None:
        """Tell the others, and go on in the background; this waits for one exchange at most."""
        await self.look()
        self._watching.start()

    async def stop(self) -> None:
        """Take the record back."""
        await self._watching.stop()
        if self._link.available:
            with suppress(StoreUnavailableError):
                await self._link.command("HDEL", names.FLEET, self._worker)

    async def look(self) -> None:
        """Tell the others once, and look at what they tell."""
        own = self._own()
        record = json.dumps({"gateway": own.gateway, "values": own.values})
        if not self._link.available:
            return
        try:
            arguments: list[str | int] = [self._worker, record, RECORD_SECONDS, MAX_GATEWAY_RECORDS]
            rows = await self._link.evaluate(_TELL, [names.FLEET], arguments, _rows)
        except StoreUnavailableError:
            return
        records = [read_record(*pair) for pair in zip(rows[::2], rows[1::2], strict=False)]
        others = [record for record in records if record is not None and record.worker != own.worker]
        self._compare(own, others)

    @property
    def clock_offset(self) -> float | None:
        """How many seconds this clock is ahead of that of Redis; None while that is not known."""
        there = self._link.time.not_after
        return None if there is None else round(self._wall() - there, 1)

    def status(self) -> dict[str, Any]:
        """Return what ``/status`` shows."""
        shown = [difference._asdict() for difference in self.found]
        return {"others": self.others, "clock_offset_seconds": self.clock_offset, "differences": shown}

    def _own(self) -> FleetRecord:
        values, offset = self._values, self.clock_offset
        return FleetRecord(self._worker, self._gateway, values if offset is None else {**values, "clock": offset})

    def _compare(self, own: FleetRecord, others: list[FleetRecord]) -> None:
        self.others = len(others)
        found = dict.fromkeys(differences(own, others))
        offset = own.values.get("clock")
        if isinstance(offset, float) and abs(offset) > CLOCK_SECONDS:
            found[Difference(_REDIS, "clock", "0", f"{offset:g}")] = None
        self.found = tuple(found)[:MAX_DIFFERENCES]
        # All workers of a gateway see the same.
        siblings = (each for each in others if each.gateway == own.gateway and _agree(each, own))
        if all(own.worker < each.worker for each in siblings):
            self._tell()

    def _tell(self) -> None:
        for gateway, option, there, here in self.found:
            if (gateway, option) in self._told or len(self._told) >= MAX_DIFFERENCES:
                continue
            self._told.add((gateway, option))
            if gateway == _REDIS:
                side = "behind" if here.startswith("-") else "ahead of"
                _log.warning(
                    "the clock of this host is %s s %s the clock of Redis: synchronise both (NTP)",
                    here.removeprefix("-"),
                    side,
                )
            else:
                _log.warning(
                    "gateway %s, which shares this Redis, has %s = %s; this gateway has %s",
                    gateway,
                    option,
                    there,
                    here,
                )


def _rows(answer: Any) -> list[bytes]:
    """Read names and records, in turn."""
    if type(answer) is not list:
        raise OddAnswerError
    return [text(row) for row in answer]


def _agree(one: FleetRecord, other: FleetRecord) -> bool:
    return next(differences(one, [other]), None) is None
