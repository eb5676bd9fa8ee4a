"""Nonces that need not be remembered."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.features.sender_constrained.nonces import Nonces
from tests.support.clock import FakeClock

SECRET = bytes(range(32))


@pytest.mark.rule("R138")
def test_a_nonce_outlives_two_changes_and_no_more() -> None:
    """It is good while its slice is the last one, this one or the next."""
    clock = FakeClock(1_800_000_000.0)
    nonces = Nonces(SECRET, 60, clock.wall)
    first = nonces.newest
    assert nonces.accepts(first)
    clock.jump(59)
    assert nonces.newest == first
    clock.jump(1)
    assert nonces.newest != first
    assert nonces.accepts(first)
    clock.jump(59)
    assert nonces.accepts(first)
    clock.jump(1)
    assert not nonces.accepts(first)
    clock.jump(-180)  # of a gateway whose clock is ahead
    assert nonces.accepts(first)
    clock.jump(-1)
    assert not nonces.accepts(first)


@pytest.mark.rule("R138")
def test_all_who_have_the_secret_agree_and_nobody_else_knows() -> None:
    """Workers, and gateways that share a file."""
    clock = FakeClock()
    one, same = Nonces(SECRET, 60, clock.wall), Nonces(SECRET, 60, clock.wall)
    assert one.newest == same.newest
    assert same.accepts(one.newest)
    assert not Nonces(SECRET[::-1], 60, clock.wall).accepts(one.newest)


@pytest.mark.parametrize("change", [lambda text: text[:-1], lambda text: text + "A", str.lower, lambda text: "\u00e9"])
def test_another_text_is_no_nonce(change: object) -> None:
    nonces = Nonces(SECRET, 60, FakeClock().wall)
    assert not nonces.accepts(change(nonces.newest))  # type: ignore[operator]


@given(st.text())
def test_any_text_is_judged(text: str) -> None:
    assert not Nonces(SECRET, 60, FakeClock().wall).accepts(text)


def test_a_nonce_can_stand_in_a_field() -> None:
    """RFC 9449 section 8.1: NQCHAR."""
    nonces = Nonces(SECRET, 1, FakeClock(-1.0).wall)
    assert nonces.newest.isascii()
    assert len(nonces.newest) == 32
