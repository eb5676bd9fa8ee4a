"""The thread that writes the access log, so that a blocked standard output blocks nothing else.

This file has the thread. It is a daemon, not one of the event loop's executor:
those are waited for when the process ends, and a reader of standard output that
is stuck would keep a drained gateway from ending.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections.abc import Callable

from gateway.tasks import note_failure

Job = tuple[Callable[[], None], Callable[[], None], asyncio.AbstractEventLoop]


class LogThread:
    """Runs blocking jobs one after the other, in order.

    Attributes:
        stuck: a job had not ended when it was time to stop.
    """

    def __init__(self) -> None:
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._idle = asyncio.Event()
        self._idle.set()
        self._pending = 0
        self.stuck = False
        threading.Thread(target=self._serve, name="access log", daemon=True).start()

    def run(self, work: Callable[[], None], done: Callable[[], None]) -> None:
        """Run ``work`` in the thread and then ``done`` on the calling event loop, also when ``work`` raises."""
        self._pending += 1
        self._idle.clear()

        def ended() -> None:
            try:
                done()
            finally:
                self._pending -= 1
                if not self._pending:
                    self._idle.set()

        self._jobs.put((work, ended, asyncio.get_running_loop()))

    async def stop(self, seconds: float) -> None:
        """Let the jobs end, up to ``seconds``; one that is stuck then is left behind."""
        try:
            async with asyncio.timeout(seconds):
                await self._idle.wait()
        except TimeoutError:
            self.stuck = True
        self._jobs.put(None)

    def _serve(self) -> None:
        while (job := self._jobs.get()) is not None:
            work, ended, loop = job
            try:
                work()
            except BaseException as error:  # the next lines are written all the same
                note_failure("access log", error)
            with contextlib.suppress(RuntimeError):  # the loop has ended in the meantime
                loop.call_soon_threadsafe(ended)
