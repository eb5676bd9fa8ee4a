"""Several workers on one address, and the supervisor that keeps them there.

Manages the life of the workers: how many, when one is replaced, the signals
that end them all, and the exit code. The supervisor serves the admin port and
never touches a request. Workers are processes started afresh, not forked, so
that no thread, lock or event loop is shared. One more process stands by,
already loaded: a dead worker is replaced at once, however long Python takes to
start on a busy machine.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import random
import signal
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeAlias

from gateway.app import draw_pseudonym
from gateway.clock import SystemClock
from gateway.process import foreground
from gateway.process.foreground import FAILED, OK
from gateway.process.worker_pages import Slot, Workers
from gateway.process.worker_process import WorkerProcess
from gateway.server.admin.port import open_admin
from gateway.server.seam.feature import features_of
from gateway.server.sockets.listen import Reservation, SharedAddress, shown_addresses
from gateway.settings.feature_faults import Hook
from gateway.settings.loading import handed_over
from gateway.settings.tables.root import Settings
from gateway.tasks import cancelled, note_failure, spawn, survivable

_log = logging.getLogger("gateway")

StartProcess: TypeAlias = Callable[[Sequence[SharedAddress], str], Awaitable[WorkerProcess]]

#: Most workers that "auto" makes, as many as can be configured.
MAX_WORKERS = 256

#: Delays before a dead worker is replaced, in seconds: the first, and the longest; they double while workers die
#: early.
FIRST_WAIT, LAST_WAIT = 0.1, 5.0

#: A worker that lived as long as this did not die early.
STEADY_SECONDS = 10.0

#: How far apart, on average twice, two workers that start together first ask for keys, and the most that one waits.
FETCH_STEP, FETCH_SPREAD = 0.3, 2.0

#: Random bytes from which all workers make what they must agree on, such as nonces.
SECRET_BYTES = 32

#: What a worker may take beyond ``drain_seconds`` to close what is left, in seconds: more than the parts of features
#: and the last lines of its access log may take together.
WORKER_CLOSING_SECONDS = 3.0


def run_gateway(settings: Settings) -> int:
    """Run the gateway in the foreground until SIGTERM or SIGINT; return the exit code."""
    count = worker_count(settings)
    if count == 1:
        return foreground.run_alone(settings)
    foreground.configure_logging(settings.server.log_level)
    return foreground.in_foreground(_supervise(settings, count))


def worker_count(settings: Settings) -> int:
    """Return how many workers are meant."""
    workers = settings.server.workers
    return min(_cores(), MAX_WORKERS) if workers == "auto" else workers


def _cores() -> int:
    """Return on how many CPU cores this process may run."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Supervisor:
    """Starts the workers, replaces those that end, and ends them all.

    Args:
        settings: for the gateway.
        count: of workers.
        start_process: starts a process that waits for its plan; see ``WorkerProcess.start``.

    Attributes:
        fleet: the workers, as they are.
        up: resolved once every worker has listened: True, or False when one cannot start.
    """

    def __init__(self, settings: Settings, count: int, start_process: StartProcess = WorkerProcess.start) -> None:
        self._settings = settings
        self._start_process = start_process
        self._clock = SystemClock()
        self._secret = os.urandom(SECRET_BYTES).hex()
        self._pseudonym = draw_pseudonym().decode("ascii")
        self.fleet = Workers(tuple(one.name for one in settings.issuers), self._clock, [*map(Slot, range(count))])
        self._stop = contextlib.AsyncExitStack()
        self._keepers: list[asyncio.Task[bool]] = []
        self._spare: asyncio.Task[WorkerProcess] | None = None
        self._ending = asyncio.Event()
        self.up: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    async def start(self) -> None:
        """Open the admin port and begin to start the workers.

        Raises:
            OSError: an address cannot be listened on.
            FeatureError: a feature has no pages to give.
        """
        server = self._settings.server
        self._reservation = await Reservation.make(server.addresses)
        self._stop.callback(self._reservation.remove_files)
        self._stop.callback(self._reservation.close)
        self.ports = self._reservation.ports
        pages = self.fleet.application()
        for feature in features_of(self._settings):
            with Hook(feature.name, "pages"):
                pages.add_routes(feature.pages(self._settings, self._clock, self.fleet.take_revoked))
        self.admin_port = await open_admin(pages, server, self._stop)
        self._keepers = [spawn(self._keep(slot), f"worker {slot.number}") for slot in self.fleet.slots]

    async def drain(self, seconds: float) -> int:
        """Let every worker end its running requests, and return the exit code.

        ``FAILED`` when one had to be killed, or did not end in order.

        Args:
            seconds: how long the requests may take.
        """
        self._end(signal.SIGTERM)
        self._reservation.close()
        allowed = seconds + WORKER_CLOSING_SECONDS
        late = (await asyncio.wait(self._keepers, timeout=allowed))[1]
        if late:
            _log.error("killing %d workers that did not drain within %g s", len(late), allowed)
            self._end(signal.SIGKILL)
        return OK if all(await asyncio.gather(*self._keepers)) and not late else FAILED

    async def stop(self) -> None:
        """End what is left, without mercy."""
        self._end(signal.SIGKILL)
        await asyncio.gather(*self._keepers)
        if self._spare is not None:
            with contextlib.suppress(OSError):
                await (await self._spare).kill()
        await self._stop.aclose()

    def abort(self) -> None:
        """End all workers and this process at once (R372)."""
        self._end(signal.SIGKILL)
        os._exit(FAILED)

    def _end(self, number: signal.Signals) -> None:
        self.fleet.draining = True
        self._ending.set()
        for slot in self.fleet.slots:
            if slot.process is not None:
                slot.process.signal(number)
        if self.fleet.spare is not None:  # it holds a Unix socket open, too
            self.fleet.spare.signal(signal.SIGKILL)

    async def _keep(self, slot: Slot) -> bool:
        """Keep one slot filled until the end; return whether its last process ended in order."""
        early = 0
        while True:
            began = self._clock.monotonic()
            code, served = await self._lived(slot)
            if self.fleet.draining:
                return code == OK or not served  # one that never listened held nothing
            if code > 0 and not self.up.done():
                self.up.set_result(False)
                return False
            lived = self._clock.monotonic() - began
            early = 0 if lived >= STEADY_SECONDS else early
            wait = min(LAST_WAIT, FIRST_WAIT * 2.0**early)
            early += 1
            slot.restarts += 1
            how = f"signal {-code}" if code < 0 else f"exit code {code}"
            _log.warning("worker %d ended after %.1f s (%s); restarting in %g s", slot.number, lived, how, wait)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._ending.wait()
            if self.fleet.draining:
                return True

    async def _lived(self, slot: Slot) -> tuple[int, bool]:
        """Do ``_live``; whatever goes wrong with it, the process has ended then and the slot is filled again."""
        try:
            return await self._live(slot)
        except BaseException as error:
            if slot.process is not None:
                slot.process.signal(signal.SIGKILL)
                slot.process = None
            if not survivable(error):
                raise
            note_failure("worker", error, str(slot.number))
            return FAILED, True

    async def _live(self, slot: Slot) -> tuple[int, bool]:
        """Fill a slot with one process until that ends; return its exit code and whether it ever listened."""
        try:
            process = await self._take()
        except OSError as error:
            _log.error("worker %d cannot be started: %s", slot.number, error)
            return FAILED, False
        if self.fleet.draining:
            await process.kill()
            return OK, False
        slot.process = process
        slot.began = self._clock.monotonic()
        plan = {**self._plan(slot), "left": await self.fleet.estate(slot)}
        if self.fleet.draining:
            await process.kill()
            return OK, False
        process.begin(plan, self._listening)
        code = await process.ended()
        slot.process = None
        self.fleet.gone.add(process.metrics, gauges=False)
        return code, process.served

    def _plan(self, slot: Slot) -> dict[str, Any]:
        together = slot.restarts == 0
        return {
            "worker": slot.number,
            "settings": handed_over.written(self._settings),
            "listen": [(one.address, one.fileno) for one in self._reservation.shared],
            "secret": self._secret,
            "pseudonym": self._pseudonym,
            "first_wait": random.random() * min(FETCH_SPREAD, FETCH_STEP * slot.number) if together else 0.0,  # noqa: S311
        }

    def _listening(self) -> None:
        """A worker accepts connections. Once all do, one more process is made to stand by."""
        if self.fleet.draining or any(slot.state != "running" for slot in self.fleet.slots):
            return
        if not self.up.done():
            self.up.set_result(True)
        if self._spare is None:
            self._spare = spawn(self._stand_by(), "standby worker", awaited=True)

    async def _stand_by(self) -> WorkerProcess:
        process = await self._start_process(self._reservation.shared, self._settings.listed)
        if self.fleet.draining:
            process.signal(signal.SIGKILL)
        self.fleet.spare = process
        return process

    async def _take(self) -> WorkerProcess:
        """Return a process that waits for its plan: the one that stands by, or a new one."""
        spare, self._spare = self._spare, None
        if spare is not None:
            with contextlib.suppress(OSError):
                process = await spare
                self.fleet.spare = None
                if process.alive:
                    return process
                await process.kill()
        return await self._start_process(self._reservation.shared, self._settings.listed)


async def _supervise(settings: Settings, count: int) -> int:
    supervisor = Supervisor(settings, count)
    stopping = asyncio.Event()
    foreground.on_signals(stopping, supervisor.abort)
    signalled = spawn(stopping.wait(), "signal")
    try:
        await supervisor.start()
        foreground.calm_collector()
        events: list[asyncio.Future[Any]] = [supervisor.up, signalled]
        await asyncio.wait(events, return_when=asyncio.FIRST_COMPLETED)
        if supervisor.up.done():
            if not supervisor.up.result():
                await supervisor.drain(0)  # those that have started stop what they have started
                return FAILED
            listen = shown_addresses(settings.server.addresses, supervisor.ports)
            _log.info("listening on %s, admin on port %s, %d workers", listen, supervisor.admin_port, count)
        await signalled
        _log.info("draining for up to %g s", settings.server.drain_seconds)
        code = await supervisor.drain(settings.server.drain_seconds)
    finally:
        await cancelled(signalled)
        await supervisor.stop()
    foreground.deaf()
    _log.info("stopped")
    return code
