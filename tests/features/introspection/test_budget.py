"""Slots for introspection requests, and the budget for made-up tokens."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.features.introspection.budget import Gate
from tests.support.clock import FakeClock


@pytest.mark.rule("R125")
def test_places_are_bounded_and_a_quarter_is_for_tokens_that_were_good() -> None:
    gate = Gate(8, 0, FakeClock())
    assert [gate.enter(known=False) for _ in range(7)] == [True] * 6 + [False]
    assert [gate.enter(known=True) for _ in range(3)] == [True, True, False]
    assert (gate.taken, gate.refusals) == (8, 2)
    gate.leave(known=False, good=False)
    assert not gate.enter(known=False)
    assert gate.enter(known=True)


def test_one_place_is_for_everybody() -> None:
    gate = Gate(1, 0, FakeClock())
    assert gate.enter(known=False)
    assert not gate.enter(known=True)


def ask(gate: Gate, count: int, *, good: bool = False, known: bool = False) -> int:
    """Send so many introspection requests one after the other; return how many were begun."""
    begun = 0
    for _ in range(count):
        if gate.enter(known=known):
            begun += 1
            gate.leave(known=known, good=good)
    return begun


@pytest.mark.rule("R125")
def test_budget_is_spent_by_what_leads_to_nothing_and_comes_back_with_time() -> None:
    clock = FakeClock()
    gate = Gate(1000, 10, clock)
    assert ask(gate, 1000, good=True) == 1000
    assert ask(gate, 20) == 10
    assert gate.closed()
    assert (ask(gate, 5, good=True), ask(gate, 5, known=True)) == (0, 5)
    clock.jump(0.1)
    assert not gate.closed()
    assert ask(gate, 20) == 1
    clock.jump(1000)
    assert ask(gate, 20) == 10


def test_less_than_one_a_second_is_one_at_first() -> None:
    clock = FakeClock()
    gate = Gate(10, 0.1, clock)
    assert ask(gate, 3) == 1
    clock.jump(10.1)
    assert ask(gate, 3) == 1


def test_no_budget_is_no_limit() -> None:
    assert ask(Gate(10, 0, FakeClock()), 1000) == 1000


@pytest.mark.rule("R125")
def test_after_a_start_all_places_are_for_tokens_that_nobody_knows_yet() -> None:
    """They turn out good, and cost nothing of the budget, which is smaller than their number."""
    gate = Gate(400, 10, FakeClock())
    assert [gate.enter(known=False) for _ in range(300)] == [True] * 300
    for _ in range(300):
        gate.leave(known=False, good=True)
    assert not gate.closed()


@pytest.mark.rule("R125")
def test_in_a_flood_no_more_run_than_may_be_wasted() -> None:
    """What the last ones came to is expected of those that run."""
    clock = FakeClock()
    gate = Gate(400, 10, clock)
    for _ in range(100):
        clock.jump(1)
        ask(gate, 10)
    clock.jump(1)
    begun = sum(gate.enter(known=False) for _ in range(100))
    assert 9 <= begun <= 11


@pytest.mark.rule("R125")
def test_closed_gate_says_for_how_long_it_is_at_least() -> None:
    """A flood need not ask again and again; no answer is older than a moment."""
    clock = FakeClock()
    gate = Gate(10, 100, clock)
    ask(gate, 100)
    assert gate.closed()
    assert 0 < gate.closed_until - clock.monotonic() <= 0.01
    ask(gate, 1)
    clock.jump(0.011)
    assert clock.monotonic() >= gate.closed_until
    assert not gate.closed()
    slow = Gate(10, 0.001, clock)
    ask(slow, 1)
    assert slow.closed()
    assert slow.closed_until - clock.monotonic() <= 0.05


@given(st.lists(st.tuples(st.sampled_from(["known", "new", "good", "bad", "time"]), st.floats(0, 2))))
@pytest.mark.rule("R125")
def test_no_order_of_events_opens_more_places_or_a_larger_budget(events: list[tuple[str, float]]) -> None:
    """In whatever order introspection requests begin and end."""
    clock = FakeClock()
    gate = Gate(5, 3, clock)
    inside: list[bool] = []
    useless, elapsed = 0, 0.0
    for event, number in events:
        if event == "time":
            clock.jump(number)
            elapsed += number
        elif event in ("known", "new"):
            known = event == "known"
            if gate.enter(known=known):
                inside.append(known)
        elif inside:
            known = inside.pop(int(number) % len(inside))
            gate.leave(known=known, good=event == "good")
            useless += event != "good" and not known
        assert gate.taken == len(inside) <= 5
        assert useless <= 3 + 3 * elapsed + 4  # those that ran when it was spent
