"""Background tasks that cannot be lost: the only place that creates one.

The event loop keeps only a weak reference to a task, so one that nobody holds
may vanish while it runs. Every task is made here, held until it ends, and an
exception that ends it is logged.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

_log = logging.getLogger("gateway")
_running: set[asyncio.Task[Any]] = set()


def spawn(work: Coroutine[Any, Any, T], name: str) -> asyncio.Task[T]:
    """Run ``work`` in a task that is held until it ends."""
    task = asyncio.get_running_loop().create_task(work, name=name)
    _running.add(task)
    task.add_done_callback(_ended)
    return task


def running() -> frozenset[asyncio.Task[Any]]:
    """Return the tasks that have not ended, for shutdown and for tests."""
    return frozenset(_running)


def _ended(task: asyncio.Task[Any]) -> None:
    _running.discard(task)
    if not task.cancelled() and (error := task.exception()) is not None:
        _log.error("task %s ended by %s", task.get_name(), type(error).__name__)
