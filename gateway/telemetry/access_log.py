"""The access log: one line a request, written without ever making a request wait.

Collects what has finished, renders some lines together, and hands them to the writer's thread a few times a second, or
when they are many. What a line says is ``log_line.py``'s, the thread ``log_writer.py``'s. The danger is an output that
is not read: what waits for it is bounded, and what is dropped is counted.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from typing import Literal, TextIO

from gateway.clock import Clock
from gateway.tasks import note_failure
from gateway.telemetry.log_line import LogLine
from gateway.telemetry.record import Record

#: Log text kept in memory while standard output is blocked; beyond it lines are dropped and counted.
MAX_BUFFERED = 8 * 1024 * 1024

#: Seconds that a line waits for others at most, and characters of lines that are written without waiting for more.
COLLECT_SECONDS, COLLECT_CHARS = 0.2, 128 * 1024

#: Requests whose lines are rendered together: that costs a third less than one line among the work on each request,
#: which pushes its code and data out of the processor's caches.
RENDERED_TOGETHER = 32


class AccessLog:
    """Collects the lines of finished requests and has them written.

    While the reader of standard output is stuck, up to ``MAX_BUFFERED`` characters
    wait, and later lines are dropped and counted. The collection is touched
    by the loop's thread only: the other one gets a finished list.

    Args:
        form: ``json``, ``text`` or ``off``.
        out: where the lines go.
        clock: the time in each line.
        run: hands a blocking call to a thread; its callback runs on the loop afterwards.
        later: calls something on the loop after so many seconds. Without it, each line is written at once.

    Attributes:
        dropped: lines that were not written.
        enabled: whether anything is written at all.
    """

    def __init__(
        self,
        form: Literal["json", "text", "off"],
        out: TextIO,
        clock: Clock,
        run: Callable[[Callable[[], None], Callable[[], None]], None] | None = None,
        later: Callable[[float, Callable[[], None]], object] | None = None,
    ) -> None:
        self.dropped = 0
        self.enabled = form != "off"
        self._render = LogLine(form).render if form != "off" else None
        self._out = out
        self._wall = clock.wall
        self._run = run
        self._later = later
        self._finished: list[tuple[Record, float, float]] = []  # and when
        self._lines: list[str] = []
        self._waiting = 0  # characters of these
        self._handed = 0  # characters of those that are being written
        self._timed = False  # the lines are written when a timer ends
        self._due = False  # they are written when the writer has ended
        self._writing = False
        self._lost = 0

    def write(self, record: Record, seconds: float) -> None:
        """Add the line of a finished request.

        Args:
            record: the request.
            seconds: what it took.
        """
        if self._render is None:
            return
        finished = self._finished
        finished.append((record, seconds, self._wall()))
        if len(finished) >= RENDERED_TOGETHER or self._later is None:
            self._render_finished()
            if self._waiting >= COLLECT_CHARS or self._later is None:
                self.flush()
        if not self._timed and self._later is not None:
            self._timed = True
            self._later(COLLECT_SECONDS, self._time_over)

    def _render_finished(self) -> None:
        """Render the lines of requests that have finished, one after the other."""
        finished, self._finished = self._finished, []
        render, lines = self._render, self._lines
        assert render is not None
        for record, seconds, wall in finished:
            if self._waiting + self._handed > MAX_BUFFERED:
                self.dropped += 1
                continue
            try:
                line = render(record, seconds, wall)
            except Exception as error:  # the other lines are written all the same
                self.dropped += 1
                note_failure("access log", error)
                continue
            lines.append(line)
            self._waiting += len(line)

    def flush(self) -> None:
        """Have every collected line written, as soon as the writer has ended what it writes."""
        if self._finished:
            self._render_finished()
        if self._writing:
            self._due = True
        elif self._lines:
            self._hand_over()

    def _time_over(self) -> None:
        self._timed = False
        self.flush()

    def _hand_over(self) -> None:
        """Write every collected line in one go."""
        lines, self._lines = self._lines, []
        self._handed, self._waiting = self._waiting, 0
        self._writing, self._due = True, False
        work = functools.partial(self._put, lines)
        if self._run is None:
            work()
            self._written()
        else:
            self._run(work, self._written)

    def _put(self, lines: list[str]) -> None:
        self._lost = len(lines)
        # An output that is closed or full is no fault: requests are still served.
        with contextlib.suppress(OSError, ValueError):
            self._out.write("".join(lines))
            self._out.flush()
            self._lost = 0

    def _written(self) -> None:
        self._writing = False
        self._handed = 0
        self.dropped += self._lost
        self._lost = 0
        if self._due and self._lines:
            self._hand_over()
