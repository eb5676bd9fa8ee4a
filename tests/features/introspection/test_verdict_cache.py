"""Verdicts on opaque tokens: how long they hold, and how many are kept."""

from __future__ import annotations

import math

import pytest

from gateway.features.introspection.reasons import INACTIVE_TOKEN
from gateway.features.introspection.verdict_cache import Verdict, VerdictMemory
from gateway.identity import Identity
from tests.support.clock import FakeClock
from tests.support.issuers.introspection import ISSUER


def good(clock: FakeClock, seconds: float = 30, *, exp: float = math.inf, nbf: float = -math.inf) -> Verdict:
    made = Identity("as", ISSUER, "alice", (), {}, b"", exp, nbf, None, "opaque")
    return Verdict(made, None, "", clock.monotonic() + seconds)


def bad(clock: FakeClock, seconds: float = 5) -> Verdict:
    return Verdict(None, INACTIVE_TOKEN, "", clock.monotonic() + seconds)


@pytest.mark.rule("R123")
def test_verdicts_hold_for_their_time() -> None:
    clock = FakeClock()
    memory = VerdictMemory(10, 0, clock)
    fine, no = good(clock), bad(clock)
    memory.put(b"a", fine)
    memory.put(b"b", no)
    assert (memory.find(b"a"), memory.find(b"b"), memory.find(b"c")) == (fine, no, None)
    clock.jump(5)
    assert (memory.find(b"a"), memory.find(b"b")) == (fine, None)
    clock.jump(25)
    assert memory.find(b"a") is None
    assert (memory.hits, memory.bad_hits, len(memory)) == (2, 1, 1)
    assert (memory.was_good(b"a"), memory.was_good(b"b"), memory.last(b"a")) == (True, False, fine)


@pytest.mark.rule("R123", "R181")
def test_token_that_ends_ends_its_verdict() -> None:
    """exp and nbf with the leeway, by the wall clock."""
    clock = FakeClock()
    memory = VerdictMemory(10, 2, clock)
    memory.put(b"exp", good(clock, 1000, exp=clock.wall() + 3))
    memory.put(b"nbf", good(clock, 1000, nbf=clock.wall() + 3))
    assert (memory.find(b"exp") is None, memory.find(b"nbf") is None) == (False, True)
    clock.step_wall(4)
    assert (memory.find(b"exp") is None, memory.find(b"nbf") is None) == (False, False)
    clock.step_wall(1)
    assert memory.find(b"exp") is None


def test_later_verdict_replaces_the_earlier_one() -> None:
    clock = FakeClock()
    memory = VerdictMemory(10, 0, clock)
    memory.put(b"a", good(clock))
    memory.put(b"a", bad(clock))
    assert (memory.find(b"a"), memory.was_good(b"a"), memory.bytes_used) == (bad(clock), False, 0)
    memory.put(b"a", good(clock))
    assert memory.find(b"a") == memory.last(b"a") == good(clock)
    clock.jump(31)
    memory.put(b"b", bad(clock))
    assert memory.last(b"b") == bad(clock)


@pytest.mark.rule("R125")
def test_memory_is_bounded_by_number_and_bytes() -> None:
    """Bad tokens push out bad ones only; of good ones, the least recently used goes."""
    clock = FakeClock()
    memory = VerdictMemory(3, 0, clock)
    for name in (b"a", b"b", b"c"):
        memory.put(name, good(clock))
    for number in range(1000):
        memory.put(b"%d" % number, bad(clock))
    assert memory.find(b"a") is not None
    memory.put(b"d", good(clock))
    assert [memory.find(name) is not None for name in (b"a", b"b", b"c", b"d")] == [True, False, True, True]
    assert [memory.last(b"%d" % number) is not None for number in (0, 996, 997, 999)] == [False, False, True, True]
    assert (len(memory), memory.evictions) == (3, 1)
    large = good(clock)
    assert large.identity is not None
    huge = Verdict(large.identity._replace(lines=b"x" * (1 << 20)), None, "", large.fresh_until)
    memory.put(b"huge", huge)
    assert (memory.find(b"huge"), len(memory), memory.evictions) == (None, 3, 1)
    half = Verdict(large.identity._replace(lines=b"x" * (1 << 19)), None, "", large.fresh_until)
    for name in (b"e", b"f"):
        memory.put(name, half)
    assert [memory.find(name) is not None for name in (b"a", b"c", b"d", b"e", b"f")] == [*[False] * 4, True]
    assert memory.bytes_used < 1 << 20
