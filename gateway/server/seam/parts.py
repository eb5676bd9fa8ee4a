"""The parts of a gateway's features: started one after the other, and stopped together within a limit.

Starts and stops them. The danger is the part that does not
stop: the process must end without it, and the other parts must still be stopped.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from contextlib import AsyncExitStack

from gateway.server.seam.feature import Part
from gateway.settings.feature_faults import Hook
from gateway.tasks import give_up, spawn, where

_log = logging.getLogger("gateway")

#: How long the parts of all features together may take to stop.
PARTS_STOP_SECONDS = 1.0


async def start_parts(parts: Mapping[str, Part], stop: AsyncExitStack) -> None:
    """Start parts, by the feature's name, in their order.

    Args:
        stop: stops those that were started, and the one whose start failed.

    Raises:
        FeatureError: one cannot start; those behind it are not started.
    """
    begun: dict[str, Part] = {}
    stop.push_async_callback(stop_parts, begun)
    for name, part in parts.items():
        begun[name] = part
        with Hook(name, "start"):
            await part.start()


async def stop_parts(parts: Mapping[str, Part]) -> None:
    """Stop parts, by the feature's name: all at the same time, the last one first.

    What raises or takes longer than ``PARTS_STOP_SECONDS`` is logged and not waited for.
    """
    stops = {spawn(_stop(part), f"stop of {name}", awaited=True): name for name, part in reversed([*parts.items()])}
    if not stops:
        return
    try:
        late = (await asyncio.wait(stops, timeout=PARTS_STOP_SECONDS))[1]
        for task, name in stops.items():
            if task in late:
                give_up(task)
                _log.error('feature "%s" did not stop within %g s: going on without it', name, PARTS_STOP_SECONDS)
            elif task.cancelled():
                _log.error('feature "%s" failed to stop: CancelledError', name)
            elif (error := task.exception()) is not None:
                _log.error('feature "%s" failed to stop: %s', name, where(error))
        if late:
            await asyncio.wait(late, timeout=0)  # most end as soon as they are cancelled
    finally:
        for task in stops:
            task.cancel()


async def _stop(part: Part) -> None:
    await part.stop()
