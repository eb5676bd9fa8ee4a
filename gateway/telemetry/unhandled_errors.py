"""What is done with errors that nothing has foreseen: a line that quotes nothing, and a count.

This file has the hooks of the process. Libraries, and Python itself, print such
an error with a traceback and with the values at hand, which may be a client's
bytes (CWE-117, CWE-532). Here it is logged by its type and its place, at most
once a second for each hook.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import warnings
from collections import Counter
from typing import Any

from gateway.paced_log import PacedLog
from gateway.tasks import where

_log = logging.getLogger("gateway")

#: Errors so far, by the hook that got them: ``event_loop``, ``unraisable``, ``thread`` or ``warning``.
counts: Counter[str] = Counter()

#: Writes the lines about them.
paced = PacedLog(_log)


def install() -> None:
    """Set the hooks of this process; the event loop's is ``loop_failed``."""
    sys.unraisablehook = _unraisable
    threading.excepthook = _thread_failed
    warnings.showwarning = _warned
    logging.raiseExceptions = False  # a line that cannot be written is not worth a traceback


def loop_failed(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Count and log an error that the event loop could not deliver (``loop.set_exception_handler``)."""
    del loop
    error = context.get("exception")
    # Not the message: it quotes the arguments of a callback, which may be a client's bytes.
    _report("event_loop", where(error) if isinstance(error, BaseException) else "without an exception")


def _unraisable(found: sys.UnraisableHookArgs) -> None:
    _report("unraisable", where(found.exc_value) if found.exc_value is not None else found.exc_type.__name__)


def _thread_failed(found: threading.ExceptHookArgs) -> None:
    if found.exc_type is not SystemExit:
        _report("thread", where(found.exc_value) if found.exc_value is not None else found.exc_type.__name__)


def _warned(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, file: Any = None, line: Any = None
) -> None:
    del message, file, line
    _report("warning", f"{category.__name__} at {filename.rpartition('/')[2]}:{lineno}")


def _report(hook: str, place: str) -> None:
    counts[hook] += 1
    paced.write(logging.ERROR, hook, "unexpected error in %s: %s", hook, place)
