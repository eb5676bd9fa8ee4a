"""``gateway/features/abuse_watch/windows.py``: who is found, who never is, and in which memory."""

from __future__ import annotations

import pickle

from hypothesis import given
from hypothesis import strategies as st

from gateway.features.abuse_watch.windows import Bursts, Varieties

START = 1000.0


def test_a_burst_is_more_than_so_many() -> None:
    bursts = Bursts(5, 60, 100)
    assert [bursts.too_many(b"a", START) for _ in range(7)] == [False] * 5 + [True] * 2
    assert not bursts.too_many(b"b", START)
    assert not bursts.too_many(b"a", START + 12)
    assert bursts.too_many(b"a", START + 12)
    assert len(bursts) == 2


MOMENTS = st.lists(st.floats(0, 200), min_size=1, max_size=80).map(sorted)


def within(moments: list[float], seconds: float) -> int:
    return max(sum(start <= moment < start + seconds for moment in moments) for start in moments)


@given(MOMENTS, st.integers(1, 10))
def test_whoever_keeps_to_the_number_in_every_window_is_never_found(moments: list[float], most: int) -> None:
    bursts = Bursts(most, 60, 100)
    found = [moment for moment in moments if bursts.too_many(b"a", START + moment)]
    if within(moments, 60.001) <= most:
        assert not found
    if within(moments, 60) > 2 * most:
        assert found


def test_varieties_are_different_things_within_the_window() -> None:
    varieties = Varieties(3, 60, 100)
    assert not any(varieties.too_many(b"a", b"same", START + second) for second in range(100))
    assert not any(varieties.too_many(b"a", b"%d" % thing, START + 100) for thing in range(2))
    assert varieties.too_many(b"a", b"one more", START + 100)
    assert not varieties.too_many(b"a", b"anew", START + 100)  # a key that was found begins anew


def test_things_seen_before_the_window_do_not_count() -> None:
    varieties = Varieties(3, 60, 100)
    for number in range(50):
        assert not varieties.too_many(b"a", b"%d" % number, START + number * 20)


@given(st.lists(st.tuples(st.floats(0, 30), st.integers(0, 6)), max_size=80), st.integers(1, 5))
def test_varieties_are_counted_exactly(seen: list[tuple[float, int]], most: int) -> None:
    """Against the model: all moments of all things since the last find."""
    varieties, now, told = Varieties(most, 60, 100), START, list[tuple[float, int]]()
    for step, thing in seen:
        now += step
        told.append((now, thing))
        last = {known: max(moment for moment, one in told if one == known) for _, known in told}
        too_many = sum(moment > now - 60 for moment in last.values()) > most
        assert varieties.too_many(b"a", b"%d" % thing, now) is too_many
        if too_many:
            told.clear()


def test_memory_has_a_bound_whatever_comes() -> None:
    """CWE-770: keys and things come from clients."""
    bursts, varieties = Bursts(5, 60, 50), Varieties(4, 60, 50)
    for number in range(10_000):
        bursts.too_many(b"%d" % number, START)
        varieties.too_many(b"one", b"%d" % number, START)
        varieties.too_many(b"%d" % (number // 3), b"%d" % number, START)
    assert len(bursts) == 50
    assert len(varieties) in (49, 50)  # a key that was found is forgotten


def test_of_a_key_no_more_things_are_kept_than_are_not_too_many() -> None:
    """However many there are in one moment."""
    varieties, sizes = Varieties(4, 60, 50), []
    for number in range(1000):
        varieties.too_many(b"one", b"%05d" % number, START)
        sizes.append(len(pickle.dumps(varieties)))  # all that it holds
    assert max(sizes) == max(sizes[:4])
