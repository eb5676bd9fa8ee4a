"""Whether the tokens and API keys of what runs for long are still good.

Only the looking lives here. Every ``LOOK_SECONDS`` each watched token is asked
for: its expiry, its key, the age of the keys. There is no timer for a single
token, so a far expiry is nothing special, a step of the clock does no harm,
and a withdrawn key is seen as soon as an expiry.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator

from gateway.clock import Clock
from gateway.errors import Reason
from gateway.server.credentials import Held
from gateway.tasks import spawn

#: Time between two looks at a token.
LOOK_SECONDS = 1.0

#: How many tokens are looked at before other work gets a turn.
SLICE = 500


class TokenWatch:
    """Looks at the tokens of everything that runs for long.

    Args:
        still_good: why a token is no longer good, or None.
        clock: the time between two looks.
    """

    def __init__(self, still_good: Callable[[Held], Reason | None], clock: Clock) -> None:
        self._still_good = still_good
        self._clock = clock
        self._watched: dict[object, tuple[Held, Callable[[Reason], None]]] = {}
        self._task: asyncio.Task[None] | None = None

    @contextlib.contextmanager
    def watching(self, held: Held | None, ended: Callable[[Reason], None]) -> Iterator[None]:
        """Call ``ended``, once, when a token is no longer good while the block runs.

        Args:
            held: the token; None for nobody's, which never ends.
        """
        if held is None:
            yield
            return
        place = object()
        self._watched[place] = (held, ended)
        if self._task is None:
            self._task = spawn(self._look(), "token watch")
        try:
            yield
        finally:
            self._watched.pop(place, None)

    def stop(self) -> None:
        """Stop looking."""
        if self._task is not None:
            self._task.cancel()

    async def _look(self) -> None:
        try:
            while self._watched:
                await self._clock.sleep(LOOK_SECONDS)
                for number, (place, (held, ended)) in enumerate(list(self._watched.items())):
                    if number % SLICE == SLICE - 1:
                        await asyncio.sleep(0)
                    reason = self._still_good(held)
                    if reason is not None and self._watched.pop(place, None) is not None:
                        ended(reason)
        finally:
            self._task = None
