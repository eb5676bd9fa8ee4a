"""The one way to Redis: a bounded pool of connections, and whether the server is there.

This file has the exchange of one command, its time limit and the heartbeat;
what is stored is for the callers. The dangers: a request that waits for a
server which is not there (so every exchange has one time limit for all that it
does, and while the server is away none is begun), a crowd of new connections to
a server that has just come back (so only the heartbeat tries then), and the
server's password or a stored value in a log (so errors are logged by their
type), a server that answers and has no say (a replica, also one that was the
master a moment ago: it counts as away, for what it has may be old and what it
is given is lost), and an answer of another kind than was asked for, which must
decide nothing (so the caller says how the answer is read, and what cannot be
read is a failure of the store).
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import hashlib
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from redis.asyncio import ConnectionPool, Redis
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    InvalidResponse,
    NoPermissionError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from gateway.clock import Clock
from gateway.network_errors import cause
from gateway.settings.tables.redis import Redis as RedisSettings
from gateway.store import names
from gateway.store.answers import OddAnswerError, done, read_info
from gateway.store.connections import new_client
from gateway.store.sentinel import NoMasterError, Sentinels
from gateway.store.store_clock import StoreClock
from gateway.tasks import Periodic, cancelled, spawn, where

_log = logging.getLogger("gateway.redis")

#: Connections of one worker for commands, and as many for libraries that are given the client; the heartbeat has one of
#: its own. They are opened when they are needed.
POOL_SIZE = 32

#: Seconds between two checks whether the server answers.
HEARTBEAT_SECONDS = 0.25

#: Timeout for the first answer at the start, in seconds: a server that is silent must not keep a worker from serving.
START_SECONDS = 1.0

#: Least seconds between two checks, however many exchanges fail.
MIN_HEARTBEAT_SECONDS = 0.05

#: Connections for what no request waits for, and how long that may take at least, in seconds.
PATIENT_POOL_SIZE, PATIENCE_SECONDS = 2, 1.0

#: Seconds between two requests to Sentinels for the master's address, while the master answers.
SENTINEL_SECONDS = 1.0

#: Least seconds between two log lines about odd answers.
_LOG_SECONDS = 10.0

# How long what a heartbeat writes stays, where the server's role is not for this user to see.
_HEARTBEAT_MILLISECONDS = 10_000

# How an error of a script of ours begins that found a stored value which makes no sense.
_ODD_PREFIX = "ODD "

# The server is not there, or does not speak; every other failure of an exchange is an answer that makes no sense.
_AWAY = (RedisConnectionError, RedisTimeoutError, OSError, TimeoutError)


class _ReplicaError(Exception):
    """The server is no master."""


# What Redis, and this file, say with errors of their own.
_WORDS: tuple[tuple[type[Exception] | tuple[type[Exception], ...], str], ...] = (
    (_ReplicaError, "the server is a replica, not a master"),
    (AuthenticationError, "authentication failed"),
    (BusyLoadingError, "the server is loading its data"),
    (NoPermissionError, "no permission"),
    (OutOfMemoryError, "out of memory"),
    (ResponseError, "the server answered with an error"),
    ((InvalidResponse, OddAnswerError), "unexpected answer"),
)


class StoreUnavailableError(Exception):
    """Redis did not do what was asked, or was not asked because it is away. Its text holds no value and no password."""


def _in_words(error: Exception) -> str:
    """Return what went wrong; an exception's own text may quote a password or a stored value."""
    if isinstance(error, NoMasterError):
        return str(error)
    return next((words for kind, words in _WORDS if isinstance(error, kind)), None) or cause(error)


def odd_reply(what: str) -> str:
    """Return what a Lua script does when a stored value makes no sense; ``what`` names it in the log."""
    return f"return redis.error_reply('{_ODD_PREFIX}{what}')"


async def open_link(settings: RedisSettings, clock: Clock, stop: contextlib.AsyncExitStack) -> RedisLink | None:
    """Return a started link, which ends with ``stop``; None where no server is configured."""
    if not settings.url:
        return None
    link = RedisLink(settings, clock)
    stop.push_async_callback(link.stop)
    await link.start()
    return link


async def _run(client: Redis, script: str, rest: Sequence[str | bytes | int | float]) -> Any:
    try:
        return await client.execute_command("EVALSHA", _script_name(script), *rest)
    except NoScriptError:
        return await client.execute_command("EVAL", script, *rest)


@functools.cache
def _script_name(script: str) -> str:
    """Return what the server calls a script; there are few, and each is long."""
    return hashlib.sha1(script.encode(), usedforsecurity=False).hexdigest()


class RedisLink:
    """One worker's link to Redis.

    Args:
        settings: the table ``[redis]``, with a ``url``.
        clock: the time, for the heartbeat.

    Attributes:
        time: what is known of the server's clock.
        client: redis-py's client over a pool of its own, for libraries that take one. Each step of what it does is
            bounded by ``timeout_seconds``, not the whole.
        database: the number of the database.
        available: the last exchange worked. False until the first one has.
        answered_at: monotonic seconds of the last exchange that worked; minus infinity before.
        commands: exchanges begun.
        failures: those that failed, took too long, or got an answer that makes no sense.
        odd_answers: answers that make no sense: of another kind than was asked for, or none that can be read.
        refusals: commands not tried because the server was away.
        outages: how often it went away.
        last_error: the last failure in words; empty when there was none.
    """

    def __init__(self, settings: RedisSettings, clock: Clock) -> None:
        self.available = False
        self.answered_at = float("-inf")
        self.commands = 0
        self.failures = 0
        self.odd_answers = 0
        self.refusals = 0
        self.outages = 0
        self.last_error = ""
        self._settings = settings
        self._seconds = settings.timeout_seconds
        self._monotonic = clock.monotonic
        self._odd_logged_at = float("-inf")
        self._asked_at = self._sought_at = float("-inf")
        self._sentinels = Sentinels(settings) if settings.sentinels else None
        self._pools: list[ConnectionPool] = []
        self.time = StoreClock(clock.monotonic)
        self.client = self.new_client(POOL_SIZE, self._seconds)
        self._commands = self.new_client(POOL_SIZE)
        self._patient = self.new_client(PATIENT_POOL_SIZE)
        self._heart = self.new_client(1)
        self.database = int(self.client.connection_pool.connection_kwargs.get("db", 0))
        self._heartbeat = Periodic("Redis heartbeat", self._ask, clock, HEARTBEAT_SECONDS)
        self._beating = False
        self._asking: asyncio.Task[None] | None = None

    def new_client(self, connections: int, step_seconds: float | None = None) -> Redis:
        """Return a client with a pool of its own, which is for the caller to close.

        Args:
            connections: the size of its pool.
            step_seconds: bound on each step (a free connection, connecting, an answer). None: the caller bounds the
                whole, by cancelling it (two limits that end at one moment would take up to twice as long), and gets
                answers as the server gave them.
        """
        where = None if self._sentinels is None else self._sentinels.where
        client = new_client(self._settings, connections, step_seconds, where=where)
        self._pools.append(client.connection_pool)
        return client

    async def start(self) -> None:
        """Ask whether the server is there, for ``START_SECONDS`` at most, and go on asking in the background."""
        self._asking = spawn(self._ask(), "Redis command")
        await asyncio.wait({self._asking}, timeout=START_SECONDS)
        self._heartbeat.start()
        self._beating = True

    async def stop(self) -> None:
        """Close every connection."""
        self._beating = False
        await self._heartbeat.stop()
        if self._asking is not None:
            await cancelled(self._asking)
        for client in (self.client, self._commands, self._patient, self._heart):
            # A server that is stopped cannot hold this up.
            with contextlib.suppress(RedisError, OSError, TimeoutError):
                async with asyncio.timeout(self._seconds):
                    await client.aclose(close_connection_pool=True)
        if self._sentinels is not None:
            await self._sentinels.stop()
        self.available = False

    async def command(
        self, *parts: str | bytes | int | float, read: Callable[[Any], Any] = lambda answer: answer
    ) -> Any:
        """Send one command and return its answer.

        Args:
            parts: of the command.
            read: makes of the answer as the server gave it (bytes, numbers, lists, None) what is returned. Whatever it
                raises means that the answer makes no sense (``store/answers.py``).

        Raises:
            StoreUnavailableError: the server is away, refused the command, did not answer within ``timeout_seconds``,
                or gave an answer that makes no sense. Whether it was carried out is not known then.
        """
        self._demand()
        return await self._exchange(self._commands.execute_command(*parts), read, self._seconds)

    async def evaluate(
        self,
        script: str,
        keys: Sequence[str],
        args: Sequence[str | bytes | int | float],
        read: Callable[[Any], Any] = lambda answer: answer,
        *,
        patient: bool = False,
    ) -> Any:
        """Run a Lua script, by its hash where the server knows it, and return its answer.

        Args:
            script, keys, args: what is run, and on what.
            read: as for ``command``.
            patient: no request waits for it, so it has ``PATIENCE_SECONDS`` at least, and connections of its own. It is
                tried although the server counts as away: that may only mean that it is slower than requests can wait.

        Raises:
            StoreUnavailableError: as for ``command``.
        """
        client, seconds = self._commands, self._seconds
        if patient:
            client, seconds = self._patient, max(seconds, PATIENCE_SECONDS)
            self.commands += 1
        else:
            self._demand()
        return await self._exchange(_run(client, script, (len(keys), *keys, *args)), read, seconds)

    async def _exchange(self, exchange: Awaitable[Any], read: Callable[[Any], Any], seconds: float) -> Any:
        try:
            async with asyncio.timeout(seconds):
                answer = await exchange
        except ResponseError as error:
            text = str(error)
            if text.startswith(_ODD_PREFIX):
                raise self._odd(text.removeprefix(_ODD_PREFIX)) from None
            if "WRONGTYPE " in text:
                raise self._odd("a value of another type") from None
            raise self._refused(error) from None
        except _AWAY as error:
            raise self._failed(error) from None
        except Exception as error:
            # Whatever bytes can provoke in a parser: other protocols, malformed numbers, endlessly nested lists.
            raise self._odd(where(error)) from None
        try:
            found = read(answer)
        except Exception as error:
            raise self._odd(where(error)) from None
        self.answered_at = self._monotonic()
        return found

    def status(self) -> dict[str, Any]:
        """Return what ``/status`` shows of the link."""
        return {
            "available": self.available,
            "commands": self.commands,
            "failures": self.failures,
            "odd_answers": self.odd_answers,
            "refusals": self.refusals,
            "outages": self.outages,
            "last_error": self.last_error,
        }

    def _server(self) -> str:
        """Return where the server is, for texts: host and port, or the path of its socket."""
        if self._sentinels is not None:
            return ":".join(map(str, self._sentinels.master or ("the master", "port unknown")))
        given = self.client.connection_pool.connection_kwargs
        return str(given.get("path") or f"{given.get('host', 'localhost')}:{given.get('port', 6379)}")

    def _demand(self) -> None:
        if not self.available:
            self.refusals += 1
            raise StoreUnavailableError(f"not connected to Redis at {self._server()}")
        self.commands += 1

    def _refused(self, error: ResponseError) -> StoreUnavailableError:
        """The server is there, but did not do it: read-only, out of memory, a wrong type."""
        self.failures += 1
        if isinstance(error, ReadOnlyError):
            self._away(_ReplicaError())
            return StoreUnavailableError(f"Redis at {self._server()} is a replica, not a master")
        self.last_error = _in_words(error)
        self.answered_at = self._monotonic()
        return StoreUnavailableError(f"Redis refused a command: {self.last_error}")

    def _odd(self, what: str) -> StoreUnavailableError:
        """The server is there, and what it says makes no sense: that is no decision."""
        self.failures += 1
        self.odd_answers += 1
        self.last_error = "odd answer"
        now = self._monotonic()
        if now - self._odd_logged_at >= _LOG_SECONDS:
            self._odd_logged_at = now
            _log.warning("unexpected answer from Redis at %s (%d so far): %s", self._server(), self.odd_answers, what)
        return StoreUnavailableError(f"unexpected answer from Redis at {self._server()}")

    def _failed(self, error: Exception) -> StoreUnavailableError:
        self.failures += 1
        self._away(error)
        # It may have been this one exchange only: that is found out at once, but not again and again.
        asking = self._asking is not None and not self._asking.done()
        if self._beating and not asking and self._monotonic() - self._asked_at >= MIN_HEARTBEAT_SECONDS:
            self._asking = spawn(self._ask(), "Redis command")
        return StoreUnavailableError(f"Redis did not answer: {self.last_error}")

    def _away(self, error: Exception) -> None:
        self.last_error = _in_words(error)
        if self.available:
            self.available = False
            self.outages += 1
            _log.warning("lost connection to Redis at %s: %s", self._server(), self.last_error)

    async def _ask(self) -> None:
        """Find out whether the server is there."""
        self._asked_at = self._monotonic()
        try:
            await self._find_master()
            async with asyncio.timeout(self._seconds):
                await self._beat()
        except Exception as error:
            # Any exception: a heartbeat that ended would leave ``available`` as it was, for good.
            self._away(error)
            return
        self.answered_at = self._monotonic()
        if not self.available:
            self.available = True
            _log.info("connected to Redis at %s", self._server())

    async def _beat(self) -> None:
        """Ask for the server's time, and whether it is a master."""
        asked_at = self._monotonic()
        both = self._heart.pipeline(transaction=False)
        both.execute_command("TIME")
        both.execute_command("INFO", "replication")
        moment, replication = await both.execute(raise_on_error=False)
        for answer in (moment, replication):
            if isinstance(answer, Exception) and not isinstance(answer, NoPermissionError):
                raise answer
        self.time.sample(moment, asked_at)
        if isinstance(replication, NoPermissionError):
            try:
                done(await self._heart.execute_command("SET", names.HEARTBEAT, "1", "PX", _HEARTBEAT_MILLISECONDS))
            except ReadOnlyError:
                raise _ReplicaError from None
        elif read_info(replication).get("role") == "slave":
            raise _ReplicaError

    async def _find_master(self) -> None:
        """Ask Sentinels, if there are any, and leave a server that is the master no longer."""
        if self._sentinels is None:
            return
        now = self._monotonic()
        if self.available and now - self._sought_at < SENTINEL_SECONDS:
            return
        self._sought_at = now
        if await self._sentinels.look():
            _log.info("Redis Sentinel: the master is now %s", self._server())
            await self._leave()

    async def _leave(self) -> None:
        """End all connections; the next ones lead to where the master is."""
        for pool in self._pools:
            with contextlib.suppress(RedisError, OSError):
                await pool.disconnect()
