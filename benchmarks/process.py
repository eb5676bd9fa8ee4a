"""One child process: started on a core, waited for, measured, and ended by its own id."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from benchmarks.affinity import pinned

ROOT = Path(__file__).parents[1]

#: Seconds for a process to start, and to end after it was asked to.
PATIENCE = 30.0


class ProcessError(Exception):
    """A process ended, or did not do in time what it was waited for; with what it wrote."""


def accepts(port: int) -> bool:
    """Tell whether a loopback port takes connections."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


class Process:
    """A child process; leaving the ``with`` block ends it.

    Args:
        command: the program and its arguments.
        log: the file that gets its output.
        core: where it and its children run; None = anywhere.
        environment: added to this process's own, without what says how Python is to run: users have not set that.
    """

    def __init__(
        self, command: Sequence[str | Path], log: Path, core: int | None, environment: Mapping[str, str] | None = None
    ) -> None:
        self._name, self._log = str(command[0]), log
        inherited = {name: text for name, text in os.environ.items() if not name.startswith("PYTHON")}
        # Appended to, so that what is an access log, too, can be emptied while it is written.
        with log.open("ab") as output, pinned(core):
            self._child = subprocess.Popen(
                [str(part) for part in command],
                cwd=ROOT,
                env={**inherited, "PYTHONPATH": str(ROOT), **(environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )

    @property
    def pid(self) -> int:
        return self._child.pid

    def wait_until(self, ready: Callable[[], bool], interval: float = 0.02) -> None:
        """Return once ``ready()`` is true.

        Raises:
            ProcessError: the process ended, or time ran out.
        """
        deadline = time.monotonic() + PATIENCE
        while not ready():
            if self._child.poll() is not None or time.monotonic() > deadline:
                text = self._log.read_text("utf-8", "replace")
                raise ProcessError(f"{self._name} did not become ready:\n{text[-2000:]}")
            time.sleep(interval)

    def resident_bytes(self) -> int:
        """Return the resident memory of the process and of all its descendants (Linux)."""
        return sum(map(_resident, family(self.pid)))

    def stop(self) -> None:
        """End the process: politely, then by force."""
        if self._child.poll() is not None:
            return
        self._child.send_signal(signal.SIGTERM)
        try:
            self._child.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def family(pid: int) -> set[int]:
    """Return a process and all its descendants (Linux)."""
    parents = dict(_parents())
    found = {pid}
    while grown := {child for child, parent in parents.items() if parent in found} - found:
        found |= grown
    return found


def _parents() -> list[tuple[int, int]]:
    """Return the id of each process with its parent's."""
    pairs = []
    for folder in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError, IndexError):
            # The name, in parentheses, may hold anything; the parent is the second field after it.
            fields = (folder / "stat").read_text("utf-8", "replace").rpartition(")")[2].split()
            pairs.append((int(folder.name), int(fields[1])))
    return pairs


def _resident(pid: int) -> int:
    with contextlib.suppress(OSError, IndexError, ValueError):
        pages = int(Path(f"/proc/{pid}/statm").read_text("ascii").split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")
    return 0
