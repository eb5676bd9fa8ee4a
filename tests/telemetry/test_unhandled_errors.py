"""Errors that nothing has foreseen: counted, logged by their place, never quoted (R432)."""

from __future__ import annotations

import asyncio
import gc
import logging
import sys
import threading
import warnings
from collections.abc import Iterator

import pytest

from gateway.paced_log import PacedLog
from gateway.telemetry import unhandled_errors as last_resort
from tests.support.clock import FakeClock

SECRET = "the client's own words"


@pytest.fixture(autouse=True)
def _hooks(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Set the hooks for one test."""
    for module, name in ((sys, "unraisablehook"), (threading, "excepthook"), (warnings, "showwarning")):
        monkeypatch.setattr(module, name, getattr(module, name))
    monkeypatch.setattr(logging, "raiseExceptions", True)
    monkeypatch.setattr(last_resort, "paced", PacedLog(logging.getLogger("gateway"), FakeClock().monotonic))
    last_resort.counts.clear()
    last_resort.install()
    yield
    last_resort.counts.clear()


@pytest.mark.rule("R432")
def test_a_thread_that_ends_by_itself_is_not_an_error() -> None:
    """As Python does (``threading.excepthook``)."""
    thread = threading.Thread(target=sys.exit)
    thread.start()
    thread.join()
    assert not last_resort.counts


class Broken:
    """Cannot even end."""

    def __del__(self) -> None:
        raise ValueError(SECRET)


def _unraisable() -> None:
    Broken()
    gc.collect()


def _thread() -> None:
    def work() -> None:
        raise ValueError(SECRET)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()


def _warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        last_resort.install()  # pytest has set its own hook
        warnings.warn(SECRET, UserWarning, stacklevel=1)


def _event_loop() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(last_resort.loop_failed)

        def fail(data: str) -> None:
            raise ValueError(data)

        loop.call_soon(fail, SECRET)
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    asyncio.run(main())


@pytest.mark.parametrize(
    ("cause", "hook", "place"),
    [
        (_unraisable, "unraisable", "ValueError at Broken.__del__"),
        (_thread, "thread", "ValueError at _thread.<locals>.work"),
        (_warning, "warning", "UserWarning at test_unhandled_errors.py"),
        (_event_loop, "event_loop", "ValueError at _event_loop.<locals>.main.<locals>.fail"),
    ],
)
@pytest.mark.rule("R432")
def test_an_error_is_logged_by_its_place_and_counted(
    cause: object, hook: str, place: str, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line, however often it comes; nothing else on standard error."""
    assert callable(cause)
    with caplog.at_level(logging.ERROR, "gateway"):
        for _ in range(3):
            cause()
    assert last_resort.counts == {hook: 3}
    assert len([record for record in caplog.records if place in record.getMessage()]) == 1
    assert SECRET not in caplog.text
    assert capsys.readouterr().err == ""
