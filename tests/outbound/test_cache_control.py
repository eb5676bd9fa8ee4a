"""``gateway/outbound/cache_control.py``: the lifetime that an answer claims, within bounds."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.outbound.cache_control import MAX_LIFETIME, MIN_LIFETIME, answered_lifetime


@pytest.mark.parametrize(
    ("cache_control", "age", "lifetime"),
    [
        (["public, max-age=24873"], ["5059"], 19814),
        (["public, max-age=24873"], [], 24873),
        (["max-age=15"], [], 15),
        (["max-age=1"], [], MIN_LIFETIME),
        (["max-age=3293198"], [], MAX_LIFETIME),
        (["max-age=31536000"], [], MAX_LIFETIME),
        (["max-age=99999999999999999999999"], [], MAX_LIFETIME),
        (["max-age=" + "9" * 5000], [], MAX_LIFETIME),
        (["no-cache"], [], MIN_LIFETIME),
        (["no-store, max-age=600"], [], MIN_LIFETIME),
        (["NO-CACHE"], [], MIN_LIFETIME),
        (["max-age=0"], [], MIN_LIFETIME),
        (["max-age=abc"], [], None),
        (["max-age=-5"], [], None),
        (["max-age"], [], None),
        (["max-age=1.5"], [], None),
        (["max-age=\u0665\u0660\u0660"], [], None),
        (["public"], [], None),
        ([""], [], None),
        ([], ["10"], None),
        (['max-age="600"'], [], 600),
        (["MAX-AGE=600"], [], 600),
        (["max-age=600, max-age=60"], [], 60),
        (["max-age=600", "max-age=60"], [], 60),
        (["private", "max-age=600"], [], 600),
        (['ext="a, no-store, max-age=1", max-age=600'], [], 600),
        (['ext="a\\", no-store", max-age=600'], [], 600),
        (['no-cache="set-cookie", max-age=600'], [], 600),
        (["max-age=600"], ["999999"], MIN_LIFETIME),
        (["max-age=600"], ["-100"], 600),
        (["max-age=600"], ["junk"], 600),
        (["max-age=600"], ["100", "junk"], 500),
        (["max-age=600"], ["9" * 5000], MIN_LIFETIME),
    ],
)
@pytest.mark.rule("R159", "R161", "C98")
def test_lifetime_is_max_age_minus_age_within_bounds(
    cache_control: list[str], age: list[str], lifetime: float | None
) -> None:
    assert answered_lifetime(cache_control, age) == lifetime


@given(st.lists(st.text(max_size=80), max_size=3), st.lists(st.text(max_size=20), max_size=2))
@pytest.mark.rule("R159")
def test_any_text_gives_a_bounded_lifetime_or_none(cache_control: list[str], age: list[str]) -> None:
    """Nothing raises, nothing is negative."""
    lifetime = answered_lifetime(cache_control, age)
    assert lifetime is None or MIN_LIFETIME <= lifetime <= MAX_LIFETIME


@pytest.mark.rule("R159")
def test_a_hostile_field_costs_linear_time() -> None:
    """The longest value that the client reads."""
    begin = time.perf_counter()
    for value in ('"' * 8000, '"' + "\\" * 8000, "," * 8000, " " * 8000, "a" * 8000 + '"', "a=" * 4000):
        answered_lifetime([value], [])
    assert time.perf_counter() - begin < 1
