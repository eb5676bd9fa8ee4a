"""What a worker leaves, and what becomes of it at another one; real processes do so in test_workers_store."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from gateway.clock import SystemClock
from gateway.features.revocation.file_source import FileRevocations
from gateway.features.revocation.redis_source import RedisRevocations
from gateway.jwt import inheritance
from gateway.jwt.inheritance import Estate, take_over
from gateway.jwt.issuers.refresher import IssuerKeys
from gateway.jwt.issuers.registry import build_issuers, build_tenants
from gateway.jwt.issuers.tenants import Tenants
from gateway.jwt.revocations.revocations import Revocations
from gateway.jwt.revocations.source import Inheritance
from gateway.jwt.revocations.table import EntryKind
from gateway.settings.tables.redis import Redis
from gateway.store.redis_link import RedisLink
from tests.support.composed import Settings
from tests.support.gateways.revoking import caller, revoked
from tests.support.gateways.running import configuration
from tests.support.issuers.identity_provider import FakeIdp
from tests.support.tokens.minting import SigningKey

KEY = SigningKey.ec("a")


class Worker:
    """The parts of a worker that have something to leave."""

    def __init__(self, idp: FakeIdp, folder: Path) -> None:
        remote = {"jwks_file": "", "jwks_url": idp.jwks_url, "algorithms": ["ES256"], "allow_http": True}
        made = configuration("http://127.0.0.1:1", folder / "jwks.json", issuer=remote)
        many = {"name": "many", "issuer": "https://{tenant}.test/", "audience": ["api"], "tenants": ["a", "b"]}
        made["issuers"].append({**many, **remote, "jwks_url": f"{idp.jwks_url}?{{tenant}}"})
        self.settings = Settings.model_validate(made)
        self.issuers = build_issuers(self.settings, SystemClock())
        self.tenants = build_tenants(self.settings, SystemClock())
        self.keys: dict[str, IssuerKeys | Tenants] = {**self.issuers, **self.tenants}
        self._link = RedisLink(Redis(url="redis://127.0.0.1:1"), SystemClock())
        self.source = RedisRevocations(self._link, SystemClock())
        self.file = FileRevocations(str(folder / "revoked"), SystemClock(), 60)
        self.revocations = Revocations([self.file, self.source], SystemClock())

    async def __aenter__(self) -> Worker:
        return self

    async def __aexit__(self, *_: object) -> None:
        for each in self.keys.values():
            await each.stop()
        await self.revocations.stop()
        await self._link.stop()

    def has_read(self, count: int, looked_at: float) -> None:
        """Have it know so many revocations, which it read from Redis at that moment."""
        expires = time.time() + 3600
        records = b"".join(revoked(EntryKind.TOKEN, str(number), expires=expires) for number in range(count))
        self.source.inherit(Inheritance(looked_at, f"0123456789abcdef {count}", [records]))

    def estate(self) -> dict[str, Any]:
        """Return all that it leaves, as it comes out of the channel."""
        estate = Estate(self.keys, self.revocations)
        left = estate.open()
        while piece := estate.more():
            left["records"].append(piece)
        found: dict[str, Any] = json.loads(json.dumps(left))
        return found


@pytest.mark.rule("R442")
async def test_keys_and_revocations_are_left_with_their_age(tmp_path: Path) -> None:
    """The heir asks no server, believes them no longer than the other one, and passes them on."""
    async with FakeIdp() as idp, Worker(idp, tmp_path) as one, Worker(idp, tmp_path) as heir:
        idp.publish(KEY)
        one.issuers["main"].start()
        await one.issuers["main"].wait_until_loaded()
        tenant = one.tenants["many"].admit("a")
        await tenant.wait_until_loaded()
        one.has_read(10_000, began := time.monotonic() - 5)
        asked = idp.key_fetches()
        await take_over(one.estate(), heir.keys, heir.revocations)
        main = heir.issuers["main"]
        main.start()
        assert (main.usable(), main.keys.kids, main.stale_at) == (None, ("a",), one.issuers["main"].stale_at)
        inherited = heir.tenants["many"].get("a")
        assert inherited is not None
        assert (inherited.usable(), inherited.stale_at) == (None, tenant.stale_at)
        assert heir.tenants["many"].get("b") is None
        assert idp.key_fetches() == asked
        assert (heir.source.filled, heir.source.known) == (True, False)
        assert (heir.source.bequeath().looked_at, heir.source.place) == (began, "0123456789abcdef 10000")
        assert heir.revocations.covers(caller(token="9999"))
        assert not heir.file.filled, "it was never read"
        left, again = one.estate(), heir.estate()
        assert [(each["document"], each["good_at"]) for each in again["keys"]] == [
            (each["document"], each["good_at"]) for each in left["keys"]
        ]
        assert len(b"".join(map(_bytes, again["records"]))) == len(b"".join(map(_bytes, left["records"])))


def _bytes(piece: list[str]) -> bytes:
    return piece[1].encode()


async def test_nothing_is_left_by_a_worker_that_knows_nothing(tmp_path: Path) -> None:
    async with FakeIdp() as idp, Worker(idp, tmp_path) as one, Worker(idp, tmp_path) as heir:
        assert one.estate() == {"keys": [], "sources": {}, "records": []}
        for left in (None, one.estate()):
            await take_over(left, heir.keys, heir.revocations)
        assert heir.issuers["main"].usable() is not None
        assert not heir.revocations.complete


@pytest.mark.rule("R442")
async def test_key_sets_are_left_up_to_a_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The heir fetches the others itself."""
    monkeypatch.setattr(inheritance, "MAX_KEY_BYTES", 10)
    async with FakeIdp() as idp, Worker(idp, tmp_path) as one:
        idp.publish(KEY)
        one.issuers["main"].start()
        await one.issuers["main"].wait_until_loaded()
        assert one.estate()["keys"] == []


@pytest.mark.parametrize("fits", [True, False])
@pytest.mark.rule("R438", "R442")
async def test_a_list_of_revocations_is_left_whole_or_not_at_all(
    fits: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An heir reads on behind what it inherits, and would never read what is missing from that."""
    monkeypatch.setattr(inheritance, "MAX_RECORD_BYTES", 28 * (5000 if fits else 4999))
    monkeypatch.setattr(inheritance, "PIECE_BYTES", 28 * 100)
    async with FakeIdp() as idp, Worker(idp, tmp_path) as one, Worker(idp, tmp_path) as heir:
        one.has_read(5000, time.monotonic())
        await take_over(one.estate(), heir.keys, heir.revocations)
        assert heir.source.filled is fits
        assert len(heir.source.table) == (5000 if fits else 0)
        assert heir.source.place == ("0123456789abcdef 5000" if fits else "")


@pytest.mark.rule("R442")
async def test_a_file_that_is_there_counts_and_not_what_was_left(tmp_path: Path) -> None:
    """Entries that were removed from it meanwhile are in force no longer; without it the others are."""
    async with FakeIdp() as idp, Worker(idp, tmp_path) as one, Worker(idp, tmp_path) as heir:
        (tmp_path / "revoked").write_text('{"jti": "a"}\n')
        await one.file.start()
        left = one.estate()
        (tmp_path / "revoked").unlink()
        await take_over(left, heir.keys, heir.revocations)
        await heir.file.start()
        assert (heir.file.known, heir.revocations.covers(caller(token="a"))) == (True, True)
        async with Worker(idp, tmp_path) as third:
            (tmp_path / "revoked").write_text('{"jti": "b"}\n')
            await take_over(left, third.keys, third.revocations)
            await third.file.start()
            assert [third.revocations.covers(caller(token=name)) for name in "ab"] == [False, True]
