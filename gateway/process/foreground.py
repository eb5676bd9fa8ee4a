"""The process of a gateway in the foreground: its log, its signals, its exit code.

This file has what surrounds a running gateway; the gateway itself is
``app.py``'s, and several processes are ``supervisor.py``'s.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
import ssl
import sys
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import uvloop

from gateway.app import GatewayApp
from gateway.process.open_files import fit_open_files
from gateway.process.standard_streams import drop_unwritten
from gateway.server.aiohttp_lane.protocol import PurePythonParserError
from gateway.server.sockets.listen import shown_addresses
from gateway.settings.feature_faults import FeatureError
from gateway.settings.tables.root import Settings
from gateway.tasks import given_up
from gateway.telemetry import unhandled_errors as last_resort

_log = logging.getLogger("gateway")

#: Exit codes of ``gateway run``.
OK, FAILED = 0, 1

_STOPPING = (signal.SIGTERM, signal.SIGINT)


def run_alone(settings: Settings) -> int:
    """Run the gateway in this process, in the foreground, until SIGTERM or SIGINT; return the exit code."""
    configure_logging(settings.server.log_level)
    return in_foreground(_serve(settings))


def configure_logging(level: str, who: str = "") -> None:
    """Write the gateway's own messages to standard error.

    Args:
        level: the least severity.
        who: which of several processes this is.
    """
    logging.basicConfig(
        stream=sys.stderr,
        level=level.upper(),
        format=f"%(asctime)s %(levelname)s %(name)s: {who}{': ' if who else ''}%(message)s",
    )
    # Third-party debug lines may quote header fields: they are kept out at every level.
    for name in ("aiohttp", "charset_normalizer"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # Under PYTHONASYNCIODEBUG the event loop quotes what slow callbacks were called with. Its errors come another way.
    logging.getLogger("asyncio").setLevel(logging.CRITICAL + 1)


def in_foreground(work: Coroutine[Any, Any, int]) -> int:
    """Run ``work`` to its end and return its exit code, or ``FAILED`` and say why when something cannot start."""
    code = FAILED
    last_resort.install()
    with _start_faults_logged(), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.get_loop().set_exception_handler(last_resort.loop_failed)
        with _start_faults_logged():
            code = runner.run(work)
        if given_up:
            # An orderly end of the event loop, or of the process, would wait for them.
            drop_unwritten()
            os._exit(code)
    return code


@contextlib.contextmanager
def _start_faults_logged() -> Iterator[None]:
    """Log what keeps a gateway from starting, and go on behind the block."""
    try:
        yield
    except PurePythonParserError as error:
        _log.error("%s", error)
    except (OSError, ssl.SSLError, FeatureError) as error:
        _log.error("cannot start: %s", error)


def calm_collector() -> None:
    """Let Python's garbage collector look less often; to be called once the gateway has started.

    Each verified token leaves a dozen objects that live for minutes: by default the collector walks over all of
    them every few hundred tokens, which costs a tenth of the verification. What was made so far lives as long as
    the process. Cycles, which requests leave only when something fails, are still found.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 10, 20)


async def _serve(settings: Settings) -> int:
    app = GatewayApp(fit_open_files(settings))
    stopping = asyncio.Event()
    on_signals(stopping, lambda: os._exit(FAILED))
    await app.start()
    calm_collector()
    _log.info(
        "listening on %s, admin on port %s", shown_addresses(settings.server.addresses, app.ports), app.admin_port
    )
    try:
        await stopping.wait()
        _log.info("draining for up to %g s", settings.server.drain_seconds)
        await app.drain()
    finally:
        await app.stop()
    deaf()
    _log.info("stopped")
    if app.log_stuck:
        # Its thread holds standard output, which an orderly end of the process would wait for.
        os._exit(OK)
    drop_unwritten()
    return OK


def on_signals(stopping: asyncio.Event, at_once: Callable[[], None]) -> None:
    """First SIGTERM or SIGINT: drain. Second one: leave at once (R372). SIGHUP: nothing."""
    loop = asyncio.get_running_loop()

    def received() -> None:
        if stopping.is_set():
            at_once()
        stopping.set()

    for number in _STOPPING:
        loop.add_signal_handler(number, received)
    loop.add_signal_handler(signal.SIGHUP, _log.warning, "SIGHUP ignored: restart to load a changed configuration")


def deaf() -> None:
    """From here to the end of the process a signal has nothing left to end; it must not become the exit code.

    To block them would not do: a thread of the event loop's would get them.
    """
    loop = asyncio.get_running_loop()
    for number in (*_STOPPING, signal.SIGHUP):
        loop.remove_signal_handler(number)
        signal.signal(number, signal.SIG_IGN)
