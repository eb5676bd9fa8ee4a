"""``gateway/jwt/batch.py``: what becomes of the new tokens of one turn."""

from __future__ import annotations

import asyncio
import contextlib
from hashlib import sha256
from typing import Any

import pytest

from gateway.errors import GatewayError, Reasons
from gateway.identity import Identity
from gateway.jwt.authenticator import Authenticator, Examined
from gateway.jwt.batch import MAX_VERIFICATIONS_PER_TURN, TokenOutcome, VerificationBatch
from gateway.tasks import failures
from tests.support.gateways.authenticating import Rig, rig, rig_with_idp
from tests.support.issuers.identity_provider import FakeIdp, issuer_settings
from tests.support.tokens.minting import SigningKey

A, B = SigningKey.ec("a"), SigningKey.ec("b")
ES: dict[str, Any] = {"algorithms": ["ES256"]}


class Batch:
    """A batch, and what it reported of each token in the order in which it did."""

    def __init__(self, made: Rig) -> None:
        self.batch = VerificationBatch(made.authenticator)
        self.outcomes: list[tuple[str, TokenOutcome]] = []

    def add(self, name: str, token: bytes) -> None:
        self.batch.add(token, sha256(token).digest(), lambda outcome: self.outcomes.append((name, outcome)))

    async def turn(self) -> dict[str, object]:
        """Let one turn of the loop pass; return each new outcome: a subject, a refusal's reason, or None."""
        before = len(self.outcomes)
        await asyncio.sleep(0)
        return {name: shown(outcome) for name, outcome in self.outcomes[before:]}


def shown(outcome: TokenOutcome) -> object:
    if isinstance(outcome, Identity):
        return outcome.subject
    return outcome if outcome is None else outcome.reason


def forged(token: bytes) -> bytes:
    return token[:-8] + b"AAAAAAAA"


async def test_each_token_of_a_turn_gets_its_own_outcome_at_the_turns_end() -> None:
    """In the order in which they came, whatever becomes of the others; the good ones are remembered."""
    async with rig_with_idp(A, **ES) as (made, _):
        batch = Batch(made)
        tokens = [made.mint(A, sub="ann"), forged(made.mint(A)), made.mint(B), made.mint(A, sub="bob")]
        for name, token in zip("abcd", tokens, strict=True):
            batch.add(name, token)
        assert batch.outcomes == []
        assert await batch.turn() == {"a": "ann", "b": Reasons.BAD_SIGNATURE, "c": None, "d": "bob"}
        assert [name for name, _ in batch.outcomes] == list("abcd")
        remembered = [made.authenticator.recall(sha256(token).digest()) for token in tokens]
        assert [who and who.subject for who in remembered] == ["ann", None, None, "bob"]
        assert await batch.turn() == {}


@pytest.mark.rule("R193")
async def test_requests_with_one_new_token_share_its_check(monkeypatch: pytest.MonkeyPatch) -> None:
    checked: list[Examined] = []
    whole = Authenticator.key_that_signed

    def noting(self: Authenticator, examined: Examined) -> object:
        checked.append(examined)
        return whole(self, examined)

    monkeypatch.setattr(Authenticator, "key_that_signed", noting)
    async with rig_with_idp(A, **ES) as (made, _):
        batch, token = Batch(made), made.mint(A)
        for name in "abc":
            batch.add(name, token)
        assert await batch.turn() == dict.fromkeys("abc", "alice")
        assert len(checked) == 1
        assert len({id(outcome) for _, outcome in batch.outcomes}) == 1


@pytest.mark.rule("R163")
async def test_what_is_wrong_apart_from_the_signature_is_said_at_once() -> None:
    async with rig_with_idp(A, **ES) as (made, _):
        batch = Batch(made)
        for token, reason in ((made.mint(A, exp=1), Reasons.EXPIRED), (b"junk", Reasons.NOT_A_JWS)):
            with pytest.raises(GatewayError) as caught:
                batch.add("a", token)
            assert caught.value.reason is reason
        assert await batch.turn() == {}


@pytest.mark.rule("R113")
async def test_keys_that_were_never_loaded_have_to_be_waited_for() -> None:
    async with FakeIdp() as idp, rig(issuer_settings(jwks_url=idp.jwks_url, **ES)) as made:
        batch = Batch(made)
        batch.add("a", made.mint(A))
        assert await batch.turn() == {"a": None}


@pytest.mark.rule("R346")
async def test_unsafe_claim_is_found_when_the_signature_is_good() -> None:
    """And only then."""
    async with rig_with_idp(A, **ES) as (made, _):
        batch = Batch(made)
        batch.add("a", made.mint(A, sub="a\nb"))
        batch.add("b", forged(made.mint(A, sub="a\nb")))
        assert await batch.turn() == {"a": Reasons.UNSAFE_CLAIM, "b": Reasons.BAD_SIGNATURE}


@pytest.mark.parametrize("step", ["examine", "key_that_signed", "remember"])
@pytest.mark.rule("R094")
async def test_unforeseen_fault_refuses_that_token_and_no_other(step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever breaks on foreign input is a refusal."""
    whole = getattr(Authenticator, step)

    def breaking(self: Authenticator, subject: Any, *others: Any) -> object:
        examined = subject if isinstance(subject, Examined) else None
        if broken in (subject, examined and examined.digest):
            raise ZeroDivisionError
        return whole(self, subject, *others)

    monkeypatch.setattr(Authenticator, step, breaking)
    async with rig_with_idp(A, **ES) as (made, _):
        batch, token = Batch(made), made.mint(A, sub="bad")
        broken = token if step == "examine" else sha256(token).digest()
        batch.add("a", made.mint(A))
        with contextlib.nullcontext() if step != "examine" else pytest.raises(GatewayError) as caught:
            batch.add("b", token)
        batch.add("c", made.mint(A, sub="carol"))
        outcomes = await batch.turn()
        bad = caught.value.reason if caught is not None else outcomes.pop("b")
        assert bad is Reasons.VERIFICATION_FAILED
        assert outcomes == {"a": "alice", "c": "carol"}


async def test_burst_of_new_tokens_lets_the_loop_turn_in_between() -> None:
    """No more than ``MAX_VERIFICATIONS_PER_TURN`` are verified before whatever else is ready has its turn."""
    async with rig_with_idp(A, **ES) as (made, _):
        batch = Batch(made)
        tokens = [made.mint(A, sub=str(number)) for number in range(2 * MAX_VERIFICATIONS_PER_TURN + 1)]
        for number, token in enumerate(tokens):
            batch.add(str(number), token)
        turns = [await batch.turn() for _ in range(4)]
        assert [len(turn) for turn in turns] == [MAX_VERIFICATIONS_PER_TURN, MAX_VERIFICATIONS_PER_TURN, 1, 0]
        assert [name for name, _ in batch.outcomes] == [str(number) for number in range(len(tokens))]


@pytest.mark.rule("R096")
async def test_bound_tokens_are_for_somebody_who_asks_for_the_proof() -> None:
    """New and known, alone and beside others; never an identity."""
    async with rig_with_idp(A, **ES) as (made, _):
        batch = Batch(made)
        bound = made.mint(A, cnf={"jkt": "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"})
        batch.add("new", bound)
        batch.add("plain", made.mint(A, sub="ann"))
        batch.add("shared", bound)
        assert await batch.turn() == {"new": None, "shared": None, "plain": "ann"}
        batch.add("known", bound)
        assert len(batch.outcomes) == 3
        assert await batch.turn() == {"known": None}


@pytest.mark.rule("R406")
async def test_a_request_that_fails_on_hearing_does_not_keep_the_others_from_it() -> None:
    """They would wait for good."""
    before = failures["new tokens"]
    async with rig_with_idp(A, **ES) as (made, _):
        batch = Batch(made)
        token = made.mint(A, sub="ann")
        batch.batch.add(token, sha256(token).digest(), lambda outcome: 1 / 0)  # type: ignore[arg-type]
        batch.add("a", token)
        batch.add("b", made.mint(A, sub="bob"))
        assert await batch.turn() == {"a": "ann", "b": "bob"}
    assert failures["new tokens"] == before + 1
