"""A connection that was answered is read on for a while, and then it is closed."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any, cast

import pytest

from gateway.server.sockets.lingering import (
    MAX_LINGERING_DRAINING_SECONDS,
    MAX_LINGERING_SECONDS,
    READ_PAUSE_SECONDS,
    SILENCE,
    Lingering,
)


class Timer:
    """A call in the future, on a loop that a test moves."""

    def __init__(self, when: float, work: Any) -> None:
        self.when, self.work = when, work
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class Loop:
    """The parts of an event loop that are about time."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.timers: list[Timer] = []

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, work: Any) -> Timer:
        self.timers.append(Timer(when, work))
        return self.timers[-1]

    def move(self, seconds: float) -> None:
        """Let time pass, and what is due happen."""
        end = self.now + seconds
        while due := sorted(
            (one for one in self.timers if not one.cancelled and one.when <= end), key=lambda t: t.when
        ):
            self.timers.remove(due[0])
            self.now = max(self.now, due[0].when)
            due[0].work()
        self.now = end


class Transport:
    """A connection: what is done to it."""

    def __init__(self, *, half: bool = True) -> None:
        self.half, self.done = half, []  # type: tuple[bool, list[str]]
        self.reading = True
        self.lost = False

    def can_write_eof(self) -> bool:
        return self.half

    def write_eof(self) -> None:
        self.done.append("end of sending")
        if self.lost:
            raise OSError(107, "Transport endpoint is not connected")

    def close(self) -> None:
        self.done.append("closed")

    def is_closing(self) -> bool:
        return "closed" in self.done

    def pause_reading(self) -> None:
        assert self.reading
        self.reading = False

    def resume_reading(self) -> None:
        assert not self.reading
        self.reading = True


@pytest.fixture
def loop(monkeypatch: pytest.MonkeyPatch) -> Iterator[Loop]:
    made = Loop()
    monkeypatch.setattr("gateway.server.sockets.lingering.asyncio.get_running_loop", lambda: made)
    yield made
    assert not [timer for timer in made.timers if not timer.cancelled], "a timer is left"


def begun(half: bool = True) -> tuple[Lingering, Transport]:
    transport = Transport(half=half)
    return Lingering(cast(asyncio.Transport, transport)), transport


def test_nothing_is_read_for_a_moment_after_each_piece(loop: Loop) -> None:
    """CWE-400: clients that are refused while they send as fast as they can take no time of others."""
    lingering, transport = begun()
    for _ in range(3):
        lingering.heard()
        lingering.heard()  # what was under way already
        assert not transport.reading
        loop.move(READ_PAUSE_SECONDS / 2)
        assert not transport.reading
        loop.move(READ_PAUSE_SECONDS)
        assert transport.reading
    lingering.heard()
    lingering.stop()
    loop.move(1)
    assert not transport.reading


def test_sending_ends_at_once_and_a_silent_client_is_closed_after_a_while(loop: Loop) -> None:
    """RFC 9112 section 9.6: the client sees the end of the answer first."""
    _, transport = begun()
    assert transport.done == ["end of sending"]
    loop.move(SILENCE - 0.1)
    assert transport.done == ["end of sending"]
    loop.move(0.2)
    assert transport.done == ["end of sending", "closed"]


def test_client_that_has_left_is_no_fault(loop: Loop) -> None:
    """Asyncio's own loop raises where uvloop reports it later, and its handler would write a traceback."""
    transport = Transport()
    transport.lost = True
    Lingering(cast(asyncio.Transport, transport))
    loop.move(SILENCE + 0.1)
    assert transport.done == ["end of sending", "closed"]


def test_client_that_goes_on_sending_is_read_on_but_not_for_ever(loop: Loop) -> None:
    """CWE-400: a byte now and then does not keep a connection."""
    one, transport = begun()
    for _ in range(int(MAX_LINGERING_SECONDS / (SILENCE - 1))):
        loop.move(SILENCE - 1)
        one.heard()
        assert transport.done == ["end of sending"]
    loop.move(MAX_LINGERING_SECONDS % (SILENCE - 1) + 0.1)
    assert transport.done == ["end of sending", "closed"]


def test_sending_over_tls_cannot_end_alone(loop: Loop) -> None:
    _, transport = begun(half=False)
    loop.move(SILENCE + 0.1)
    assert transport.done == ["closed"]


def test_gateway_on_its_way_out_waits_less_long(loop: Loop) -> None:
    one, transport = begun()
    one.hurry()
    for _ in range(20):
        loop.move(MAX_LINGERING_DRAINING_SECONDS / 20)
        one.heard()
    loop.move(0.1)
    assert transport.done[-1] == "closed"


def test_nothing_happens_once_it_is_stopped(loop: Loop) -> None:
    one, transport = begun()
    one.stop()
    one.stop()
    loop.move(2 * MAX_LINGERING_SECONDS)
    assert transport.done == ["end of sending"]
