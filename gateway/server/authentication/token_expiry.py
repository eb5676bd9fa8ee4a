"""Whether the tokens and API keys of what runs for long are still good.

Polls held credentials: every ``EXPIRY_LOOK_SECONDS`` the expiry of each watched
token, its key and the age of the keys are checked. There is no timer for a
single token, so a far expiry is nothing special, a step of the clock does no
harm, and a withdrawn key is seen as soon as an expiry.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator

from gateway.clock import Clock
from gateway.errors import Reason
from gateway.jwt.jose.compact import unforeseen
from gateway.server.request.in_use import InUse
from gateway.tasks import Periodic, note_failure

#: Time between two looks at a token.
EXPIRY_LOOK_SECONDS = 1.0

_KIND = "token watch"

#: How many tokens are looked at before other work gets a turn.
SLICE = 500


class TokenWatch:
    """Looks at the tokens of everything that runs for long.

    Args:
        clock: the time between two looks.
    """

    def __init__(self, clock: Clock) -> None:
        self._watched: dict[object, tuple[InUse, Callable[[Reason], None]]] = {}
        self._looking = Periodic(_KIND, self._look, clock, EXPIRY_LOOK_SECONDS)

    @contextlib.contextmanager
    def watching(self, held: InUse | None, ended: Callable[[Reason], None]) -> Iterator[None]:
        """Call ``ended``, once, when a token is no longer good while the block runs.

        Args:
            held: the token; None without one: that never ends.
        """
        if held is None:
            yield
            return
        place = object()
        self._watched[place] = (held, ended)
        self._looking.start()
        try:
            yield
        finally:
            self._watched.pop(place, None)

    async def stop(self) -> None:
        """Stop looking."""
        await self._looking.stop()

    async def _look(self) -> None:
        for number, (place, (held, ended)) in enumerate(list(self._watched.items())):
            if number % SLICE == SLICE - 1:
                await asyncio.sleep(0)
            reason = self._judge(held)
            if reason is not None and self._watched.pop(place, None) is not None:
                try:
                    ended(reason)
                except Exception as error:  # the others are looked at all the same
                    note_failure(_KIND, error)

    def _judge(self, held: InUse) -> Reason | None:
        """Return why a token is no longer good; one that cannot be judged is not good."""
        try:
            return held.ended()
        except Exception as error:
            note_failure(_KIND, error)
            return unforeseen(error).reason
