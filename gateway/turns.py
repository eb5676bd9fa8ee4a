"""Long work of connections, done in turns: together they get a fixed time in each turn of the loop.

Orders that work; the work itself belongs to the connections. A peer can make a few
bytes costly, by chunks of one byte or empty frames. One such connection gives the loop
back after a part of its work. But fifty of them, each with its part in every turn,
would still delay all others (CWE-400, CWE-407).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from weakref import WeakKeyDictionary

from gateway.clock import SystemClock
from gateway.tasks import note_failure

#: Most seconds of such work in one turn of the loop, but for the end of the last part.
MAX_TURN_SECONDS = 0.003


class Turns:
    """The connections of one event loop that have more work than they may do at once.

    Args:
        monotonic: seconds that only measure.
    """

    def __init__(self, monotonic: Callable[[], float] = SystemClock.monotonic) -> None:
        self._monotonic = monotonic
        self._waiting: deque[Callable[[], None]] = deque()
        self._single: deque[asyncio.Future[None]] = deque()

    def later(self, go_on: Callable[[], None]) -> None:
        """Have a part of the work done, behind those that wait already.

        Args:
            go_on: does a part of it, and asks again if there is more. It must not fail, and must do nothing when its
                connection is gone.
        """
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self._turn)
        self._waiting.append(go_on)

    def _turn(self) -> None:
        waiting = self._waiting
        ends = self._monotonic() + MAX_TURN_SECONDS
        for _ in range(len(waiting)):
            # Taken out behind its part: what is added meanwhile must not ask the loop for another turn.
            try:
                waiting[0]()
            except Exception as error:  # those that wait behind it are turned to all the same
                note_failure("work in turns", error)
            waiting.popleft()
            if self._monotonic() >= ends:
                break
        if waiting:
            # The loop looks at its connections before the next turn, and does not sleep.
            asyncio.get_running_loop().call_soon(self._turn)

    async def own(self) -> None:
        """Wait for a turn in which none of the others that wait so goes on: for work that cannot be done in parts."""
        mine: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if not self._single:
            asyncio.get_running_loop().call_soon(self._next)
        self._single.append(mine)
        await mine

    def _next(self) -> None:
        single = self._single
        while single:
            # Taken out when the turn is over, as above.
            if not single[0].done():
                single[0].set_result(None)
                asyncio.get_running_loop().call_soon(self._over)
                return
            del single[0]  # it does not wait any more

    def _over(self) -> None:
        del self._single[0]
        self._next()


_of_loop: WeakKeyDictionary[asyncio.AbstractEventLoop, Turns] = WeakKeyDictionary()


def later(go_on: Callable[[], None]) -> None:
    """Have a part of a connection's work done in one of the running loop's next turns (``Turns.later``)."""
    _turns().later(go_on)


async def own() -> None:
    """Wait for a turn of the running loop that none of the others that wait so has (``Turns.own``)."""
    await _turns().own()


def _turns() -> Turns:
    loop = asyncio.get_running_loop()
    turns = _of_loop.get(loop)
    if turns is None:
        turns = _of_loop[loop] = Turns()
    return turns
