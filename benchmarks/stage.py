"""Everything that runs during a scenario: the service, and each gateway that is measured, on their cores."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks import affinity
from benchmarks.drive import Driver, Target
from benchmarks.peers.base import Peer, Place, Setup, Work
from benchmarks.process import Process, accepts
from benchmarks.prove import prove, prove_forwarding, prove_log, serves
from benchmarks.tokens import CACHE, material
from benchmarks.upstream import Upstream
from tests.support.certificates import Certificate, authority
from tests.support.ports import free_port

#: Bytes that must be free where access logs are kept until the next round.
MIN_ROOM = 2 << 30


@dataclass(frozen=True)
class Subject:
    """A gateway that runs.

    Attributes:
        ready_seconds: from its start to its first answer to a good token.
        access_log: its file.
    """

    process: Process
    target: Target
    ready_seconds: float
    access_log: Path

    def empty_log(self) -> None:
        """Empty the access log, which would fill the memory that it is in; writers append."""
        if self.access_log.exists():
            os.truncate(self.access_log, 0)


class Stage:
    """The service behind the gateways, and what is needed to start them.

    Args:
        folder: an empty one.
    """

    def __init__(self, folder: Path, cores: affinity.Cores, cache: Path) -> None:
        self._folder, self._started = folder, 0
        self.cache = cache
        self.cores = cores
        self._certificate: Certificate = authority(folder / "certificates").sign("bench", "127.0.0.1")
        self.driver = Driver(cores.load, folder)
        self.free_driver = Driver(None, folder, self.driver.wrk)
        self._upstream = Upstream(folder / "upstream", cores.load)
        self._free_upstream: Upstream | None = None

    def close(self) -> None:
        self._upstream.stop()
        if self._free_upstream is not None:
            self._free_upstream.stop()

    def driver_for(self, setup: Setup) -> Driver:
        """Return who makes the load for a gateway that is set up like this."""
        return self.driver if setup.pinned else self.free_driver

    @contextlib.contextmanager
    def running(self, peer: Peer, setup: Setup) -> Iterator[Subject]:
        """Start a gateway, see it do its work, and end it after the block.

        Raises:
            ProcessError: it did not start.
            ProofError: it does other work than the rest.
        """
        self._started += 1
        folder = self._folder / f"subject-{self._started}"
        folder.mkdir()
        keys = material(setup.algorithm, self.cache)
        place = Place(folder, free_port(), self._service(setup), keys, self._certificate)
        command, core = peer.command(setup, place), self.cores.subject if setup.pinned else None
        target, token = Target(peer.port(place), setup.tls), keys.token()
        begun = time.perf_counter()
        with Process(command, place.output, core, peer.environment(place)) as process:
            process.wait_until(lambda: accepts(target.port) and serves(target, token), 0.002)
            subject = Subject(process, target, time.perf_counter() - begun, peer.access_log(place))
            prove(peer.title, target, keys, peer.work)
            if peer.work is not Work.NOTHING:
                prove_forwarding(peer.title, target, token, setup)
                prove_log(peer.title, subject.access_log, setup)
            subject.empty_log()
            yield subject

    def _service(self, setup: Setup) -> int:
        """Return the port of a service on the load's core, or of one that is as free as the gateway."""
        if not setup.pinned and self._free_upstream is None:
            self._free_upstream = Upstream(self._folder / "free-upstream", None)
        service = self._upstream if setup.pinned or self._free_upstream is None else self._free_upstream
        return service.chunked_port if setup.chunked else service.port


def roomy_memory() -> str | None:
    """Return a folder in memory with room for access logs, so that no disk slows a peer down; None without one."""
    folder = Path("/dev/shm")
    if os.access(folder, os.W_OK) and shutil.disk_usage(folder).free > MIN_ROOM:
        return str(folder)
    return None


@contextlib.contextmanager
def stage(cache: Path = CACHE) -> Iterator[Stage]:
    """Set a stage up in a temporary folder, and take it down."""
    with tempfile.TemporaryDirectory(prefix="gateway-bench-", dir=roomy_memory()) as name:
        built = Stage(Path(name), affinity.plan(), cache)
        try:
            yield built
        finally:
            built.close()
