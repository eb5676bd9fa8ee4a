"""Background tasks that cannot be lost: the only place that creates one.

The event loop keeps only a weak reference to a task, so one that nobody holds
may vanish while it runs. Every task is made here, held until it ends, and an
exception that nobody waits for is logged.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

_log = logging.getLogger("gateway")
_running: set[asyncio.Task[Any]] = set()


def spawn(work: Coroutine[Any, Any, T], name: str, *, awaited: bool = False) -> asyncio.Task[T]:
    """Run ``work`` in a task that is held until it ends.

    Args:
        name: what logs call the task.
        awaited: somebody waits for its result, so its exception is theirs and not logged.
    """
    task = asyncio.get_running_loop().create_task(work, name=name)
    _running.add(task)
    task.add_done_callback(_ended_awaited if awaited else _ended)
    return task


async def cancelled(task: asyncio.Task[Any]) -> None:
    """End a task, and return once it has ended."""
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


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


def _ended(task: asyncio.Task[Any]) -> None:
    _running.discard(task)
    if not task.cancelled() and (error := task.exception()) is not None:
        _log.error("task %s ended by %s", task.get_name(), where(error))


def _ended_awaited(task: asyncio.Task[Any]) -> None:
    _running.discard(task)
    if not task.cancelled():
        task.exception()  # seen, so that asyncio does not report it as lost when the waiter left
