"""Background tasks that cannot be lost: the only place that creates one.

The event loop keeps only a weak reference to a task, so one that nothing holds
may vanish while it runs. Every task is made here, held until it ends, and an
exception that nothing waits for is logged. What has to go on for as long as the
gateway runs is a ``Periodic``: a round that fails is followed by the next one.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from gateway.clock import Clock, SystemClock

T = TypeVar("T")

_log = logging.getLogger("gateway")
_running: set[asyncio.Task[Any]] = set()
_periodic: set[Periodic] = set()

#: Failures that end nothing, by kind, in this process: failed rounds, and everything else that was noted.
failures: Counter[str] = Counter()
_logged_at: dict[str, float] = {}

#: Names of tasks that did not end in time, in this process. What they hold, such as a thread, may keep it from ending.
given_up: list[str] = []

#: Least seconds between two log lines about failures of one kind.
LOG_SECONDS = 10.0

#: The real pause, in seconds, after a failure that would leave none between two rounds.
PAUSE_SECONDS = 0.1


def spawn(work: Coroutine[Any, Any, T], name: str, *, awaited: bool = False) -> asyncio.Task[T]:
    """Run ``work`` in a task that is held until it ends.

    Args:
        name: what logs call the task.
        awaited: the caller awaits the result; it gets the exception, which is not logged.
    """
    task = asyncio.get_running_loop().create_task(work, name=name)
    _running.add(task)
    task.add_done_callback(_ended_awaited if awaited else _ended)
    return task


async def cancelled(task: asyncio.Task[Any]) -> None:
    """End a task, and return once it has ended."""
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def give_up(task: asyncio.Task[Any]) -> None:
    """Cancel a task that takes too long, and wait for it no more; the process then ends without an orderly end."""
    task.cancel()
    given_up.append(task.get_name())


def running() -> frozenset[asyncio.Task[Any]]:
    """Return the tasks that have not ended, for shutdown and for tests."""
    return frozenset(_running)


def where(error: BaseException) -> str:
    """Return the type of an exception and where it was raised.

    For logs: an exception's own text may quote a token or a request.
    """
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    place = "" if trace is None else f" at {trace.tb_frame.f_code.co_qualname}:{trace.tb_lineno}"
    return type(error).__name__ + place


def survivable(error: BaseException) -> bool:
    """Return whether the running task may go on after an exception.

    It may not when it was cancelled itself, when its coroutine is being closed, and when the process is to end. A
    ``CancelledError`` that was not asked for comes from something that was waited for, and is a failure like any other.
    """
    if isinstance(error, asyncio.CancelledError):
        task = asyncio.current_task()
        return task is not None and not task.cancelling()
    return not isinstance(error, (GeneratorExit, KeyboardInterrupt, SystemExit))


def note_failure(kind: str, error: BaseException, about: str = "") -> None:
    """Count a failure of something that goes on all the same, and log it, but not more often than is useful.

    Args:
        kind: what metrics call it; one of few words.
        error: what happened. Its text is not logged.
        about: what the work was for, such as an issuer, for the log.
    """
    failures[kind] += 1
    # Memory may have run out, or the log may be full: neither may end what goes on.
    with contextlib.suppress(Exception):
        now = SystemClock.monotonic()
        if now - _logged_at.get(kind, float("-inf")) >= LOG_SECONDS:
            _logged_at[kind] = now
            _log.error("%s%s failed (%d so far): %s", kind, about and f" of {about}", failures[kind], where(error))


async def go_on_after(error: BaseException, kind: str) -> None:
    """Note a failed round of a loop that waits for its work itself, and pause, so that it cannot spin.

    Args:
        error: what happened.
        kind: see ``note_failure``.

    Raises:
        BaseException: the error, if the running task may not go on.
    """
    if not survivable(error):
        raise error
    note_failure(kind, error)
    await asyncio.sleep(PAUSE_SECONDS)


class Periodic:
    """Work that is done again and again; only ``stop`` ends it.

    A round that raises has failed: it is counted, logged with a bound on the rate, and followed by the next one. What
    depends on the work must not trust a flag that only the next good round would change, but check the age of the last
    good round.

    Args:
        kind: what metrics call it; one of few words.
        work: one round.
        clock: the time.
        seconds: from the end of one round to the beginning of the next; a callable is asked each time.
        about: what the work is for, such as an issuer, for logs; empty where there is only one.
        on_failure: called with the error of each failed round. It must not raise.

    Attributes:
        kind, about, work: as given.
        rounds: rounds that have ended, failed ones included.
        failures: rounds that have failed.
        last_error: of the last round; empty when it did not fail.
    """

    def __init__(
        self,
        kind: str,
        work: Callable[[], Awaitable[None]],
        clock: Clock,
        seconds: float | Callable[[], float],
        *,
        about: str = "",
        on_failure: Callable[[BaseException], None] | None = None,
    ) -> None:
        self.kind = kind
        self.about = about
        self.work = work
        self.rounds = 0
        self.failures = 0
        self.last_error = ""
        self._clock = clock
        self._seconds = seconds
        self._on_failure = on_failure
        self._task: asyncio.Task[None] | None = None

    @property
    def name(self) -> str:
        """What logs call it."""
        return f"{self.kind} of {self.about}" if self.about else self.kind

    def start(self, *, at_once: bool = False) -> None:
        """Begin, on the running event loop; a second call does nothing.

        Args:
            at_once: the first round comes before the first pause.
        """
        if self._task is None:
            self._task = spawn(self._run(at_once=at_once), self.name)
            _periodic.add(self)

    async def stop(self) -> None:
        """End it, and return once it has ended."""
        if self._task is not None:
            await cancelled(self._task)
        _periodic.discard(self)

    async def _run(self, *, at_once: bool) -> None:
        try:
            if at_once:
                await self._round()
            task = asyncio.current_task()
            while task is not None and not task.cancelling():  # something below may have swallowed it
                await self._wait()
                await self._round()
        finally:
            _periodic.discard(self)

    async def _round(self) -> None:
        try:
            await self.work()
        except BaseException as error:
            if not survivable(error):
                raise
            self._failed(error)
        else:
            self.last_error = ""
        finally:
            self.rounds += 1

    async def _wait(self) -> None:
        try:
            await self._clock.sleep(self._seconds() if callable(self._seconds) else self._seconds)
        except BaseException as error:
            if not survivable(error):
                raise
            self._failed(error)
            await asyncio.sleep(PAUSE_SECONDS)  # or rounds would follow each other without a pause

    def _failed(self, error: BaseException) -> None:
        self.failures += 1
        self.last_error = type(error).__name__
        note_failure(self.kind, error, self.about)
        if self._on_failure is not None:
            with contextlib.suppress(Exception):
                self._on_failure(error)


def periodic() -> frozenset[Periodic]:
    """Return what goes on again and again in this process, for metrics and for tests."""
    return frozenset(_periodic)


def _ended(task: asyncio.Task[Any]) -> None:
    _running.discard(task)
    if not task.cancelled() and (error := task.exception()) is not None:
        _log.error("task %s failed: %s", task.get_name(), where(error))


def _ended_awaited(task: asyncio.Task[Any]) -> None:
    _running.discard(task)
    if not task.cancelled():
        task.exception()  # seen, so that asyncio does not report it as lost when the waiter left
