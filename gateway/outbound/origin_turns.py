"""How many fetches of one gateway go to one provider at a time.

Hundreds of issuers can have their keys at one server:
realms, tenants, customers of one host. A gateway that starts would connect to it
once for each of them in the same millisecond, which is more than the queue of
many a listening socket holds, and a connection that does not fit in waits for one
to three seconds. The danger is the opposite: a provider that is silent for some
issuers must not keep the others' keys waiting, so a turn is waited for briefly.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from yarl import URL

from gateway.clock import Clock
from gateway.tasks import cancelled, spawn

#: Fetches from one origin at a time: a quarter of the shortest queue of connections that servers usually have.
MAX_FETCHES = 32

#: The longest wait for a turn, in seconds; a fetch begins behind it all the same.
MAX_TURN_WAIT_SECONDS = 1.0


@dataclass(slots=True)
class _Origin:
    """Who fetches from one origin, and who waits, the first one first."""

    running: int = 0
    waiting: deque[asyncio.Future[None]] = field(default_factory=deque)


class OriginTurns:
    """Turns at each origin (scheme, host and port), in the order in which they are asked for.

    Args:
        clock: the time.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._origins: dict[tuple[str, str | None, int | None], _Origin] = {}

    @asynccontextmanager
    async def at(self, url: URL) -> AsyncIterator[None]:
        """Wait for a turn at the origin of an address, at most ``MAX_TURN_WAIT_SECONDS``, and have it for the block."""
        name = url.scheme, url.host, url.port
        origin = self._origins.setdefault(name, _Origin())
        if origin.running >= MAX_FETCHES:
            await self._wait(origin)
        else:
            origin.running += 1
        try:
            yield
        finally:
            _pass_on(origin)
            if not origin.running and self._origins.get(name) is origin:
                del self._origins[name]

    async def _wait(self, origin: _Origin) -> None:
        """Return with a turn: one that was passed on, or one more than there should be."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        origin.waiting.append(turn)
        nap = spawn(self._clock.sleep(MAX_TURN_WAIT_SECONDS), "wait for a turn")
        try:
            await asyncio.wait({turn, nap}, return_when=asyncio.FIRST_COMPLETED)
        except BaseException:
            if turn.done():
                _pass_on(origin)
            else:
                origin.waiting.remove(turn)
            raise
        finally:
            await cancelled(nap)
        if not turn.done():
            origin.waiting.remove(turn)
            origin.running += 1


def _pass_on(origin: _Origin) -> None:
    """Give the turn to the fetch that has waited longest, unless more run than should."""
    if origin.waiting and origin.running <= MAX_FETCHES:
        origin.waiting.popleft().set_result(None)
    else:
        origin.running -= 1
