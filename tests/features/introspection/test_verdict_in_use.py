"""Verdicts that long responses and WebSockets rest on."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

import pytest

from gateway.errors import Reasons
from gateway.features.introspection.choice import introspection_policy
from gateway.features.introspection.reasons import INACTIVE_TOKEN, INTROSPECTION_FAILED
from gateway.features.introspection.verdict_cache import Verdict, VerdictMemory
from gateway.features.introspection.verdict_in_use import GRACE_SECONDS, HeldVerdict
from gateway.identity import Identity
from gateway.jwt.claims.issuer_policy import IssuerPolicy
from tests.support.clock import FakeClock
from tests.support.issuers.identity_provider import gateway_settings, issuer_settings

ALICE = Identity("as", "https://as.test/", "alice", ("a",), {}, b"", 1_800_001_000.0, 0.0, None, "opaque")


def _policy() -> IssuerPolicy:
    issuer = issuer_settings(leeway_seconds=0)
    return introspection_policy(issuer, gateway_settings(issuer))


@dataclass
class Asker:
    """Who is asked: notes it, and answers when the test says so."""

    clock: FakeClock = field(default_factory=FakeClock)
    policy: IssuerPolicy = field(default_factory=_policy)
    busy: bool = False
    asked: int = 0

    def __post_init__(self) -> None:
        self.memory = VerdictMemory(10, 0, self.clock)
        self.answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    def ask_again(self, token: bytes, digest: bytes) -> Any:
        assert (token, digest) == (b"t", b"d")
        if self.busy:
            return None
        self.asked += 1
        self.answer = asyncio.get_running_loop().create_future()
        return self.answer

    def verdict(self, identity: Identity | None = ALICE, seconds: float = 30) -> Verdict:
        reason = None if identity else INACTIVE_TOKEN
        return Verdict(identity, reason, "", self.clock.monotonic() + seconds)

    def held(self) -> HeldVerdict:
        return HeldVerdict(self, b"t", b"d", self.verdict(), ALICE)


async def test_fresh_verdict_is_not_asked_about() -> None:
    asker = Asker()
    held = asker.held()
    asker.clock.jump(29)
    assert (held.ended(), asker.asked) == (None, 0)


@pytest.mark.rule("R322", "R123")
async def test_old_verdict_is_asked_about_once_and_goes_on_meanwhile() -> None:
    asker = Asker()
    held = asker.held()
    asker.clock.jump(30)
    assert [held.ended() for _ in range(3)] == [None] * 3
    assert asker.asked == 1
    asker.answer.set_result(asker.verdict())
    assert held.ended() is None
    asker.clock.jump(30)
    assert (held.ended(), asker.asked) == (None, 2)
    asker.answer.set_result(asker.verdict(None, 0))
    assert held.ended() is INACTIVE_TOKEN


async def test_what_others_learn_counts() -> None:
    """A verdict that a request got is this one's, too; an older one is not."""
    asker = Asker()
    held = asker.held()
    asker.memory.put(b"d", asker.verdict(seconds=20))
    asker.clock.jump(25)
    assert (held.ended(), asker.asked) == (None, 0)
    asker.memory.put(b"d", asker.verdict())
    asker.clock.jump(25)
    assert (held.ended(), asker.asked) == (None, 0)
    asker.clock.jump(6)
    asker.memory.put(b"d", asker.verdict(None, 5))
    assert held.ended() is INACTIVE_TOKEN


async def test_other_rights_end_it() -> None:
    for changed in (ALICE._replace(scopes=()), ALICE._replace(subject="bob"), ALICE._replace(claims={"role": "x"})):
        asker = Asker()
        held = asker.held()
        asker.memory.put(b"d", asker.verdict(changed, 40))
        assert held.ended() is INACTIVE_TOKEN


async def test_token_ends_by_the_clock() -> None:
    asker = Asker()
    held = asker.held()
    asker.clock.step_wall(1001)
    assert (held.ended(), asker.asked) == (Reasons.EXPIRED, 0)


@pytest.mark.rule("R113", "R322")
async def test_without_an_answer_it_ends_after_a_while() -> None:
    """Failed, cancelled or not even asked."""
    asker = Asker()
    held = asker.held()
    asker.clock.jump(30)
    assert held.ended() is None
    asker.answer.set_result(None)
    assert held.ended() is None
    asker.answer.cancel()
    asker.busy = True
    assert held.ended() is None
    asker.clock.jump(GRACE_SECONDS)
    assert held.ended() is None
    asker.clock.jump(1)
    assert held.ended() is INTROSPECTION_FAILED
    assert asker.asked == 2
