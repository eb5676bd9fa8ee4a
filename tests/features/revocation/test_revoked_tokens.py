"""R128-R132, C79: what is revoked is refused, from memory, by claims, and only for as long as it must be."""

from __future__ import annotations

import base64
import contextlib
import json
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from gateway.errors import Reasons
from gateway.features.revocation.file_source import FILE_LOOK_SECONDS, FileRevocations
from gateway.features.revocation.options import Revocation
from gateway.features.revocation.writer import RevocationWriter
from gateway.identity import Identity
from gateway.jwt.authenticator import Authenticator, Examined
from gateway.jwt.revocations.revocations import Revocations
from gateway.jwt.revocations.table import Mark
from tests.support.clock import FakeClock, eventually, settle
from tests.support.composed import Tokens
from tests.support.gateways.authenticating import Rig, rig
from tests.support.issuers.identity_provider import gateway_settings, issuer_settings
from tests.support.tokens.minting import ABSENT, SigningKey, jwks

ES: dict[str, Any] = {"algorithms": ["ES256"]}
A = SigningKey.ec("a")
P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


class RevocableRig(Rig):
    """A rig whose file of revocations is a test's."""

    file: Path
    source: FileRevocations
    writer: RevocationWriter

    async def revoke(self, *entries: dict[str, Any]) -> None:
        """Let the file hold just these, and wait until it is in force."""
        self.file.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
        await self.taken()

    async def taken(self) -> None:
        """Let less than a second pass, in which the file is read."""
        before = self.authenticator.revocations.generation
        for _ in range(2):
            await self.clock.advance(FILE_LOOK_SECONDS)
        await eventually(lambda: self.authenticator.revocations.generation is not before)
        await settle()


@contextlib.asynccontextmanager
async def revocable(tmp_path: Path, cache_size: int = 10000, **issuer: Any) -> AsyncIterator[RevocableRig]:
    keys, file = tmp_path / "jwks.json", tmp_path / "revoked.jsonl"
    keys.write_bytes(jwks(A))
    file.touch()
    options = issuer_settings(jwks_file=str(keys), jwks_refresh_seconds=86400, **ES, **issuer)
    clock = FakeClock()
    async with rig(options, clock=clock) as plain:
        source = FileRevocations(str(file), clock, 60)
        revocations = Revocations([source], clock)
        await revocations.start()
        tables = {"file": str(file)}
        settings = gateway_settings(options, tokens=Tokens(cache_size=cache_size)).model_copy(
            update={"revocation": Revocation.model_validate(tables)}
        )
        made = RevocableRig(Authenticator(settings, plain.issuers, clock, revocations), clock, plain.issuers)
        made.file, made.source, made.writer = file, source, RevocationWriter(settings, clock)
        try:
            yield made
        finally:
            await revocations.stop()


@pytest.mark.parametrize("cache_size", [10000, 0])
@pytest.mark.parametrize(
    "entry",
    [
        {"jti": "one"},
        {"jti": "one", "issuer": "https://idp.test/"},
        {"sub": "alice"},
        {"sid": "s1"},
        {"sub": "alice", "before": 4_000_000_000},
        {"issuer": "https://idp.test/", "before": 4_000_000_000},
    ],
)
@pytest.mark.rule("C79", "R128")
async def test_a_warm_token_that_is_revoked_is_refused(entry: dict[str, Any], cache_size: int, tmp_path: Path) -> None:
    """With the next request, however often it was let in; and good again when the entry goes."""
    async with revocable(tmp_path, cache_size) as made:
        token = made.mint(A, jti="one", sid="s1")
        other = made.mint(A, jti="two", sid="s2", sub="bob", iss="https://idp.test/", iat=int(made.clock.wall()) + 20)
        assert [await made.reason(token) for _ in range(100)] == [None] * 100
        assert await made.reason(other) is None
        await made.revoke(entry)
        assert [await made.reason(token) for _ in range(3)] == [Reasons.REVOKED] * 3
        assert (await made.reason(other) is None) is ("before" not in entry or "sub" in entry)
        await made.revoke()
        assert await made.reason(token) is None


@pytest.mark.rule("R128")
async def test_a_revoked_token_costs_no_second_verification(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is known to be signed; asking for it is a look-up."""
    async with revocable(tmp_path) as made:
        await made.revoke({"jti": "one"})
        token = made.mint(A, jti="one")
        assert await made.reason(token) is Reasons.REVOKED
        assert len(made.authenticator.cache) == 1
        examined: list[bytes] = []

        def examine(token: bytes, digest: bytes) -> Examined:
            examined.append(token)
            raise AssertionError

        monkeypatch.setattr(made.authenticator, "examine", examine)
        assert await made.reason(token) is Reasons.REVOKED
        assert examined == []


@pytest.mark.rule("C79", "R026")
async def test_no_spelling_and_no_twin_of_a_revoked_token_gets_in(tmp_path: Path) -> None:
    """Never by the hash of a token alone."""
    async with revocable(tmp_path) as made:
        token = made.mint(A, jti="one")
        head, _, signature = token.rpartition(b".")
        raw = base64.urlsafe_b64decode(signature + b"==")
        other = (P256_ORDER - int.from_bytes(raw[32:], "big")).to_bytes(32, "big")
        twin = head + b"." + base64.urlsafe_b64encode(raw[:32] + other).rstrip(b"=")
        assert await made.reason(token) is await made.reason(twin) is None
        await made.revoke({"jti": "one"})
        assert await made.reason(token) is await made.reason(twin) is Reasons.REVOKED
        for spelling in (token + b"=", token + b"==", token + b"\n", token[:-1] + bytes([token[-1] + 1])):
            assert await made.reason(spelling) is not None


@pytest.mark.rule("C79")
async def test_a_token_without_an_id_is_revoked_by_its_subject(tmp_path: Path) -> None:
    """And one whose id is no text by that only, too."""
    async with revocable(tmp_path) as made:
        await made.revoke({"jti": "5"}, {"sub": "bob"})
        assert await made.reason(made.mint(A, jti=5)) is None
        assert await made.reason(made.mint(A, jti=ABSENT, sub="bob")) is Reasons.REVOKED


@pytest.mark.rule("R132")
async def test_everything_of_a_subject_before_a_moment(tmp_path: Path) -> None:
    """Logged out everywhere; who logs in again afterwards is welcome."""
    async with revocable(tmp_path) as made:
        moment = int(made.clock.wall())
        old, same, new = (made.mint(A, iat=moment + later) for later in (-1, 0, 20))
        undated = made.mint(A, iat=ABSENT)
        stranger = made.mint(A, sub="bob", iat=moment - 1)
        await made.revoke({"sub": "alice", "before": moment})
        assert await made.reason(old) is Reasons.REVOKED
        assert await made.reason(undated) is Reasons.REVOKED, "nobody can say that it was issued later"
        assert [await made.reason(token) for token in (same, new, stranger)] == [None] * 3


@pytest.mark.rule("R129")
async def test_an_entry_lives_as_long_as_the_tokens_that_it_is_about(tmp_path: Path) -> None:
    """Without an end of its own it outlives any token; then it goes."""
    async with revocable(tmp_path, max_lifetime_seconds=3600, leeway_seconds=30) as made:
        token = made.mint(A, jti="one", exp=int(made.clock.wall()) + 3600)
        assert await made.reason(token) is None
        await made.writer.write([made.writer.read('{"jti": "one"}')])
        await made.taken()
        await made.clock.advance(59 * 60)
        assert await made.reason(token) is Reasons.REVOKED
        await made.clock.advance(60 + 29)
        assert await made.reason(token) is Reasons.REVOKED, "still within the leeway"
        await made.clock.advance(5)
        assert await made.reason(token) is Reasons.EXPIRED
        assert len(made.source.table) == 1
        await made.clock.advance(120)
        assert len(made.source.table) == 0


@pytest.mark.rule("R128")
async def test_a_quiet_set_is_asked_once_for_each_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hit costs one comparison; only a change makes it ask again."""
    async with revocable(tmp_path) as made:
        asked: list[str | None] = []
        look = made.authenticator.revocations.look

        def counted(who: Identity, marks: Sequence[Mark]) -> tuple[bool, Sequence[Mark]]:
            asked.append(who.token_id)
            return look(who, marks)

        monkeypatch.setattr(made.authenticator.revocations, "look", counted)
        token = made.mint(A, jti="one")
        for _ in range(10):
            assert await made.reason(token) is None
        assert asked == ["one"]
        made.authenticator.revocations.generation = object()
        for _ in range(10):
            assert await made.reason(token) is None
        assert asked == ["one", "one"]


@pytest.mark.rule("R128")
async def test_what_runs_for_long_is_told(tmp_path: Path) -> None:
    """A held verdict ends with the revocation."""
    async with revocable(tmp_path) as made:
        token = made.mint(A, jti="one")
        await made.ask(token)
        held = made.authenticator.hold(token)
        assert made.authenticator.still_good(held) is None
        await made.revoke({"jti": "one"})
        assert made.authenticator.still_good(held) is Reasons.REVOKED
