"""How many sockets of clients there may be (R431)."""

from __future__ import annotations

import io

import pytest

from gateway.clock import SystemClock
from gateway.server.sockets.slots import Places, lingering_places
from gateway.telemetry.access_log import AccessLog
from gateway.telemetry.counters import Telemetry


def telemetry() -> Telemetry:
    return Telemetry(AccessLog("off", io.StringIO(), SystemClock()))


@pytest.mark.rule("R431")
def test_places_are_counted_and_come_back_once() -> None:
    """A place that is given back twice takes no other one's."""
    counts = telemetry()
    places = Places(counts, 2)
    first, second = places.serve(), places.serve()
    assert first is not None
    assert second is not None
    assert places.serve() is None
    for _ in range(2):
        first.give_back()
    assert counts.connections == 1
    assert places.serve() is not None
    assert places.serve() is None


@pytest.mark.rule("R431")
def test_those_that_linger_have_places_of_their_own() -> None:
    """Fewer, and none of them is one to be served at."""
    counts = telemetry()
    places = Places(counts, 16)
    held = [places.linger() for _ in range(3)]
    assert [place is not None for place in held] == [True, True, False]
    assert (counts.lingering, counts.connections) == (2, 0)
    assert held[0] is not None
    assert held[0].lingering
    held[0].give_back()
    assert counts.lingering == 1


@pytest.mark.parametrize(("connections", "result"), [(1, 1), (8, 1), (66, 8), (10_000, 1250)])
def test_an_eighth_may_linger_beside_those_that_are_served(connections: int, result: int) -> None:
    assert lingering_places(connections) == result
