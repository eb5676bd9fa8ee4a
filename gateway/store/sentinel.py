"""Where the master is, as Redis Sentinels say.

Asks the Sentinels; when to ask is ``redis_link.py``'s. The dangers: Sentinels
that cannot be reached or answer nonsense (so the next one is asked, and the
last known master stays one), and a Sentinel that is late (so what it names is
believed only once that server says itself that it is a master, which
``redis_link.py`` asks with each heartbeat).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from gateway.settings.tables.redis import Redis as RedisSettings
from gateway.store.answers import OddAnswerError, items, number, text
from gateway.store.connections import new_client

#: The highest port.
_LAST_PORT = 65535


class NoMasterError(RedisConnectionError):
    """No Sentinel has named a master. Its text names the Sentinels, without a password."""


class Sentinels:
    """The Sentinels of one master.

    Args:
        settings: the table ``[redis]``, with ``sentinels``: the host of its ``url`` is the name of the master.

    Attributes:
        master: host and port; None before any Sentinel has named one.
    """

    def __init__(self, settings: RedisSettings) -> None:
        self.master: tuple[str, int] | None = None
        self._name = urlsplit(settings.url).netloc.rpartition("@")[2]
        self._places = ", ".join(urlsplit(url).netloc.rpartition("@")[2] for url in settings.sentinels)
        self._seconds = settings.timeout_seconds
        self._clients: list[Redis] = [new_client(settings, 1, url=url) for url in settings.sentinels]

    def where(self) -> tuple[str, int]:
        """Return host and port of the master.

        Raises:
            NoMasterError: no Sentinel has named one.
        """
        if self.master is None:
            raise NoMasterError(f'no Sentinel at {self._places} knows a master named "{self._name}"')
        return self.master

    async def look(self) -> bool:
        """Ask one Sentinel after the other; return whether the master is another one now."""
        for client in list(self._clients):
            try:
                async with asyncio.timeout(self._seconds):
                    answer = await client.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._name)
                found = _address(answer)
            except Exception:
                # Away, or making no sense: it is asked last from now on, so that it costs its time limit once.
                self._clients.remove(client)
                self._clients.append(client)
                continue
            if found is None:
                continue
            before, self.master = self.master, found
            return before != found
        return False

    async def stop(self) -> None:
        """Close every connection."""
        for client in self._clients:
            with contextlib.suppress(RedisError, OSError, TimeoutError):
                async with asyncio.timeout(self._seconds):
                    await client.aclose(close_connection_pool=True)


def _address(answer: Any) -> tuple[str, int] | None:
    """Read a Sentinel's answer; None when it does not know a master of this name."""
    if answer is None:
        return None
    pair: Sequence[Any] = items(answer, 2)
    host, port = text(pair[0]).decode("ascii"), number(pair[1])
    if not host or not 0 < port <= _LAST_PORT:
        raise OddAnswerError
    return host, port
