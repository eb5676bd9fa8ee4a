"""``gateway/features/rate_limits/fields.py``: the fields of draft-ietf-httpapi-ratelimit-headers-11, byte for byte."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.features.rate_limits.fields import limit_field, name, policy_field, retry_after, whole_seconds
from gateway.features.rate_limits.limits import compile_limits
from gateway.features.rate_limits.options import RateLimit
from gateway.policy.token_bucket import Level

TWO = compile_limits([RateLimit(requests=100), RateLimit(requests=1000, seconds=3600, by="claim:tenant")])


def test_policies_are_named_with_quota_and_window() -> None:
    """Section 3: a List of Strings with `q` and `w`."""
    assert policy_field(TWO) == (b"RateLimit-Policy", b'"sub";q=100;w=1, "claim:tenant";q=1000;w=3600')


def test_a_window_that_is_no_whole_number_of_seconds_is_not_told() -> None:
    """Section 3.1.3: sub-second precision is not supported."""
    limits = compile_limits([RateLimit(requests=3, seconds=0.5), RateLimit(requests=3, seconds=90.0)])
    assert policy_field(limits)[1] == b'"sub";q=3, "sub-2";q=3;w=90'


def test_what_is_left_is_told_in_whole_requests_and_seconds_rounded_up() -> None:
    levels = [Level(True, 42, 0.001), Level(True, 7, 3.6)]
    assert limit_field(TWO, levels) == (b"RateLimit", b'"sub";r=42;t=1, "claim:tenant";r=7;t=4')


def test_retry_after_is_the_longest_wait_of_those_that_refuse() -> None:
    """Section 6: not earlier than the end of any effective window of theirs; RFC 9110 section 10.2.3."""
    assert retry_after([Level(False, 0, 1.2), Level(True, 3, 99), Level(False, 0, 7.01)]) == 8
    assert retry_after([Level(False, 0, 0.0)]) == 1
    assert retry_after([Level(True, 0, 9)]) == 1


@pytest.mark.parametrize(("seconds", "told"), [(0, 1), (0.2, 1), (1, 1), (1.0001, 2), (59.5, 60)])
def test_times_are_rounded_up(seconds: float, told: int) -> None:
    assert whole_seconds(seconds) == told


@pytest.mark.parametrize(
    ("claim", "text"),
    [
        ("tenant", b'"claim:tenant"'),
        ("https://x.test/a b", b'"claim:https://x.test/a b"'),
        ('a"b\\c', b'"claim:a%22b%5Cc"'),
        ("größe%", b'"claim:gr%C3%B6%C3%9Fe%25"'),
        ("a\r\nb", b'"claim:a%0D%0Ab"'),
    ],
)
def test_names_are_strings_of_structured_fields(claim: str, text: bytes) -> None:
    """RFC 9651 section 3.3.3: printable ASCII; the rest is percent-encoded."""
    assert name(compile_limits([RateLimit(requests=1, by=f"claim:{claim}")])[0]) == text


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), st.integers(0, 10**9), st.floats(0, 10**9))
def test_no_name_breaks_out_of_its_string(claim: str, left: int, wait: float) -> None:
    limits = compile_limits([RateLimit(requests=1, by=f"claim:{claim}")])
    item = rb'"[ !#-\[\]-~]*"'
    assert re.fullmatch(item + rb";q=1;w=1", policy_field(limits)[1])
    assert re.fullmatch(item + rb";r=\d+;t=\d+", limit_field(limits, [Level(True, left, wait)])[1])
