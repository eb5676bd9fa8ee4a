"""What is known of the clock of Redis."""

from __future__ import annotations

import pytest

from gateway.store.answers import OddAnswerError
from gateway.store.store_clock import StoreClock
from tests.support.clock import FakeClock


@pytest.mark.rule("R443")
def test_the_clock_goes_on_between_samples_and_both_sides_of_the_truth_are_known() -> None:
    """By the monotonic clock; a step of this machine's own changes nothing."""
    clock = FakeClock(5000.0)
    there = StoreClock(clock.monotonic)
    assert (there.not_after, there.not_before) == (None, None)
    asked_at = clock.monotonic()
    clock.jump(0.5)
    there.sample([b"1700000000", b"250000"], asked_at)
    clock.step_wall(90)
    clock.jump(10)
    assert there.not_after == pytest.approx(1_700_000_010.25)
    assert there.not_before == pytest.approx(1_700_000_010.75)


@pytest.mark.parametrize("answer", [None, b"PONG", [], [b"1"], [b"1", b"-2"], [1, 2], [b"x", b"1"], [b"1" * 16, b"1"]])
@pytest.mark.rule("R435")
def test_another_answer_is_none(answer: object) -> None:
    there = StoreClock(FakeClock().monotonic)
    with pytest.raises(OddAnswerError):
        there.sample(answer, 0.0)
    assert there.not_after is None
