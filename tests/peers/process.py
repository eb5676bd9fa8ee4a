"""Starting and stopping one peer's process: nothing else lives here.

A process is addressed by its own id only, its output goes to a file, and the
way out of the context ends it whatever happened inside.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

#: Seconds for a peer to start, and to end after it was asked to.
PATIENCE = 20.0


class Process:
    """One child process; ``async with`` starts and ends it.

    Args:
        command: the program and its arguments.
        log: the file that gets its standard output and error.
        environment: added to the environment of the tests.
    """

    def __init__(self, command: Sequence[str | Path], log: Path, environment: Mapping[str, str] | None = None) -> None:
        self._command = [str(part) for part in command]
        self._log = log
        self.environment = {**os.environ, **(environment or {})}
        self._child: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start the program; its standard input is a pipe that closes when the tests end."""
        with self._log.open("wb") as output:
            self._child = await asyncio.create_subprocess_exec(
                *self._command, env=self.environment, stdin=asyncio.subprocess.PIPE, stdout=output, stderr=output
            )

    @property
    def pid(self) -> int:
        """The program's process id."""
        assert self._child is not None
        return self._child.pid

    @property
    def running(self) -> bool:
        """Whether the program was started and has not ended."""
        return self._child is not None and self._child.returncode is None

    async def wait_until(self, ready: Callable[[], bool]) -> None:
        """Return once ``ready()`` is true.

        Raises:
            RuntimeError: the program ended, or did not become ready in ``PATIENCE``; with its output.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + PATIENCE
        while not ready():
            if self._child is None or self._child.returncode is not None or loop.time() > deadline:
                raise RuntimeError(f"{self._command[0]} did not start:\n{self.output()}")
            await asyncio.sleep(0.02)

    async def ended_by(self, number: signal.Signals) -> int:
        """Send a signal and return the exit code.

        Raises:
            TimeoutError: the program goes on.
        """
        assert self._child is not None
        self._child.send_signal(number)
        return await asyncio.wait_for(self._child.wait(), PATIENCE)

    async def stop(self) -> None:
        """End the program: politely, then by force."""
        if (child := self._child) is None:
            return
        self._child = None
        if child.returncode is None:
            child.terminate()
        try:
            await asyncio.wait_for(child.communicate(), PATIENCE)
        except TimeoutError:
            child.kill()
            await child.communicate()

    def output(self) -> str:
        """Return what the program has written so far."""
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    async def __aenter__(self) -> Self:
        try:
            await self.start()
        except BaseException:
            await self.stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()
