"""Who makes the load: wrk where it can, the bundled generator otherwise and for every fixed rate."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks import wrk
from benchmarks.affinity import pinned
from benchmarks.load import STARTED, Outcome, Plan, dump
from benchmarks.process import ROOT
from benchmarks.traffic import Traffic


class LoadError(Exception):
    """The load could not be made, or came back with other answers than it must."""


@dataclass(frozen=True)
class Target:
    """Where the load goes.

    Attributes:
        unread: what is sent there is not read, so no answers come.
    """

    port: int
    tls: bool = False
    unread: bool = False


@dataclass
class Driver:
    """Makes load from one core.

    Attributes:
        core: None = not pinned.
        folder: for scripts.
        wrk: whether wrk is used where it can be.
    """

    core: int | None
    folder: Path
    wrk: bool = field(default_factory=lambda: wrk.found() is not None)

    def takes_wrk(self, seconds: float) -> bool:
        """Tell whether wrk makes the load of a closed round; it counts whole seconds."""
        return self.wrk and seconds >= 1 and seconds == int(seconds)

    def closed(self, traffic: Traffic, target: Target, connections: int, seconds: float) -> Outcome:
        """Send as fast as the answers come.

        Raises:
            LoadError: a response was not what this traffic must get, or most requests failed.
        """
        if self.takes_wrk(seconds):
            outcome = wrk.run(
                traffic,
                target.port,
                tls=target.tls,
                connections=connections,
                seconds=seconds,
                core=self.core,
                folder=self.folder,
            )
        else:
            outcome = self._bundled(Plan(traffic, target.port, connections, seconds), target)
        return checked(outcome, traffic)

    def send(self, traffic: Traffic, target: Target, connections: int, count: int) -> Outcome:
        """Send exactly ``count`` requests, as fast as the answers come."""
        return checked(self._bundled(Plan(traffic, target.port, connections, 3600, limit=count), target), traffic)

    def offered(self, traffic: Traffic, target: Target, connections: int, seconds: float, rate: float) -> Outcome:
        """Send at a fixed rate, whatever the answers do."""
        return checked(self._bundled(Plan(traffic, target.port, connections, seconds, rate), target), traffic)

    @contextlib.contextmanager
    def beside(
        self, traffic: Traffic, target: Target, connections: int, seconds: float, rate: float
    ) -> Iterator[list[Outcome]]:
        """Offer this traffic while the block runs; the list holds its outcome when it has ended."""
        # Longer than the block: what is measured in it must be under this load to its end.
        child = self._start(Plan(traffic, target.port, connections, seconds + 0.5, rate), target)
        outcomes: list[Outcome] = []
        try:
            assert child.stdout is not None
            if child.stdout.readline().strip() != STARTED:
                raise LoadError("the load generator did not start")
            yield outcomes
            outcome = _outcome(child)
            outcomes.append(outcome if target.unread else checked(outcome, traffic))
        finally:
            if child.poll() is None:
                child.kill()
                child.communicate()

    def _bundled(self, plan: Plan, target: Target) -> Outcome:
        return _outcome(self._start(plan, target))

    def _start(self, plan: Plan, target: Target) -> subprocess.Popen[str]:
        if target.tls:
            raise LoadError("load over TLS needs wrk, and rounds of whole seconds")
        with pinned(self.core):
            child = subprocess.Popen(
                [sys.executable, "-m", "benchmarks.load"],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        assert child.stdin is not None
        child.stdin.write(dump(plan))
        child.stdin.close()
        child.stdin = None  # communicate() would flush it
        return child


def _outcome(child: subprocess.Popen[str]) -> Outcome:
    output, _ = child.communicate()
    if child.returncode:
        raise LoadError("the load generator failed")
    return Outcome(**json.loads(output.rstrip().rpartition("\n")[2]))


def checked(outcome: Outcome, traffic: Traffic) -> Outcome:
    """Return the outcome if every answer is the right one: nothing is measured of a gateway that does other work.

    Raises:
        LoadError: nothing was answered, or there were refusals where there must be none, or answers where there
            must be refusals.
    """
    if not outcome.answers:
        raise LoadError(f"no answers: {outcome.failures}")
    wanted = outcome.answers if traffic.refused else 0
    if outcome.refusals != wanted:
        raise LoadError(f"{outcome.refusals} of {outcome.answers} answers were refusals; it had to be {wanted}")
    return outcome
