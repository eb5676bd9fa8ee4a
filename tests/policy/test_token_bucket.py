"""``gateway/policy/token_bucket.py``: what a limit lets through, in which memory, and that forgetting gains nothing."""

from __future__ import annotations

import math
import tracemalloc
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.features.rate_limits.limits import compile_limits
from gateway.features.rate_limits.options import RateLimit
from gateway.policy.token_bucket import Barred, Buckets, Level, Limit, level, take

START = 1000.0

#: Part of an interval that rounding may make, at the rates of these tests.
ROUNDING = Fraction(1, 10_000)


def limit(requests: int = 100, seconds: float = 1, **options: Any) -> Limit:
    return compile_limits([RateLimit(requests=requests, seconds=seconds, **options)])[0]


def admitted(buckets: Buckets, moments: Sequence[float], key: bytes = b"k") -> list[float]:
    """Return the moments at which a request was let through."""
    return [moment for moment in moments if take([(buckets, key)], moment)[0].fits]


def most_in(moments: Sequence[float], seconds: float) -> int:
    """Return how many of these moments lie within any window of so many seconds, its ends included."""
    most = start = 0
    for end, moment in enumerate(moments):
        while moment - moments[start] > seconds:
            start += 1
        most = max(most, end - start + 1)
    return most


def near(*levels: Level) -> list[Any]:
    """Return levels whose waits may differ by what a request may come early."""
    return [(one.fits, one.left, pytest.approx(one.wait, abs=1e-5)) for one in levels]


def test_a_hundred_a_second_is_a_hundred_and_ten_at_most_in_any_second() -> None:
    """What the configuration says is what is let through, give or take the burst: also in the first second."""
    buckets = Buckets(limit(100), 100)
    passed = admitted(buckets, [START + number / 1000 for number in range(10_001)])
    by_second = [sum(START + second <= moment < START + second + 1 for moment in passed) for second in range(10)]
    assert all(90 <= count <= 110 for count in by_second), by_second
    assert most_in(passed, 1) <= 110
    assert 1000 <= len(passed) <= 1010


def test_a_pause_gives_back_no_more_than_the_burst() -> None:
    buckets = Buckets(limit(10, 10, burst=3), 100)
    assert len(admitted(buckets, [START] * 5)) == 3
    assert len(admitted(buckets, [START + 0.9] * 5)) == 0
    assert len(admitted(buckets, [START + 1] * 5)) == 1
    assert len(admitted(buckets, [START + 500] * 9)) == 3


LIMITS = st.builds(
    limit,
    st.integers(1, 50),
    st.sampled_from([0.01, 0.5, 1, 3, 60, 3600]),
    burst=st.integers(0, 20),
)
STEPS = st.lists(st.one_of(st.just(0.0), st.floats(0, 3), st.floats(0, 1000)), max_size=60)


@given(LIMITS, STEPS)
def test_no_window_sees_more_than_the_rate_and_the_burst(one: Limit, steps: list[float]) -> None:
    """For every window of any length: at most the burst, and what the rate gives meanwhile."""
    buckets, now, passed = Buckets(one, 100), START, []
    for step in steps:
        now += step * one.interval
        passed += admitted(buckets, [now])
    for first in range(len(passed)):
        for last in range(first, len(passed)):
            window = passed[last] - passed[first]
            assert last - first + 1 <= one.burst + math.floor(window / one.interval + 2e-3)


class Tokens:
    """The model: a bucket of tokens, filled evenly, in exact arithmetic; a request may come a little early."""

    def __init__(self, one: Limit) -> None:
        self.rate = 1 / Fraction(one.interval)
        self.held = self.most = Fraction(one.burst)
        self.at = Fraction(START)
        self.early = min(Fraction(1, 1000), self.rate / 1_000_000)

    def at_moment(self, now: float) -> Fraction:
        """Return what is held at a moment, and what may come early on top of it."""
        self.held = min(self.most, self.held + (Fraction(now) - self.at) * self.rate)
        self.at = Fraction(now)
        return self.held + self.early


@given(LIMITS, STEPS)
def test_a_bucket_does_what_a_bucket_of_tokens_does(one: Limit, steps: list[float]) -> None:
    """Against the model, but within rounding of the moment at which a request would be let through."""
    buckets, model, now = Buckets(one, 100), Tokens(one), START
    for step in steps:
        now += step * one.interval
        held = model.at_moment(now)
        found = take([(buckets, b"k")], now)[0]
        assert found.fits == (held >= 1) or abs(held - 1) < ROUNDING
        model.held -= found.fits
        held -= found.fits
        assert found.left in (math.floor(held - ROUNDING), math.floor(held), math.floor(held + ROUNDING)) or held < 0
        assert found.wait == pytest.approx(
            float((found.left + 1 - held) / model.rate), abs=2 * float(ROUNDING) * one.interval
        )


@given(LIMITS, STEPS)
def test_whoever_waits_as_long_as_is_told_is_let_through(one: Limit, steps: list[float]) -> None:
    buckets, now = Buckets(one, 100), START
    for step in steps:
        now += step * one.interval
        found = take([(buckets, b"k")], now)[0]
        assert (found.left == 0) or found.fits
        if not found.fits:
            assert found.wait > 0
            assert buckets.full_at(b"k", now) <= now + found.wait + one.tolerance + 1e-6 * one.interval


def test_all_limits_let_a_request_through_or_none_counts_it() -> None:
    first, second = Buckets(limit(1, 10), 100), Buckets(limit(1000, 1000, burst=5), 100)
    asked = [(first, b"k"), (second, b"k")]
    assert take(asked, START) == near(Level(True, 0, 10), Level(True, 4, 1))
    assert take(asked, START) == near(Level(False, 0, 10), Level(True, 4, 1))
    assert take(asked, START) == near(Level(False, 0, 10), Level(True, 4, 1))
    assert take(asked, START + 10) == near(Level(True, 0, 10), Level(True, 4, 1))


def test_callers_do_not_share_buckets() -> None:
    buckets = Buckets(limit(1, 10), 100)
    assert [len(admitted(buckets, [START] * 2, key)) for key in (b"a", b"b", b"c")] == [1, 1, 1]


def test_what_is_left_is_told_without_spending_it() -> None:
    one = limit(10, 10, burst=3)
    assert level(one, 0, fits=True) == near(Level(True, 3, 1))[0]
    assert level(one, 0.5, fits=True) == near(Level(True, 2, 0.5))[0]
    assert level(one, 2.5, fits=False) == near(Level(False, 0, 0.5))[0]
    assert level(one, 2.0, fits=False) == near(Level(False, 0, 0))[0]


def test_buckets_that_are_full_again_are_not_kept() -> None:
    buckets = Buckets(limit(1, 1), 1000)
    for number in range(500):
        take([(buckets, b"%d" % number)], START)
    assert len(buckets) == 500
    for number in range(500):
        take([(buckets, b"later %d" % number)], START + 10 + number / 100)
    assert len(buckets) <= 150
    assert buckets.forgotten == 0


def test_a_caller_who_is_not_known_is_no_matter_to_the_table() -> None:
    buckets = Buckets(limit(1, 1), 1000)
    buckets.touch(b"nobody")
    assert len(buckets) == 0


@pytest.mark.rule("R332")
def test_the_table_has_a_bound_and_whoever_was_asked_last_stays() -> None:
    """OWASP API4: an attacker with many addresses cannot make it grow, nor reset those who are asked about."""
    buckets = Buckets(limit(2, 100, burst=2), 100)
    assert len(admitted(buckets, [START] * 3, b"busy")) == 2
    for number in range(1000):
        take([(buckets, b"%d" % number)], START)
        assert not take([(buckets, b"busy")], START)[0].fits
    assert len(buckets) == 100
    assert buckets.forgotten == 901


def test_to_be_forgotten_gains_one_request_for_a_whole_table_of_newcomers() -> None:
    """A client that pushes its own bucket out starts with what was used up, and not with a burst."""
    one = limit(10, 1000, burst=10)
    buckets = Buckets(one, 100)
    assert len(admitted(buckets, [START] * 20, b"mine")) == 10
    for round_ in range(5):
        for number in range(100):
            for _ in range(12):
                take([(buckets, b"%d %d" % (round_, number))], START)
        assert len(admitted(buckets, [START] * 20, b"mine")) <= 1
    # And once there is room again, newcomers have their burst.
    assert len(admitted(buckets, [START + 5000] * 20, b"new")) == 10


def test_memory_of_a_bucket_is_what_the_documentation_says() -> None:
    buckets = Buckets(limit(1, 1000), 20_000)
    tracemalloc.start()
    for number in range(20_000):
        take([(buckets, number.to_bytes(16, "big"))], START + number / 1000)
    size = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert len(buckets) == 20_000
    assert 100 < size / 20_000 <= 250


def test_barred_callers_are_few_and_let_go_in_time() -> None:
    barred = Barred(3)
    for number in range(5):
        barred.put(b"%d" % number, START + 10 + number, START)
    assert len(barred) == 3
    assert [barred.until(b"%d" % number, START) for number in range(5)] == [
        None,
        None,
        *(START + n for n in (12, 13, 14)),
    ]
    assert barred.until(b"2", START + 12) is None
    assert len(barred) == 2
    barred.tidy(START + 13)
    assert len(barred) == 1
    barred.put(b"4", START + 99, START + 13)
    assert barred.until(b"4", START + 98) == START + 99
