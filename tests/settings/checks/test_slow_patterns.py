"""Which regular expressions some text can make slow, found without running them."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.settings.checks.slow_patterns import MAX_POSITIONS, sample, slow_problem

# fmt: off
EXPONENTIAL = [
    # nested repetitions
    "/(a+)+", "/(a*)*", "/(a+)*b", "/([a-zA-Z]+)*", "/(.+)*x", "/(.*)*", "/((a+b?)+c)*", "/(a{1,50}){1,50}",
    "/(a{9,}?)+?",
    # that what stands between may be left out
    "/([a-z]+-?)+", r"/(\w+\s?)*", "/([^/]+/?)+", "/(a*b*)*", "/(a?b?)*", "/([a-z]+[.-]?)+@",
    # alternatives that overlap
    "/(a|a)*b", "/(a|aa)+", r"/(\d+|[0-9a-f]+)*", r"/(\w|[a-z]b?)+!", "/(ab|a|b)*c", "/([a-c]|[b-d]c?)*",
    # a separator that is also content
    "/(.*/)*x", "/(.*,)*.", r"/(([a-z])+.)+[A-Z]([a-z])+",
    # repetitions behind each other in a repetition
    "/(x+x+)+y", "/(a*a*b)*",
    # in a look-around, in other flags, behind a possessive part
    "/(?=(a+)+$).*", "/(?!(a+)+b)a*", "(?i)/(A+a*)+", "(?s)/(.+)+", "/[a-z]++/(a+)+",
]
SOUND = [
    "/.*", "/orders/[0-9]+", "/[^/]+/items", "(/[^/]+)*", "/(?:[^/]+/)+edit", r"/([a-z]+\.)+js", "/(a+b)+", "/(a|b)*",
    "/([a-z0-9]+(-[a-z0-9]+)*)", "/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "/(en|de)?/.*", r"/([^/]+/)*[^/]*\.css",
    "/(?:%[0-9A-F]{2}|[a-z])+", r"(/[\w-]+){1,3}", "/(a+){2}", "/(?:[a-z]{1,3}-?){1,3}",
    "/v[0-9]+/(users|orders)/[^/]+", r"/(\w|[a-z])+!", "/(|a|)+b",
    "/(cat|dog|cow)+", "/((ab)+c)*", "/(?i:x)+", "", "/(a{0})*", "/()*x", "/(^a$)*",
    # as the sentence advises
    "/([a-z]++-?)+", "/(?>[a-z]+)-?", "/(?:(?>[a-z]+)-?)+x", "/(?:a*+b*+c)+",
]
CHAINS = ["/.*a.*a.*b", "/.*/.*/.*/x", r"/\w*\d*\w*x", "/[^x]*-[^y]*-[^z]*-!"]
NO_CHAINS = ["/.*/items/.*", "/.*a.*b", "/.*/.*/.*", "/[^/]*/[^/]*/[^/]*/x", "/a*b*c*d*e*", "/[a-z]+/.*/x"]
# fmt: on


@pytest.mark.parametrize("pattern", EXPONENTIAL)
@pytest.mark.rule("R408")
def test_a_pattern_with_two_ways_round_for_one_text_is_found(pattern: str) -> None:
    """CWE-1333."""
    assert slow_problem(pattern).startswith("can be made to backtrack exponentially")


@pytest.mark.parametrize("pattern", CHAINS)
@pytest.mark.rule("R408")
def test_three_repetitions_that_can_hold_the_same_text_are_found(pattern: str) -> None:
    """The work grows with the third power of the path's length."""
    assert slow_problem(pattern).startswith("has three or more repetitions")


@pytest.mark.parametrize("pattern", [*SOUND, *NO_CHAINS])
@pytest.mark.rule("R408")
def test_a_pattern_with_one_way_for_each_text_is_not(pattern: str) -> None:
    """Repetitions that differ, or that take the rest, are fine, also within each other."""
    assert slow_problem(pattern) == ""


@pytest.mark.parametrize("pattern", ["/" + "a" * (MAX_POSITIONS + 1), r"/(a)(?:\1)+", "/(" * 90 + ")" * 90])
@pytest.mark.rule("R408")
def test_what_cannot_be_judged_gives_no_warning(pattern: str) -> None:
    """Stated in docs/operations.md."""
    assert slow_problem(pattern) == ""


@pytest.mark.parametrize(
    "pattern",
    ["/orders/[0-9]+", "/(a|b)/.{3}", r"/\w+@\d+", "(?i)/[A-Z]+", "/[^a-z]+x?", "/(?:x{2,})?y", "(?=/)/.", "/é|/中"],
)
@pytest.mark.rule("R403")
def test_a_sample_is_a_path_of_the_pattern(pattern: str) -> None:
    """By it a pattern is compared with the routes behind."""
    text = sample(pattern)
    assert text is not None
    assert re.fullmatch(pattern, text)


@pytest.mark.parametrize("pattern", ["/(?=a)b", r"/(a)\1", "/[^\\s\\S]", "/a(?<!a)"])
def test_there_may_be_no_sample(pattern: str) -> None:
    assert sample(pattern) is None


@given(st.text("ab|*+?(){}[]^.\\d1,-", max_size=14))
def test_every_pattern_that_compiles_is_judged_at_once(pattern: str) -> None:
    try:
        re.compile(pattern)
    except (re.error, OverflowError, FutureWarning):
        return
    assert isinstance(slow_problem(pattern), str)
    found = sample(pattern) if not slow_problem(pattern) else None
    assert found is None or re.fullmatch(pattern, found)


def test_many_ways_of_nothing_stay_cheap() -> None:
    """The operator's own patterns cost neither time nor memory."""
    assert slow_problem("/" + "(|)" * 100) == ""
    assert slow_problem("/(" + "(|)" * 100 + "a)*").startswith("can be made")
