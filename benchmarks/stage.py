"""Everything that runs during a scenario: the service, and each gateway that is measured, on their cores."""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks import affinity
from benchmarks.drive import Driver, Target
from benchmarks.peers.base import Peer, Place, Setup
from benchmarks.process import Process, accepts
from benchmarks.prove import prove, serves
from benchmarks.tokens import CACHE, material
from benchmarks.upstream import Upstream
from tests.support.certificates import Certificate, authority
from tests.support.ports import free_port


@dataclass(frozen=True)
class Subject:
    """A gateway that runs.

    Attributes:
        ready_seconds: from its start to its first answer to a good token.
    """

    process: Process
    target: Target
    ready_seconds: float


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
        target, token = Target(place.port, setup.tls), keys.token()
        begun = time.perf_counter()
        with Process(command, folder / "log", core, peer.environment()) as process:
            process.wait_until(lambda: accepts(place.port) and serves(target, token), 0.002)
            ready = time.perf_counter() - begun
            prove(peer.title, target, keys, checks_tokens=peer.checks_tokens)
            yield Subject(process, target, ready)

    def _service(self, setup: Setup) -> int:
        """Return the port of a service on the load's core, or of one that is as free as the gateway."""
        if setup.pinned:
            return self._upstream.port
        if self._free_upstream is None:
            self._free_upstream = Upstream(self._folder / "free-upstream", None)
        return self._free_upstream.port


@contextlib.contextmanager
def stage(cache: Path = CACHE) -> Iterator[Stage]:
    """Set a stage up in a temporary folder, and take it down."""
    with tempfile.TemporaryDirectory(prefix="gateway-bench-") as name:
        built = Stage(Path(name), affinity.plan(), cache)
        try:
            yield built
        finally:
            built.close()
