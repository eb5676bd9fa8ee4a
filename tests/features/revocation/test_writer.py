"""Revoking: where an entry goes, until when it holds, and what is said when it goes nowhere."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from typing import Any

import pytest

from gateway.clock import SystemClock
from gateway.features.revocation.options import Revocation as Table
from gateway.features.revocation.writer import RevocationWriter, default_expires, line, shown_end
from gateway.jwt.revocations.entry import RevocationEntry, parse_revocation
from gateway.jwt.revocations.table import EntryKind
from gateway.settings.tables.redis import Redis
from gateway.store.answers import StoreUnavailableError
from tests.support.clock import FakeClock
from tests.support.composed import Issuer, Settings
from tests.support.stores.redis import RedisServer

NOW = 1_800_000_000.0


def settings(*lives: float, **tables: Any) -> Settings:
    issuers = [
        Issuer(name=f"i{n}", issuer=f"https://{n}.test", audience=["api"], max_lifetime_seconds=life)
        for n, life in enumerate(lives)
    ]
    return Settings.model_construct(
        **{"issuers": issuers, "redis": Redis(), "revocation": Table(), **tables},
    )


@pytest.mark.parametrize(
    ("lives", "wanted"), [((60.0, 3600.0), NOW + 3660), ((60.0, 0.0), None), ((), None), ((86400.0,), NOW + 86460)]
)
@pytest.mark.rule("R129")
def test_without_an_end_an_entry_outlives_every_token(lives: tuple[float, ...], wanted: float | None) -> None:
    """The longest lifetime, and the leeway at either end."""
    assert default_expires(settings(*lives), NOW) == wanted


def test_what_would_have_no_effect_is_refused() -> None:
    writer = RevocationWriter(settings(60.0), FakeClock(NOW))
    assert writer.read('{"jti": "a"}').expires == NOW + 120
    assert writer.read('{"jti": "a", "expires": "never"}').expires == math.inf
    with pytest.raises(ValueError, match="has expires in the past"):
        writer.read(json.dumps({"jti": "a", "expires": NOW}))
    with pytest.raises(ValueError, match="must have expires"):
        RevocationWriter(settings(), FakeClock(NOW)).read('{"jti": "a"}')


@pytest.mark.parametrize("issuer", ["", "i"])
@pytest.mark.parametrize(
    "kind", [EntryKind.TOKEN, EntryKind.SESSION, EntryKind.SUBJECT, EntryKind.SUBJECT_BEFORE, EntryKind.ISSUER_BEFORE]
)
@pytest.mark.parametrize("expires", [NOW, math.inf])
def test_a_line_means_what_it_was_made_of(kind: EntryKind, issuer: str, expires: float) -> None:
    if kind is not EntryKind.ISSUER_BEFORE and issuer:
        kind = EntryKind(kind + 1)
    before = 5.5 if kind >= EntryKind.SUBJECT_BEFORE else 0.0
    made = RevocationEntry(kind, 'a"é\n', "" if kind is EntryKind.ISSUER_BEFORE else issuer, before, expires)
    assert "\n" not in line(made)
    assert parse_revocation(line(made), None) == made


async def test_the_file_gets_it_where_there_is_no_redis(tmp_path: Path) -> None:
    file = tmp_path / "revoked.jsonl"
    writer = RevocationWriter(settings(60.0, revocation=Table(file=str(file))), FakeClock(NOW))
    assert writer.store == "file"
    await writer.write([writer.read('{"jti": "a"}'), writer.read('{"sid": "s"}')])
    await writer.write([writer.read('{"sub": "b", "before": 5}')])
    assert [json.loads(text) for text in file.read_text().splitlines()] == [
        {"jti": "a", "expires": NOW + 120},
        {"sid": "s", "expires": NOW + 120},
        {"sub": "b", "before": 5.0, "expires": NOW + 120},
    ]


@pytest.mark.rule("R131")
async def test_redis_gets_it_where_there_is_one(tmp_path: Path) -> None:
    """Nothing of it can be read there."""
    tables = {"revocation": Table(file=str(tmp_path / "unused"))}
    nasty = 'a:b\r\nDEL "x'
    async with RedisServer(tmp_path / "redis") as server:
        writer = RevocationWriter(settings(60.0, redis=Redis(url=server.url), **tables), SystemClock())
        assert writer.store == "redis"
        await writer.write([writer.read(json.dumps({"jti": nasty})), writer.read(json.dumps({"sub": "x" * 10240}))])
        many = [parse_revocation(json.dumps({"jti": str(number)}), time.time() + 60) for number in range(4500)]
        await writer.write(many)
        stored = server.run("ZRANGEBYSCORE", "gateway:{revocation}:log", "(0", "+inf")
        assert len(stored) == 4502
        assert {len(member) for member in stored} == {28}
        for key in server.run("KEYS", "*"):
            assert key.startswith(b"gateway:{revocation}:")
    assert not (tmp_path / "unused").exists()


async def test_a_redis_that_is_away_is_said(tmp_path: Path) -> None:
    writer = RevocationWriter(settings(60.0, redis=Redis(url="redis://127.0.0.1:1")), SystemClock())
    with pytest.raises(StoreUnavailableError):
        await writer.write([writer.read('{"jti": "a"}')])


def test_an_end_is_shown_to_people() -> None:
    assert shown_end(RevocationEntry(EntryKind.TOKEN, "a", "", 0, NOW)) == "until 2027-01-15T08:00:00Z"
    assert shown_end(RevocationEntry(EntryKind.TOKEN, "a", "", 0, math.inf)) == "indefinitely"
